//! TLS endpoints: what they serve, as they serve it, without judging it first.

mod capture;
mod probe;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::Observed;
use crate::domain::cert::{Chain, Judged, Trust};
use crate::domain::inventory::{Found, Location, Observation, Obstacle, ObstacleKind, Sighting};
use crate::domain::name::SourceName;
use crate::domain::time::Timestamp;
use crate::pki;
use crate::pki::roots::Roots;
use probe::Presented;

/// Addresses by host name, in place of those that the system's resolver gives.
pub type Addresses = BTreeMap<String, Vec<IpAddr>>;

#[derive(Clone, Debug)]
pub struct TlsSource {
    pub name: SourceName,
    pub environment: Option<String>,
    /// Endpoints all.
    pub targets: Vec<Location>,
    pub addresses: Arc<Addresses>,
    /// For one endpoint: name resolution, connection and handshake together.
    pub timeout: Duration,
    /// How many endpoints are looked at at the same time; none is taken as one.
    pub concurrency: usize,
    pub roots: Arc<Roots>,
}

impl TlsSource {
    pub async fn observe(&self, now: Timestamp) -> Observed {
        self.observe_each(now, |_| {}).await
    }

    /// `on` hears of each endpoint as soon as it was looked at.
    pub async fn observe_each(&self, now: Timestamp, mut on: impl FnMut(&Observation)) -> Observed {
        // Each look owns its target: over borrowed ones this future could not move between threads.
        let mut looks = stream::iter(self.targets.clone())
            .map(|target| self.look(now, target))
            .buffer_unordered(self.concurrency.max(1));
        let mut observations = Vec::with_capacity(self.targets.len());
        while let Some(looked) = looks.next().await {
            looked.iter().for_each(&mut on);
            observations.extend(looked);
        }
        observations.sort_by(|a, b| a.location.cmp(&b.location));
        Observed { observations, failures: Vec::new(), passed_over: Vec::new() }
    }

    /// The endpoint as most of its addresses present it, then each address that presents something else.
    async fn look(&self, now: Timestamp, target: Location) -> Vec<Observation> {
        let observation = |location: Location, sighting, took| Observation {
            location,
            source: self.name.clone(),
            environment: self.environment.clone(),
            observed_at: now,
            sighting,
            took: Some(took),
        };
        let presented = match &target {
            Location::Endpoint { host, port, sni, .. } => {
                let known = self.addresses.get(host).map(Vec::as_slice);
                probe::probe(host, *port, sni.as_deref(), known, self.timeout).await
            }
            Location::Secret { .. } | Location::Pki { .. } | Location::File { .. } | Location::Listing { .. } => {
                Err(Obstacle::new(ObstacleKind::NotUnderstood, format!("not an endpoint: {target}")))
            }
        };
        let mut presented = match presented {
            Ok(presented) => presented,
            Err(obstacle) => return vec![observation(target, Sighting::Unknown(obstacle), Duration::ZERO)],
        };
        let most = presented.remove(usual(&presented));
        presented.retain(|other| !is_like(other, &most));
        if most.served.is_err() {
            // None answers, which one line can say.
            presented.clear();
        }
        for it in std::iter::once(&most).chain(&presented) {
            self.judge_beforehand(it).await;
        }
        let others = presented.into_iter().map(|other| (target.at_address(Some(other.address.ip())), other));
        std::iter::once((target.clone(), most))
            .chain(others)
            .map(|(location, it)| observation(location.clone(), self.sighting(&location, &it), it.took))
            .collect()
    }

    /// Has a long chain judged where it holds up nobody; the verdict is remembered for [`Self::found`].
    async fn judge_beforehand(&self, presented: &Presented) {
        let Some(ders) =
            presented.served.as_ref().ok().map(|served| &served.ders).filter(|ders| ders.len() > USUAL_CHAIN)
        else {
            return;
        };
        let (roots, ders) = (self.roots.clone(), ders.clone());
        // Should it break off, it is judged again.
        let _ = tokio::task::spawn_blocking(move || roots.judge(&ders).is_ok()).await;
    }

    fn sighting(&self, location: &Location, presented: &Presented) -> Sighting {
        let found = presented.served.as_ref().map_err(Obstacle::clone).and_then(|served| {
            let found = self.found(location, &served.ders)?;
            Ok(Found { handshake: Some(served.handshake.clone()), ..found })
        });
        match found {
            Ok(found) => Sighting::Found(Box::new(found)),
            Err(obstacle) => Sighting::Unknown(obstacle),
        }
    }

    /// The first certificate is the leaf (RFC 8446, section 4.4.2); the others stay in their order.
    fn found(&self, target: &Location, ders: &[Vec<u8>]) -> Result<Found, Obstacle> {
        let leaf = pki::interned::certificate(&ders[0]).map_err(|why| {
            Obstacle::new(ObstacleKind::NotUnderstood, format!("could not read the certificate of {target}: {why}"))
        })?;
        let judged = self.roots.judge(ders).map_err(|too_costly| {
            Obstacle::new(ObstacleKind::TooCostly, format!("could not judge {target}: {too_costly}"))
        });
        let Judged { mut trust, paths } = judged?;
        let mut intermediates = Vec::with_capacity(ders.len() - 1);
        for (i, der) in ders.iter().enumerate().skip(1) {
            match pki::interned::certificate(der) {
                Ok(certificate) => intermediates.push(certificate),
                // The leaf still counts, and the chain is not what it should be.
                Err(why) => {
                    trust = Trust::Unverified(format!("certificate {} of the chain is unreadable: {why}", i + 1))
                }
            }
        }
        Ok(Found {
            chain: Chain { leaf, intermediates }.in_short(),
            trust,
            stored_key: None,
            version: None,
            deleted_at: None,
            revoked_at: None,
            is_settled: false,
            handshake: None,
            paths,
            unwritable: None,
        })
    }
}

/// In certificates: longer chains are judged on a thread of their own.
const USUAL_CHAIN: usize = 4;

/// Two that served nothing are never alike.
fn is_like(one: &Presented, other: &Presented) -> bool {
    matches!((&one.served, &other.served), (Ok(one), Ok(other)) if one.is_like(other))
}

/// Which of them presents what the most do; the first of those.
fn usual(presented: &[Presented]) -> usize {
    let alike = |one: &Presented| presented.iter().filter(|other| is_like(other, one)).count();
    let most = presented.iter().map(alike).max();
    presented.iter().position(|one| Some(alike(one)) == most).expect("a probe looks at one address at least")
}
