//! Where certificates are seen. Every source is the same function: `observe`, which never fails as a
//! whole: what could not be seen is an observation with an obstacle, or a failure of its own.

pub mod file;
pub mod path_glob;
pub mod target;
pub mod tls;
pub mod vault_kv;
pub mod vault_pki;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use crate::domain::inventory::{Observation, Obstacle};
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
}

/// What `look` makes of all items, in no order: so many at once, each on a task of the runtime, so that one is
/// understood while others are waited for. Dropping the future ends them all.
async fn side_by_side<T, R, F>(many: usize, items: Vec<T>, look: impl Fn(T) -> F + Clone + Send + 'static) -> Vec<R>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Vec<R>> + Send,
{
    let items = Arc::new(Mutex::new(items.into_iter()));
    let mut readers = JoinSet::new();
    for _ in 0..many.max(1) {
        let (items, look) = (items.clone(), look.clone());
        readers.spawn(async move {
            let mut seen = Vec::new();
            while let Some(item) = next(&items) {
                seen.extend(look(item).await);
            }
            seen
        });
    }
    readers.join_all().await.into_iter().flatten().collect()
}

fn next<T>(items: &Mutex<std::vec::IntoIter<T>>) -> Option<T> {
    items.lock().unwrap_or_else(PoisonError::into_inner).next()
}
