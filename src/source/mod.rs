//! Where certificates are seen. Every source is the same function: `observe`, which never fails as a
//! whole: what could not be seen is an observation with an obstacle, or a failure of its own.

pub mod file;
pub mod path_glob;
mod side_by_side;
pub mod target;
pub mod tls;
pub mod vault_kv;
pub mod vault_pki;

use crate::domain::inventory::{Observation, Obstacle, PassedOver};
use crate::domain::name::SourceName;
use crate::domain::time::Timestamp;

use file::FileSource;
use tls::TlsSource;
use vault_kv::VaultKvSource;
use vault_pki::VaultPkiSource;

pub enum Source {
    Tls(TlsSource),
    VaultKv(VaultKvSource),
    VaultPki(VaultPkiSource),
    File(FileSource),
}

impl Source {
    pub fn name(&self) -> &SourceName {
        match self {
            Self::Tls(source) => &source.name,
            Self::VaultKv(source) => &source.name,
            Self::VaultPki(source) => &source.name,
            Self::File(source) => &source.name,
        }
    }

    /// `on` hears of each location; from endpoints as soon as it was looked at.
    pub async fn observe(&self, now: Timestamp, on: &(dyn Fn(&Observation) + Sync)) -> Observed {
        let observed = match self {
            Self::Tls(source) => return source.observe_each(now, on).await,
            Self::VaultKv(source) => source.observe(now).await,
            Self::VaultPki(source) => source.observe(now).await,
            Self::File(source) => source.observe(now).await,
        };
        observed.observations.iter().for_each(on);
        observed
    }
}

/// One sweep over a source.
#[derive(Debug, Default)]
pub struct Observed {
    pub observations: Vec<Observation>,
    /// Places that could not be listed, so that what lies below them is not known.
    pub failures: Vec<Obstacle>,
    pub passed_over: Vec<PassedOver>,
}
