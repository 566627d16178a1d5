//! After a renewal: the word, once, that an endpoint presents what was stored.

use std::collections::BTreeMap;

use crate::cycle::Turn;
use crate::cycle::setup::Setup;
use crate::domain::cert::Fingerprint;
use crate::domain::inventory::Location;
use crate::domain::name::CertName;
use crate::renew::Outcome;

/// Which endpoint has yet to present which certificate. It holds no more than what the configuration names
/// in `serves`.
#[derive(Debug, Default)]
pub struct Rollouts {
    awaited: BTreeMap<(CertName, Location), Fingerprint>,
}

impl Rollouts {
    pub fn follow(&mut self, setup: &Setup, turn: &Turn) {
        for attempt in &turn.attempts {
            let Ok(Outcome::Renewed { fingerprint, .. }) = &attempt.ended else { continue };
            for endpoint in serves(setup, &attempt.certificate) {
                self.awaited.insert((attempt.certificate.clone(), endpoint.clone()), *fingerprint);
            }
        }
        self.awaited.retain(|(name, endpoint), fingerprint| {
            let served = presented(turn, endpoint) == Some(*fingerprint);
            if served {
                tracing::info!(cert = %name, endpoint = %endpoint, "the renewed certificate is served");
            }
            !served && serves(setup, name).contains(endpoint)
        });
    }
}

fn serves<'a>(setup: &'a Setup, name: &CertName) -> &'a [Location] {
    setup.declared.iter().find(|managed| managed.name == *name).map_or(&[], |managed| managed.serves.as_slice())
}

fn presented(turn: &Turn, endpoint: &Location) -> Option<Fingerprint> {
    let entry = turn.snapshot.entries.iter().find(|entry| entry.observation.location == *endpoint)?;
    entry.observation.sighting.leaf().map(|leaf| leaf.fingerprint)
}
