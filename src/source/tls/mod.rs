//! TLS endpoints: what they serve, as they serve it, without judging it first.

mod capture;
mod probe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::Observed;
use crate::domain::cert::{Chain, Trust};
use crate::domain::inventory::{Found, Location, Observation, Obstacle, ObstacleKind, Sighting};
use crate::domain::name::SourceName;
use crate::domain::time::Timestamp;
use crate::pki;
use crate::pki::roots::Roots;

#[derive(Clone, Debug)]
pub struct TlsSource {
    pub name: SourceName,
    pub environment: Option<String>,
    /// Endpoints all.
    pub targets: Vec<Location>,
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
        while let Some(observation) = looks.next().await {
            on(&observation);
            observations.push(observation);
        }
        observations.sort_by(|a, b| a.location.cmp(&b.location));
        Observed { observations, failures: Vec::new() }
    }

    async fn look(&self, now: Timestamp, target: Location) -> Observation {
        let started = Instant::now();
        let served = match &target {
            Location::Endpoint { host, port, sni } => probe::probe(host, *port, sni.as_deref(), self.timeout).await,
            Location::Secret { .. } | Location::Pki { .. } | Location::File { .. } | Location::Listing { .. } => {
                Err(Obstacle::new(ObstacleKind::NotUnderstood, format!("not an endpoint: {target}")))
            }
        };
        let took = started.elapsed();
        let sighting = match served.and_then(|ders| self.found(&target, &ders)) {
            Ok(found) => Sighting::Found(Box::new(found)),
            Err(obstacle) => Sighting::Unknown(obstacle),
        };
        Observation {
            location: target,
            source: self.name.clone(),
            environment: self.environment.clone(),
            observed_at: now,
            sighting,
            took: Some(took),
        }
    }
}

impl TlsSource {
    /// The first certificate is the leaf (RFC 8446, section 4.4.2); the others stay in their order.
    fn found(&self, target: &Location, ders: &[Vec<u8>]) -> Result<Found, Obstacle> {
        let leaf = pki::read::certificate(&ders[0]).map_err(|why| {
            Obstacle::new(ObstacleKind::NotUnderstood, format!("could not read the certificate of {target}: {why}"))
        })?;
        let mut trust = self.roots.judge(ders);
        let mut intermediates = Vec::with_capacity(ders.len() - 1);
        for (i, der) in ders.iter().enumerate().skip(1) {
            match pki::read::certificate(der) {
                Ok(certificate) => intermediates.push(Arc::new(certificate)),
                // The leaf still counts, and the chain is not what it should be.
                Err(why) => {
                    trust = Trust::Unverified(format!("certificate {} of the chain is unreadable: {why}", i + 1))
                }
            }
        }
        let chain = Chain { leaf: Arc::new(leaf), intermediates };
        Ok(Found { chain, trust, stored_key: None, version: None, revoked_at: None, is_settled: false })
    }
}
