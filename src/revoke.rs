//! One revocation that a person asks for: which certificate, who issued it, whether it is still served; then its
//! issuer is asked, and its register read back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::control::Ended;
use crate::cycle::Cycle;
use crate::cycle::setup::Setup;
use crate::domain::cert::{Certificate, Fingerprint};
use crate::domain::homes::name_texts;
use crate::domain::inventory::{Location, Sighting};
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::{Action, JournalView, Managed, Origin};
use crate::domain::revocation::{InTheWay, RevocationReason, in_the_way};
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::text::{printable, with_causes};
use crate::domain::time::Timestamp;
use crate::issuer::{Issuer, IssuerError, Registered, Revoked};
use crate::journal::event::{Event, Issued};
use crate::journal::{self, Journal, JournalError};
use crate::pki::read;

/// Other places of a revoked certificate. More are counted.
const MOST_TOLD: usize = 20;

/// What a person asks for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// The name of a certificate, a location, or a serial number in hexadecimal.
    pub what: String,
    pub reason: RevocationReason,
    /// Although an endpoint serves it, or may.
    pub force: bool,
}

impl From<Result<String, RevokeError>> for Ended {
    fn from(revoked: Result<String, RevokeError>) -> Self {
        match revoked {
            Ok(done) => Self::Done(done),
            Err(refused @ RevokeError::Refused(_)) => Self::Refused(refused.to_string()),
            Err(
                failed @ (RevokeError::NotNoted { .. } | RevokeError::Failed { .. } | RevokeError::NotRevoked { .. }),
            ) => Self::Failed(with_causes(&failed)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    #[error("nothing was revoked: {0}")]
    Refused(String),
    #[error("nothing was revoked: could not {doing}")]
    NotNoted {
        doing: &'static str,
        #[source]
        source: JournalError,
    },
    /// The issuer is known not to have done it.
    #[error("nothing was revoked: {issuer} did not revoke {serial}")]
    NotRevoked {
        issuer: IssuerName,
        serial: String,
        #[source]
        source: IssuerError,
    },
    /// It may be revoked all the same.
    #[error("could not revoke {serial} by {issuer}; ask again to learn whether it is")]
    Failed {
        issuer: IssuerName,
        serial: String,
        #[source]
        source: IssuerError,
    },
}

impl RevokeError {
    fn failed(issuer: &IssuerName, serial: &str, source: IssuerError) -> Self {
        let (issuer, serial) = (issuer.clone(), serial.to_string());
        let may_be_done = match &source {
            IssuerError::Unanswered { may_be_done, .. } => *may_be_done,
            IssuerError::Pending { .. } | IssuerError::Stopped(_) | IssuerError::SignedInVain(_) => true,
            IssuerError::Refused { .. } | IssuerError::Limited { .. } | IssuerError::Unprepared(_) => false,
        };
        match may_be_done {
            true => Self::Failed { issuer, serial, source },
            false => Self::NotRevoked { issuer, serial, source },
        }
    }
}

fn refused(why: impl Into<String>) -> RevokeError {
    RevokeError::Refused(why.into())
}

/// The certificate that is meant, and what certd has of it.
struct Target {
    serial: String,
    /// `None` where the serial number alone is known.
    leaf: Option<Certificate>,
    managed: Option<Managed>,
}

/// Says what was done, in a line.
pub async fn revoke(
    setup: Arc<Setup>,
    journal: &Journal,
    wanted: &Wanted,
    now: fn() -> Timestamp,
) -> Result<String, RevokeError> {
    let view = journal.view();
    let (snapshot, managed) = Cycle::new(setup.clone(), now).look_with_managed(&view, &|_| {}).await;
    let target = target(&view, &snapshot, &managed, &wanted.what)?;
    let (name, issuer, registered) = issuer_of(&setup, journal, &target).await?;
    if let Some(at) = registered.revoked_at {
        return Ok(format!("{} was revoked by {name} on {at} already", target.serial));
    }
    let serves = target.managed.as_ref().map_or(&[][..], |managed| &managed.serves);
    let served = in_the_way(&registered.leaf, serves, snapshot.entries.iter().map(|entry| &entry.observation));
    if !served.is_empty() && !wanted.force {
        return Err(refused(still_served(&served)));
    }

    let certificate = target.managed.as_ref().map(|managed| &managed.name);
    let note = |event| {
        let noted = journal.append(now(), certificate, event);
        noted.map_err(|source| RevokeError::NotNoted { doing: "note it in the journal", source })
    };
    let (serial, forced) = (target.serial.clone(), !served.is_empty());
    let fingerprint = registered.leaf.fingerprint;
    note(Event::Revoking { issuer: name.clone(), serial: serial.clone(), reason: wanted.reason, forced })?;
    let revoked = issuer.revoke(&registered, wanted.reason).await;
    let Revoked { at, reason } = revoked.map_err(|source| RevokeError::failed(&name, &serial, source))?;
    tracing::info!(issuer = %name, serial, reason = wanted.reason.as_str(), forced, "revoked");
    // It is, whether or not that can be noted.
    if let Err(error) =
        note(Event::Revoked { issuer: name.clone(), serial: serial.clone(), fingerprint: Some(fingerprint) })
    {
        tracing::error!("{}", with_causes(&error));
    }
    let kept = match reason == wanted.reason {
        true => String::new(),
        false => format!("; it took no reason, so that {} is in certd's journal alone", wanted.reason.as_str()),
    };
    let next = replaced(&setup, &journal.view(), target.managed.as_ref(), fingerprint, now).await;
    Ok(format!("{serial} was revoked by {name} on {}{kept}{next}", at.unwrap_or_else(now)))
}

/// Looks again and says what certd will do at the place that was named, and at every other that has the certificate.
async fn replaced(
    setup: &Arc<Setup>,
    view: &JournalView,
    named: Option<&Managed>,
    revoked: Fingerprint,
    now: fn() -> Timestamp,
) -> String {
    let (snapshot, _) = Cycle::new(setup.clone(), now).look_with_managed(view, &|_| {}).await;
    let is_named = |entry: &Entry| named.is_some_and(|named| named.location == entry.observation.location);
    let at_named = match (named, snapshot.entries.iter().find(|entry| is_named(entry))) {
        (None, _) => String::new(),
        (Some(named), None) => format!("; nothing is seen any more where {} was kept", printable(&named.name.0)),
        (Some(named), Some(entry)) if has(entry, revoked) => format!("; {}", next_at(entry, &named.name)),
        (Some(_), Some(_)) => String::new(),
    };
    at_named + &elsewhere(snapshot.entries.iter().filter(|entry| !is_named(entry) && has(entry, revoked)))
}

fn has(entry: &Entry, revoked: Fingerprint) -> bool {
    entry.observation.sighting.leaf().is_some_and(|leaf| leaf.fingerprint == revoked)
}

fn next_at(entry: &Entry, name: &CertName) -> String {
    let next = match entry.managed.as_ref().map(|managed| &managed.decision.action) {
        Some(Action::Renew { .. }) => "certd replaces it where NAME is kept, in its next turn".to_string(),
        Some(Action::Defer { until, .. }) => format!("certd replaces it where NAME is kept, but not before {until}"),
        Some(Action::Hold { .. } | Action::Keep { .. }) => {
            "certd does not replace it where NAME is kept: `certd explain NAME` says why".to_string()
        }
        None => {
            "certd does not replace it at NAME, since it did not store it there: run `certd adopt NAME` to have it \
             replaced, or delete it"
                .to_string()
        }
    };
    next.replace("NAME", &printable(&name.0))
}

/// The other places that have what was revoked, a CA's register aside.
fn elsewhere<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let kept = entries.filter(|entry| !matches!(entry.observation.location, Location::Pki { .. }));
    let is_renewed = |entry: &&Entry| {
        let action = entry.managed.as_ref().map(|managed| &managed.decision.action);
        matches!(action, Some(Action::Renew { .. } | Action::Defer { .. }))
    };
    let (renewed, left): (Vec<&Entry>, Vec<&Entry>) = kept.partition(is_renewed);
    let renewed = at_places(&renewed, "certd replaces it also at");
    renewed + &at_places(&left, "it is still at, and certd does not replace it there:")
}

fn at_places(entries: &[&Entry], what: &str) -> String {
    let places = entries.iter().take(MOST_TOLD).map(|entry| printable(&entry.observation.location.to_string()));
    let more = match entries.len().saturating_sub(MOST_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more (`certd check` lists them)"),
    };
    match entries.is_empty() {
        true => String::new(),
        false => format!("; {what} {}{more}", places.collect::<Vec<_>>().join(", ")),
    }
}

fn still_served(served: &[InTheWay]) -> String {
    let told: Vec<String> = served
        .iter()
        .map(|served| match served {
            InTheWay::Serves(location) => format!("{location} still serves it"),
            InTheWay::OutOfSight(location) => format!("{location} may serve it and could not be looked at"),
        })
        .collect();
    format!("{}; replace it there first, or insist with --force", told.join(", "))
}

/// By name or place, else by serial number.
fn target(journal: &JournalView, snapshot: &Snapshot, managed: &[Managed], what: &str) -> Result<Target, RevokeError> {
    let named = |entry: &&Entry| {
        let location = &entry.observation.location;
        location.to_string() == what || managed_at(managed, location).is_some_and(|managed| managed.name.0 == what)
    };
    if let Some(entry) = snapshot.entries.iter().find(named) {
        return of_entry(journal, managed, entry);
    }
    let Some(serial) = serial(what) else {
        let list = "`certd plan` and `certd check --config FILE` list what it sees";
        return Err(refused(format!(
            "certd sees nothing of this name, and it is no serial number: {} ({list})",
            printable(what)
        )));
    };
    let is_it = |entry: &&Entry| entry.observation.sighting.leaf().is_some_and(|leaf| leaf.serial == serial);
    // A place that certd keeps tells more than an endpoint. Another CA may have one of this number, so that the leaf is
    // its issuer's to tell.
    let seen = snapshot.entries.iter().filter(is_it).find_map(|entry| managed_at(managed, &entry.observation.location));
    Ok(Target { serial, leaf: None, managed: seen.cloned() })
}

fn managed_at<'a>(managed: &'a [Managed], location: &Location) -> Option<&'a Managed> {
    managed.iter().find(|managed| managed.location == *location)
}

fn of_entry(journal: &JournalView, managed: &[Managed], entry: &Entry) -> Result<Target, RevokeError> {
    let location = &entry.observation.location;
    match &entry.observation.sighting {
        Sighting::Found(found) => {
            let (leaf, managed) = (found.leaf(), managed_at(managed, location));
            if !is_ours(journal, location, leaf, managed) {
                return Err(refused(format!(
                    "certd did not store the certificate at {location}, so it may be a copy of another service's; if it \
                     is the one that you mean, name its serial number: {}",
                    leaf.serial
                )));
            }
            Ok(Target { serial: leaf.serial.clone(), leaf: Some(leaf.clone()), managed: managed.cloned() })
        }
        Sighting::Unknown(obstacle) => Err(refused(format!("{location} could not be seen: {}", obstacle.message))),
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) => {
            Err(refused(format!("there is no certificate at {location}: name its serial number")))
        }
    }
}

/// Whether a place speaks for the certificate in it: whoever may write there may have stored a copy of anybody's.
fn is_ours(journal: &JournalView, location: &Location, leaf: &Certificate, managed: Option<&Managed>) -> bool {
    let stored_at = |managed: &Managed| {
        journal.records.get(&managed.name).is_some_and(|record| record.has_stored(leaf.fingerprint))
    };
    match (location, managed) {
        (Location::Pki { .. }, _) => true,
        (_, Some(managed)) => {
            let is_declared =
                managed.origin == Origin::Declared && name_texts(&managed.spec.names) == name_texts(&leaf.names);
            is_declared || stored_at(managed)
        }
        (Location::Secret { .. }, None) => {
            let record = journal.records.get(&CertName(location.to_string()));
            record.is_some_and(|record| record.has_stored(leaf.fingerprint))
        }
        (Location::Endpoint { .. } | Location::File { .. } | Location::Listing { .. }, None) => {
            journal.records.values().any(|record| record.has_stored(leaf.fingerprint))
        }
    }
}

/// In lower case without separators, as certificates have it.
fn serial(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-')).collect();
    let is_hex = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
    let even = if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") };
    is_hex.then(|| even.to_ascii_lowercase())
}

/// The one that keeps this very certificate.
async fn issuer_of(
    setup: &Setup,
    journal: &Journal,
    target: &Target,
) -> Result<(IssuerName, Arc<Issuer>, Registered), RevokeError> {
    if let Some(found) = noted(setup, journal, target)? {
        return Ok(found);
    }
    let mut unheard = Vec::new();
    for (name, issuer) in &setup.issuers {
        match issuer.registered(&target.serial).await {
            Ok(Some(found)) if target.leaf.as_ref().is_none_or(|leaf| leaf.fingerprint == found.leaf.fingerprint) => {
                return Ok((name.clone(), issuer.clone(), found));
            }
            Ok(_) => {}
            Err(error) => unheard.push(format!("{name}: {}", with_causes(&error))),
        }
    }
    let serial = &target.serial;
    Err(refused(match unheard.is_empty() {
        true => format!(
            "no issuer of the configuration has serial {serial} in its register (a CA of certd's own, and a role with \
             no_store, have none), nor did an ACME one sign it for this certd"
        ),
        false => format!("it is not known who issued {serial}: {}", unheard.join("; ")),
    }))
}

/// An ACME server has no register: what it signed for certd is in the journal.
fn noted(
    setup: &Setup,
    journal: &Journal,
    target: &Target,
) -> Result<Option<(IssuerName, Arc<Issuer>, Registered)>, RevokeError> {
    let signer = |issued: &Issued| {
        let issuer = setup.issuers.get(&issued.issuer).filter(|issuer| matches!(***issuer, Issuer::Acme(_)))?;
        let der = issued.ders.first()?;
        let leaf = read::certificate(der).ok().filter(|leaf| leaf.serial == target.serial)?;
        let registered = Registered { leaf, der: der.clone(), revoked_at: None };
        let is_it = target.leaf.as_ref().is_none_or(|leaf| leaf.fingerprint == registered.leaf.fingerprint);
        is_it.then(|| (issued.issuer.clone(), issuer.clone(), registered))
    };
    let is_wanted = |entry: &journal::event::Entry| match &entry.event {
        Event::Issued(issued) => signer(issued).is_some(),
        _ => false,
    };
    let found = journal.newest(is_wanted);
    let found = found.map_err(|source| RevokeError::NotNoted { doing: "look into the journal", source })?;
    Ok(found.and_then(|entry| match entry.event {
        Event::Issued(issued) => signer(&issued),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_one_however_it_is_written() {
        assert_eq!(serial("1F:a0:03"), Some("1fa003".to_string()));
        assert_eq!(serial("1f-a0-03"), Some("1fa003".to_string()));
        assert_eq!(serial("fa003"), Some("0fa003".to_string()));
        assert_eq!(serial("web"), None);
        assert_eq!(serial(":"), None);
    }
}
