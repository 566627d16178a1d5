//! What a secret holds, as the rules take it.

use super::Fields;
use super::layout::Layout;
use crate::domain::cert::Judged;
use crate::domain::inventory::{Deletion, Found, Location, Obstacle, ObstacleKind, Part, Sighting};
use crate::domain::time::Timestamp;
use crate::pki::bundle::Kept;
use crate::pki::roots::Roots;
use crate::pki::{FieldName, NotUnderstood};

/// `deleted_at` is when Vault itself deletes the version, and `unwritable` why certd would not write there.
pub(crate) fn found(
    at: &Location,
    kept: &Kept,
    version: Option<u64>,
    deleted_at: Option<Timestamp>,
    roots: &Roots,
    unwritable: Option<String>,
) -> Sighting {
    let Judged { trust, paths } = match roots.judge(&kept.ders) {
        Ok(judged) => judged,
        Err(too_costly) => return too_costly.sighting(at),
    };
    Sighting::Found(Box::new(Found {
        chain: kept.chain.clone().in_short(),
        trust,
        stored_key: kept.key_digest(),
        version,
        deleted_at,
        revoked_at: None,
        is_settled: false,
        handshake: None,
        paths,
        unwritable,
    }))
}

/// That of the secret. An object within it has none of its own: a write to another object says nothing about it.
pub(crate) fn version_of(location: &Location, version: Option<u64>) -> Option<u64> {
    match location.part() {
        Some(Part::Object(_)) => None,
        Some(Part::Nth { .. }) | None => version,
    }
}

pub(crate) fn not_understood(location: &Location, why: &NotUnderstood) -> Sighting {
    let kind = if why.is_of_cost() { ObstacleKind::TooCostly } else { ObstacleKind::NotUnderstood };
    Sighting::Unknown(Obstacle::new(kind, format!("could not understand {location}: {why}")))
}

/// A secret of which nothing can be read now.
pub(crate) fn absent(deletion: Option<Deletion>) -> Sighting {
    deletion.map_or(Sighting::Absent, Sighting::Deleted)
}

/// A secret with fields, none of which certd knows; one without fields is an empty place.
pub(crate) fn without_certificate(location: &Location, data: &Fields) -> Sighting {
    if data.is_empty() {
        return Sighting::Absent;
    }
    let known = Layout::certificate_fields().map(FieldName::of).collect();
    not_understood(location, &NotUnderstood::OtherFields(known))
}
