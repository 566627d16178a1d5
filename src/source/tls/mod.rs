//! TLS endpoints: what they serve, as they serve it, without judging it first.

mod capture;
mod probe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::Observed;
use crate::domain::inventory::{Location, Observation, Obstacle, ObstacleKind, Sighting};
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
        let mut looks =
            stream::iter(&self.targets).map(|target| self.look(now, target)).buffer_unordered(self.concurrency.max(1));
        let mut observations = Vec::with_capacity(self.targets.len());
        while let Some(observation) = looks.next().await {
            on(&observation);
            observations.push(observation);
        }
        observations.sort_by(|a, b| a.location.cmp(&b.location));
        Observed { observations, failures: Vec::new() }
    }

    async fn look(&self, now: Timestamp, target: &Location) -> Observation {
        let started = Instant::now();
        let served = match target {
            Location::Endpoint { host, port, sni } => probe::probe(host, *port, sni.as_deref(), self.timeout).await,
            Location::Secret { .. } | Location::File { .. } => {
                Err(Obstacle::new(ObstacleKind::NotUnderstood, format!("not an endpoint: {target}")))
            }
        };
        let took = started.elapsed();
        let sighting = match served.and_then(|ders| self.found(target, &ders)) {
            Ok(found) => Sighting::Found(Box::new(found)),
            Err(obstacle) => Sighting::Unknown(obstacle),
        };
        Observation {
            location: target.clone(),
            source: self.name.clone(),
            environment: self.environment.clone(),
            observed_at: now,
            sighting,
            took: Some(took),
        }
    }
}
