//! What the listener shows: the pages of the last turn, and whether the next ones can be expected.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;

use super::own::OwnMetrics;
use crate::domain::time::Timestamp;
use crate::vault::Vault;

/// A turn may be late or fail twice before a load balancer or a person should care.
const INTERVALS_BEFORE_UNREADY: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub last_completed: Option<Timestamp>,
    pub interval: Duration,
}

impl Readiness {
    /// `Err` says in one line why not.
    pub fn at(&self, now: Timestamp) -> Result<(), String> {
        let Some(completed) = self.last_completed else { return Err("no turn has been completed yet".to_string()) };
        if now > completed.plus(self.interval * INTERVALS_BEFORE_UNREADY) {
            let interval = self.interval.as_secs();
            return Err(format!("the last turn was completed on {completed}, but one is due every {interval} s"));
        }
        Ok(())
    }
}

/// Shared between the daemon, which changes it after each turn, and the listener, which shows it.
pub struct Page {
    rendered: ArcSwap<Bytes>,
    readiness: ArcSwap<Readiness>,
    vaults: ArcSwap<Vec<Arc<Vault>>>,
    clock_doubt: ArcSwapOption<String>,
    journal_gone: ArcSwapOption<String>,
    own: Arc<OwnMetrics>,
}

impl Page {
    /// `interval` is the time between turns.
    pub fn new(own: Arc<OwnMetrics>, interval: Duration) -> Self {
        Self {
            rendered: ArcSwap::from_pointee(Bytes::new()),
            readiness: ArcSwap::from_pointee(Readiness { last_completed: None, interval }),
            vaults: ArcSwap::default(),
            clock_doubt: ArcSwapOption::default(),
            journal_gone: ArcSwapOption::default(),
            own,
        }
    }

    /// Shows what [`super::render::render`] made of the last turn.
    pub fn publish(&self, rendered: String) {
        self.rendered.store(Arc::new(rendered.into()));
    }

    /// What the last turn had against this host's clock.
    pub fn doubts_clock(&self, why: Option<String>) {
        self.clock_doubt.store(why.map(Arc::new));
    }

    /// Why the last turn could write nothing down, and so did nothing.
    pub fn misses_journal(&self, why: Option<String>) {
        self.journal_gone.store(why.map(Arc::new));
    }

    pub fn completed(&self, readiness: Readiness) {
        self.readiness.store(Arc::new(readiness));
    }

    /// Those that certd cannot do without.
    pub fn depends_on(&self, vaults: Vec<Arc<Vault>>) {
        self.vaults.store(Arc::new(vaults));
    }

    /// `Err` says in one line why not.
    pub fn is_ready(&self, now: Timestamp) -> Result<(), String> {
        self.readiness().at(now)?;
        for doubt in [&self.journal_gone, &self.clock_doubt] {
            if let Some(why) = doubt.load().as_deref() {
                return Err(why.clone());
            }
        }
        let vaults = self.vaults.load();
        match vaults.iter().find_map(|vault| Some((&vault.name, vault.token_ends_soon(now)?))) {
            None => Ok(()),
            Some((name, end)) if end > now => {
                Err(format!("the token for vault {name} ends on {end} and is not renewed: renew or replace it"))
            }
            Some((name, _)) => Err(format!("the token for vault {name} has ended: replace it")),
        }
    }

    pub fn readiness(&self) -> Readiness {
        **self.readiness.load()
    }

    /// The rendered bytes as they are, not copied, and after them the daemon's own metrics of now.
    pub fn metrics(&self) -> Result<[Bytes; 2], prometheus::Error> {
        Ok([Bytes::clone(&self.rendered.load()), self.own.encode()?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_through_three_intervals_after_a_turn_and_not_before_the_first() {
        let interval = Duration::from_secs(60);
        let never = Readiness { last_completed: None, interval };
        assert_eq!(never.at(Timestamp(0)), Err("no turn has been completed yet".to_string()));
        let once = Readiness { last_completed: Some(Timestamp(1_000)), interval };
        assert_eq!(once.at(Timestamp(1_180)), Ok(()));
        let late = "the last turn was completed on 1970-01-01T00:16:40Z, but one is due every 60 s";
        assert_eq!(once.at(Timestamp(1_181)), Err(late.to_string()));
    }

    #[test]
    fn is_not_ready_by_a_clock_that_cannot_be_right() {
        let page = Page::new(Arc::new(OwnMetrics::new(Timestamp(0))), Duration::from_secs(60));
        page.completed(Readiness { last_completed: Some(Timestamp(0)), interval: Duration::from_secs(60) });
        page.doubts_clock(Some("set it".to_string()));
        assert_eq!(page.is_ready(Timestamp(1)), Err("set it".to_string()));
        page.doubts_clock(None);
        assert_eq!(page.is_ready(Timestamp(1)), Ok(()));
    }

    #[test]
    fn a_scrape_shares_the_rendered_bytes() {
        let page = Page::new(Arc::new(OwnMetrics::new(Timestamp(0))), Duration::from_secs(60));
        page.publish("certd_build_info{} 1\n".to_string());
        let [first, _] = page.metrics().unwrap();
        let [second, _] = page.metrics().unwrap();
        assert_eq!(first, "certd_build_info{} 1\n");
        assert_eq!(first.as_ptr(), second.as_ptr());
    }
}
