//! Which places of a Vault share names, by the journal and the configuration: whoever may write to one of them gets
//! certificates for names of the others.

use super::finding::{About, Findings};
use crate::cycle::setup::{Place, Setup};
use crate::domain::homes::{self, Homes};
use crate::domain::name::{CertName, VaultName};

/// More are counted.
const MOST_TOLD: usize = 20;

pub(super) fn examine(setup: &Setup, vault: &VaultName, homes: &Homes, findings: &mut Findings) {
    let declared = setup.declared.iter().map(|managed| (&managed.name, homes::name_texts(&managed.spec.names)));
    let known = homes.iter().map(|(place, home)| (place, home.names.clone())).chain(declared);
    let shared = homes::shared(known);
    let shared: Vec<_> = shared.iter().filter(|(places, _)| places.iter().any(|it| is_in(setup, vault, it))).collect();
    for (places, names) in shared.iter().take(MOST_TOLD) {
        let places: Vec<&str> = places.iter().map(|place| place.0.as_str()).collect();
        findings.ok(About::Names, format!("{} is kept in several places: {}", names.join(", "), places.join(", ")));
    }
    if shared.len() > MOST_TOLD {
        findings.ok(About::Names, format!("{} more sets of places share names", shared.len() - MOST_TOLD));
    }
}

fn is_in(setup: &Setup, vault: &VaultName, place: &CertName) -> bool {
    match setup.places.get(place) {
        Some(Place::VaultKv { vault: own, .. }) => own.name == *vault,
        Some(Place::File(_)) => false,
        None => place.0.starts_with(&format!("vault:{vault}:")),
    }
}
