//! What a secret holds, as the rules take it.

use super::Fields;
use super::layout::Layout;
use crate::domain::inventory::{Deletion, Found, Location, Obstacle, ObstacleKind, Sighting};
use crate::pki::NotUnderstood;
use crate::pki::bundle::Kept;
use crate::pki::roots::Roots;

pub(crate) fn found(kept: &Kept, version: Option<u64>, roots: &Roots) -> Found {
    Found {
        chain: kept.chain.clone(),
        trust: roots.judge(&kept.ders),
        stored_key: kept.key_digest(),
        version,
        revoked_at: None,
        is_settled: false,
    }
}

pub(crate) fn not_understood(location: &Location, why: &NotUnderstood) -> Sighting {
    Sighting::Unknown(Obstacle::new(ObstacleKind::NotUnderstood, format!("could not understand {location}: {why}")))
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
    let known: Vec<_> = Layout::certificate_fields().collect();
    let why = format!("it holds other fields and none of `{}`", known.join("`, `"));
    not_understood(location, &NotUnderstood(why))
}
