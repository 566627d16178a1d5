//! One revocation that a person asks for: which certificate, who issued it, whether it is still served; then its
//! issuer is asked, and its register read back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::control::Ended;
use crate::cycle::Cycle;
use crate::cycle::setup::Setup;
use crate::domain::cert::Certificate;
use crate::domain::inventory::{Location, Sighting};
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::Managed;
use crate::domain::revocation::{InTheWay, RevocationReason, in_the_way};
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::text::{printable, with_causes};
use crate::domain::time::Timestamp;
use crate::issuer::{Issuer, IssuerError, Registered, Revoked};
use crate::journal::event::{Event, Issued};
use crate::journal::{self, Journal, JournalError};
use crate::pki::read;

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
            Err(failed @ (RevokeError::NotNoted { .. } | RevokeError::Failed { .. })) => {
                Self::Failed(with_causes(&failed))
            }
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
    /// It may be revoked all the same.
    #[error("could not revoke {serial} by {issuer}; ask again to learn whether it is")]
    Failed {
        issuer: IssuerName,
        serial: String,
        #[source]
        source: IssuerError,
    },
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
    let (snapshot, managed) = Cycle::new(setup.clone(), now).look_with_managed(&journal.view(), &|_| {}).await;
    let target = target(&snapshot, &managed, &wanted.what)?;
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
    let failed = |source| RevokeError::Failed { issuer: name.clone(), serial: serial.clone(), source };
    let revoked = issuer.revoke(&registered, wanted.reason).await;
    let Revoked { at, reason } = revoked.map_err(failed)?;
    tracing::info!(issuer = %name, serial, reason = wanted.reason.as_str(), forced, "revoked");
    // It is, whether or not that can be noted.
    if let Err(error) =
        note(Event::Revoked { issuer: name.clone(), serial: serial.clone(), fingerprint: Some(fingerprint) })
    {
        tracing::error!("{}", with_causes(&error));
    }
    let untold = (reason != wanted.reason).then_some(wanted.reason);
    Ok(upshot(&serial, &name, at.unwrap_or_else(now), untold, certificate))
}

fn upshot(
    serial: &str,
    name: &IssuerName,
    at: Timestamp,
    untold: Option<RevocationReason>,
    certificate: Option<&CertName>,
) -> String {
    let kept = match untold {
        None => String::new(),
        Some(reason) => format!("; it took no reason, so that {} is in certd's journal alone", reason.as_str()),
    };
    let next = match certificate {
        Some(certificate) => {
            format!("; certd replaces it where {} is kept, in its next turn", printable(&certificate.0))
        }
        None => String::new(),
    };
    format!("{serial} was revoked by {name} on {at}{kept}{next}")
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
fn target(snapshot: &Snapshot, managed: &[Managed], what: &str) -> Result<Target, RevokeError> {
    let named = |entry: &&Entry| {
        let location = &entry.observation.location;
        location.to_string() == what || managed_at(managed, location).is_some_and(|managed| managed.name.0 == what)
    };
    if let Some(entry) = snapshot.entries.iter().find(named) {
        return of_entry(managed, entry);
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

fn of_entry(managed: &[Managed], entry: &Entry) -> Result<Target, RevokeError> {
    let location = &entry.observation.location;
    match &entry.observation.sighting {
        Sighting::Found(found) => Ok(Target {
            serial: found.leaf().serial.clone(),
            leaf: Some(found.leaf().clone()),
            managed: managed_at(managed, location).cloned(),
        }),
        Sighting::Unknown(obstacle) => Err(refused(format!("{location} could not be seen: {}", obstacle.message))),
        Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) => {
            Err(refused(format!("there is no certificate at {location}: name its serial number")))
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
