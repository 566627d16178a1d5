//! Whether the token may do more than certd ever does. A right that nobody uses is one that a thief can use.
//!
//! What is told: to write where certd only reads; to delete, and `sudo`, anywhere; and anything that matters on
//! paths that certd has no business with. Reading and listing more on a path of the configuration is not told.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{About, Findings};
use super::grants::{Foreign, Grants};
use super::shortage::named;
use crate::rights::{self, Need};
use crate::vault::inspect::Capability::{self, Create, Delete, List, Patch, Read, Sudo, Update};

const WRITES: [Capability; 3] = [Create, Update, Patch];
const NEVER_NEEDED: [Capability; 2] = [Delete, Sudo];

const ADVICE: &str = "grant no more than `certd vault policy` prints";

/// A root token is told as what it is.
pub(super) fn judge(needs: &[Need], grants: &Grants, findings: &mut Findings) {
    if grants.is_root() || grants.refused.is_some() {
        return;
    }
    for (excess, places) in too_wide(needs, grants) {
        let more = if places.len() > 1 { format!(" (and on {} more)", places.len() - 1) } else { String::new() };
        let what = format!("needless on {}{more}: {}", places[0], named(&excess));
        findings.warning(About::Rights, what, ADVICE);
    }
    for Foreign { path, name, harm, is_secret, within } in &grants.foreign {
        let mut harmful = BTreeSet::from_iter(WRITES.into_iter().chain(NEVER_NEEDED));
        if *is_secret {
            harmful.extend([Read, List]);
        }
        harmful.retain(|capability| grants.may(path).contains(capability));
        if within.as_ref().is_some_and(|within| harmful.is_subset(&grants.may(within))) {
            continue;
        }
        if !harmful.is_empty() {
            findings.warning(About::Rights, format!("needless on {name}: {} ({harm})", named(&harmful)), ADVICE);
        }
    }
}

/// Places by what is too much there.
fn too_wide<'g>(needs: &[Need], grants: &'g Grants) -> BTreeMap<BTreeSet<Capability>, Vec<&'g str>> {
    let mut places: BTreeMap<BTreeSet<Capability>, Vec<&str>> = BTreeMap::new();
    let rules = grants.rules.iter().map(|(rule, example)| (example.as_str(), rule.pattern.as_str()));
    let by_rules: BTreeSet<&str> = rules.clone().map(|(example, _)| example).collect();
    let secrets = grants.secrets.iter().map(|path| (path.as_str(), path.as_str()));
    for (path, place) in rules.chain(secrets.filter(|(path, _)| !by_rules.contains(path))) {
        let needed = rights::needed(needs, path);
        let is_written = WRITES.iter().any(|write| needed.contains(write));
        let mut excess = BTreeSet::from(NEVER_NEEDED);
        excess.extend(WRITES.iter().filter(|_| !is_written));
        excess.retain(|capability| grants.may(path).contains(capability) && !needed.contains(capability));
        if !excess.is_empty() {
            places.entry(excess).or_default().push(place);
        }
    }
    places
}
