//! Revocation: why, and what stands in its way.

use serde::{Deserialize, Serialize};

use super::cert::Certificate;
use super::inventory::{Location, Observation, Sighting};

/// Why a certificate is revoked (CRLReason: RFC 5280, section 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
}

impl RevocationReason {
    pub const ALL: [Self; 5] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key_compromise",
            Self::AffiliationChanged => "affiliation_changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation_of_operation",
        }
    }

    /// As CRLs number them.
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
        }
    }
}

/// An endpoint because of which a certificate is not revoked unless a person insists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InTheWay {
    Serves(Location),
    /// It may serve it: it could not be looked at.
    OutOfSight(Location),
}

/// Of all that was seen. `serves` are the endpoints that are to present it by the configuration.
pub fn in_the_way<'a>(
    leaf: &Certificate,
    serves: &[Location],
    seen: impl Iterator<Item = &'a Observation>,
) -> Vec<InTheWay> {
    let may_serve = |location: &Location| {
        serves.contains(location) || location.expected_host().is_some_and(|host| leaf.covers(host))
    };
    let judge = |observation: &Observation| {
        let location = &observation.location;
        match &observation.sighting {
            Sighting::Found(found) if found.leaf().fingerprint == leaf.fingerprint => {
                Some(InTheWay::Serves(location.clone()))
            }
            // It may hold the key of the other, too.
            Sighting::Found(found) if !found.is_proven() && may_serve(location) => {
                Some(InTheWay::OutOfSight(location.clone()))
            }
            Sighting::Unknown(_) if may_serve(location) => Some(InTheWay::OutOfSight(location.clone())),
            Sighting::Found(_) | Sighting::Unknown(_) => None,
            Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) => None,
        }
    };
    seen.filter(|observation| matches!(observation.location, Location::Endpoint { .. })).filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cert::Fingerprint;
    use crate::domain::inventory::{Found, Handshake};
    use crate::domain::sample::{endpoint, found, leaf, obstacle, secret, seen, seen_found};

    const NAME: &str = "www.example.org";

    fn judged(serves: &[Location], seen: &[Observation]) -> Vec<InTheWay> {
        in_the_way(&leaf(&[NAME]), serves, seen.iter())
    }

    fn out_of_sight(location: Location) -> Observation {
        seen(location, Sighting::Unknown(obstacle()))
    }

    #[test]
    fn an_endpoint_that_presents_it_is_in_the_way_and_one_that_presents_another_or_nothing_is_not() {
        let same = seen_found(endpoint(NAME), found(leaf(&[NAME])));
        assert_eq!(judged(&[], &[same]), [InTheWay::Serves(endpoint(NAME))]);
        let other = Certificate { fingerprint: Fingerprint([7; 32]), ..leaf(&[NAME]) };
        let seen = [seen_found(endpoint(NAME), found(other)), seen(endpoint(NAME), Sighting::Absent)];
        assert_eq!(judged(&[endpoint(NAME)], &seen), []);
    }

    #[test]
    fn an_endpoint_that_does_not_prove_the_key_of_what_it_presents_may_serve_it() {
        let other = Certificate { fingerprint: Fingerprint([7; 32]), ..leaf(&[NAME]) };
        let handshake = Handshake { key_not_proven: Some("no key".into()), ..Handshake::default() };
        let unproven = Found { handshake: Some(handshake), ..found(other) };
        let proven = Found { handshake: Some(Handshake::default()), ..unproven.clone() };
        assert_eq!(judged(&[], &[seen_found(endpoint(NAME), unproven)]), [InTheWay::OutOfSight(endpoint(NAME))]);
        assert_eq!(judged(&[], &[seen_found(endpoint(NAME), proven)]), []);
    }

    #[test]
    fn where_it_is_kept_is_not_in_the_way() {
        let kept = seen_found(secret("secret/web"), found(leaf(&[NAME])));
        assert_eq!(judged(&[], &[kept, out_of_sight(secret("secret/api"))]), []);
    }

    #[test]
    fn an_endpoint_out_of_sight_is_in_the_way_where_it_is_to_serve_it_or_has_its_name() {
        let (named, other) = (endpoint(NAME), endpoint("other.example.org"));
        let seen = [out_of_sight(named.clone()), out_of_sight(other.clone())];
        assert_eq!(judged(&[], &seen), [InTheWay::OutOfSight(named.clone())]);
        let both = [InTheWay::OutOfSight(named), InTheWay::OutOfSight(other.clone())];
        assert_eq!(judged(&[other], &seen), both);
    }

    #[test]
    fn reasons_have_the_numbers_of_rfc_5280() {
        assert_eq!(RevocationReason::ALL.map(RevocationReason::code), [0, 1, 3, 4, 5]);
    }
}
