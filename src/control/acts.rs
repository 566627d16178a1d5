//! The acts that people ask for, as the audit log has them.

use std::collections::BTreeMap;

use super::{AdoptBody, Answer, Ended, PauseBody, Upshot};
use crate::audit::Outcome;
use crate::audit::record::{CERTIFICATES, Draft, Kind};
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::Demand;
use crate::revoke::Wanted;

/// In the record of an outcome. More are counted.
const NAMED: usize = 50;

pub fn pause(body: &PauseBody) -> Draft {
    let name = body.certificate.as_ref();
    match body.until {
        Some(until) => Draft::of(Kind::Pause, name).with("until", until),
        None => Draft::of(Kind::Resume, name),
    }
}

pub fn adopt(body: &AdoptBody) -> Draft {
    match &body.holds {
        Some(holds) => {
            let draft = Draft::of(Kind::Adopt, Some(&body.place)).with("names", holds.names.join(", "));
            draft.with("fingerprint", holds.fingerprint)
        }
        None => Draft::of(Kind::Forget, Some(&body.place)),
    }
}

pub fn renew(requested: &BTreeMap<CertName, Demand>) -> Draft {
    let demands: Vec<&str> = [Demand::IfDue, Demand::Force, Demand::OverTheCap]
        .into_iter()
        .filter(|demand| requested.values().any(|wanted| wanted == demand))
        .map(|demand| match demand {
            Demand::IfDue => "if_due",
            Demand::Force => "force",
            Demand::OverTheCap => "over_the_cap",
        })
        .collect();
    let mut names = requested.keys();
    let draft = match (names.next(), names.next()) {
        (Some(only), None) => Draft::of(Kind::Renew, Some(only)),
        (Some(_), Some(_)) | (None, _) => {
            let names: Vec<&str> = requested.keys().map(|name| name.0.as_str()).collect();
            Draft::new(Kind::Renew).with(CERTIFICATES, names.join(", "))
        }
    };
    draft.with("demand", demands.join(", "))
}

/// What came of the renewals that were asked for: the worst of them all.
pub fn renewed(answers: &[Answer]) -> Outcome {
    let told = |answer: &&Answer| answer.upshot != Upshot::NotDue || answers.len() == 1;
    let told: Vec<String> =
        answers.iter().filter(told).map(|answer| format!("{}: {}", answer.certificate, answer.message)).collect();
    let more = match told.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let message = format!("{}{more}", told.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; "));
    let has = |upshots: &[Upshot]| answers.iter().any(|answer| upshots.contains(&answer.upshot));
    match () {
        () if has(&[Upshot::Failed]) => Outcome::Failed(message),
        () if has(&[Upshot::NotManaged, Upshot::Waiting]) => Outcome::Refused(message),
        () => Outcome::Done(message),
    }
}

pub fn revoke(wanted: &Wanted) -> Draft {
    let draft = Draft::of(Kind::Revoke, Some(&CertName(wanted.what.clone())));
    draft.with("reason", wanted.reason.as_str()).with("force", wanted.force)
}

pub fn roll_over(issuer: &IssuerName) -> Draft {
    Draft::new(Kind::RollOver).with("issuer", issuer)
}

impl From<&Ended> for Outcome {
    fn from(ended: &Ended) -> Self {
        match ended {
            Ended::Done(line) => Self::Done(line.clone()),
            Ended::Refused(line) => Self::Refused(line.clone()),
            Ended::Failed(line) => Self::Failed(line.clone()),
        }
    }
}
