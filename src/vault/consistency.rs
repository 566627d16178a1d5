//! Reads that are not stale, whichever node of a cluster answers.
//!
//! A standby of OpenBao answers reads from its own copy, which lies behind the active node by up to a tenth of
//! a second. Whatever changes something is carried out by the active node, and its answer names the state that
//! this led to (`X-Vault-Index`). A read that is sent with it is answered by a node that has got there, or by the
//! active one (<https://openbao.org/docs/concepts/consistency/>). Who has changed nothing yet has no such index, and
//! no header without it helps; so certd changes something that is its token's alone.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use reqwest::header::HeaderValue;

use super::endpoint::TouchCubbyhole;
use super::error::VaultError;
use super::transport::{Operation, Transport, locked};

/// How `sys/health` answers for the active node.
const ACTIVE: u16 = 200;

#[derive(Default)]
pub(super) struct Consistency {
    state: Mutex<Option<State>>,
    /// The last attempt that failed, and when it was made. Held during one, so that all who wait share it.
    failed: tokio::sync::Mutex<Option<(Instant, Arc<VaultError>)>>,
}

/// What every read must show at least.
struct State {
    /// Everything that was written before is part of it.
    of: Instant,
    /// `None` where the server counts no states: its standbys then answer nothing themselves.
    index: Option<HeaderValue>,
}

impl Consistency {
    pub fn index(&self) -> Option<HeaderValue> {
        locked(&self.state).as_ref().and_then(|state| state.index.clone())
    }

    /// After a write that was sent at `of`. Which of two opaque indexes is the later one, only that can tell.
    pub fn note(&self, of: Instant, index: Option<HeaderValue>) {
        let mut state = locked(&self.state);
        if state.as_ref().is_none_or(|state| state.of <= of) {
            *state = Some(State { of, index });
        }
    }

    fn is_of(&self, since: Instant) -> bool {
        locked(&self.state).as_ref().is_some_and(|state| state.of >= since)
    }
}

impl Transport {
    /// From now on reads show everything that anybody wrote before `since`.
    pub async fn catch_up(&self, since: Instant) -> Result<(), VaultError> {
        let mut failed = self.consistency.failed.lock().await;
        if self.consistency.is_of(since) {
            return Ok(());
        }
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at >= since) {
            return Err(VaultError::Shared(error.clone()));
        }
        let now = Instant::now();
        let caught_up = match self.call(Operation::CatchUp, TouchCubbyhole { by: "certd" }).await {
            Ok(_) => Ok(()),
            Err(refused) if refused.is_decided() => self.keep_to_the_active_node(now, refused).await,
            Err(error) => Err(error),
        };
        caught_up.map_err(|error| {
            let error = Arc::new(error);
            *failed = Some((now, error.clone()));
            VaultError::Shared(error)
        })
    }

    /// Where the token may not do that, or is of a kind that cannot: a batch token.
    async fn keep_to_the_active_node(&self, now: Instant, refused: VaultError) -> Result<(), VaultError> {
        for node in self.nodes.in_turn() {
            if node.health().await == Some(ACTIVE) {
                self.nodes.keep_to(node);
                self.consistency.note(now, self.consistency.index());
                return Ok(());
            }
        }
        Err(VaultError::MayBeStale { address: self.nodes.address().to_string(), source: Box::new(refused) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_index_of_what_was_sent_last_stays() {
        let (consistency, first) = (Consistency::default(), Instant::now());
        let at = |seconds| first + Duration::from_secs(seconds);
        let index = |text: &'static str| Some(HeaderValue::from_static(text));
        assert!(consistency.index().is_none() && !consistency.is_of(first));
        consistency.note(at(1), index("a"));
        assert!(consistency.is_of(at(0)) && consistency.is_of(at(1)) && !consistency.is_of(at(2)));
        consistency.note(at(3), index("c"));
        consistency.note(at(2), index("b"));
        assert_eq!(consistency.index(), index("c"), "an answer that was long under way");
        consistency.note(at(4), None);
        assert_eq!((consistency.index(), consistency.is_of(at(4))), (None, true));
    }
}
