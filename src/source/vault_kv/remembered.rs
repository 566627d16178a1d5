//! What secrets with keystores showed, remembered from sweep to sweep: to open one takes as long as whoever made it wished.

use std::sync::{LazyLock, Mutex, PoisonError};

use super::Secret;
use crate::domain::inventory::{Location, ObstacleKind, Sighting};
use crate::pki::generations::Generations;
use crate::pki::sha256;
use crate::vault::Closed;

type Seen = Vec<(Location, Sighting)>;

/// Twice as many secrets at most.
const MOST: usize = 4_096;

/// By all that they depend on. No key and no password is in it.
static MEMORY: LazyLock<Mutex<Generations<[u8; 32], Seen>>> = LazyLock::new(|| Mutex::new(Generations::of(MOST)));

/// Opens the keystores, unless the same secret was seen before with the same passwords and judged by the same roots.
pub(super) async fn sightings(secret: Secret, closed: Closed) -> Seen {
    let Some(asked) = closed.digest(&secret.data).map(|digest| asked(&secret, digest)) else {
        let layout = closed.open(&secret.data).await;
        return secret.sightings(layout).await;
    };
    let memory = || MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let known = memory().find(&asked);
    if let Some(seen) = known {
        return seen;
    }
    let layout = closed.open(&secret.data).await;
    let lasts = layout.lasts();
    let seen = secret.sightings(layout.clone()).await;
    if lasts && (layout.has_costly() || !seen.iter().any(|(_, sighting)| is_too_costly(sighting))) {
        memory().note(asked, seen.clone());
    }
    seen
}

fn asked(secret: &Secret, content: [u8; 32]) -> [u8; 32] {
    let place = format!("{}\0{:?}\0{:?}", secret.location, secret.version, secret.deleted_at);
    sha256(&[&content[..], &secret.roots.digest(), place.as_bytes()].concat())
}

fn is_too_costly(sighting: &Sighting) -> bool {
    matches!(sighting, Sighting::Unknown(obstacle) if obstacle.obstacle == ObstacleKind::TooCostly)
}
