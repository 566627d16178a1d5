//! Whether the records in the DNS stand that renewals depend on (DNS-PERSIST-01): looked at, and never written.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::domain::name::{CertName, IssuerName};
use crate::domain::persist::Proof;
use crate::domain::plan::Managed;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::issuer::Issuer;
use crate::issuer::acme::Acme;
use crate::issuer::acme::persist::{DnsPersist01, Parties, by_place};
use crate::pulse;

use super::setup::Setup;
use super::troubles::Troubles;

/// Of one issuer, so that name servers that are silent do not hold up the turn.
const WITHIN: Duration = Duration::from_secs(60);

const AT_ONCE: usize = 16;

pub type Proofs = BTreeMap<CertName, Vec<Proof>>;

/// Which certificates need a record at a name, and whether for a wildcard too.
type Needed<'a> = BTreeMap<(String, bool), Vec<&'a CertName>>;

/// What could not be looked at is told, and missing.
pub async fn proofs(setup: &Setup, managed: &[Managed], now: Timestamp, troubles: &mut Troubles) -> Proofs {
    let mut proofs = Proofs::new();
    for (name, issuer) in &setup.issuers {
        let Issuer::Acme(acme) = issuer.as_ref() else { continue };
        let Some(persist) = &acme.challenges.dns_persist_01 else { continue };
        let needed = needed(acme, name, managed);
        if needed.is_empty() {
            continue;
        }
        let looked = match acme.parties().await {
            Ok(Some(parties)) => look(persist, &parties, &needed, now, &mut proofs).await,
            Ok(None) => Ok(()),
            Err(error) => Err(with_causes(&error)),
        };
        if let Err(why) = looked {
            let why = format!("it is not known whether its records in the DNS stand: {why}");
            troubles.meet(format!("issuer {name}"), why);
        }
    }
    proofs
}

fn needed<'a>(acme: &Acme, issuer: &IssuerName, managed: &'a [Managed]) -> Needed<'a> {
    let mut needed = Needed::new();
    for managed in managed.iter().filter(|managed| managed.issuers.contains(issuer)) {
        let names = managed.spec.names.iter().filter(|name| acme.challenges.rests_on_a_record(name));
        for place in by_place(names) {
            needed.entry(place).or_default().push(&managed.name);
        }
    }
    needed
}

/// Fails with the first of those that could not be looked at.
async fn look(
    persist: &DnsPersist01,
    parties: &Parties,
    needed: &Needed<'_>,
    now: Timestamp,
    proofs: &mut Proofs,
) -> Result<(), String> {
    // Collected first: a borrowing stream is not `Send` for every lifetime.
    let looks: Vec<_> = needed.keys().map(|(name, wildcard)| persist.proof(parties, name, *wildcard, now)).collect();
    let looks = stream::iter(looks).buffered(AT_ONCE).inspect(|_| pulse::beat());
    let looked: Vec<_> = looks.take_until(tokio::time::sleep(WITHIN)).collect().await;
    let mut outcome = match looked.len() < needed.len() {
        true => Err(format!("it took more than {} s to look at all of them", WITHIN.as_secs())),
        false => Ok(()),
    };
    for (looked, certificates) in looked.into_iter().zip(needed.values()) {
        match looked {
            Ok(proof) => certificates.iter().for_each(|name| {
                proofs.entry((*name).clone()).or_default().push(proof.clone());
            }),
            Err(error) => outcome = outcome.and_then(|()| Err(with_causes(&error))),
        }
    }
    outcome
}
