//! The token that certd logged in for: fetched when it is first needed, prolonged before it ends, replaced
//! when it cannot be, and revoked at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use tokio::sync::Mutex;
use tracing::warn;

use super::endpoint::{LookupSelf, RenewSelf, RevokeSelf};
use super::error::VaultError;
use super::life::Life;
use super::login::{Granted, Login, Unwrapped, granted};
use super::token;
use super::transport::{Operation, Transport};
use crate::pki::sha256;

/// Between looks at whether a token is due; a token that lives shorter than this is prolonged when it is used.
const LOOKS_APART: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// Vault's own default is 32 days; what claims to live longer than this is looked after as if it did not.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

pub(super) struct Session {
    login: Login,
    /// Held during a login, so that all who wait for a token share one.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// Replaced while it still lived; revoked with the other.
    former: Option<HeaderValue>,
    tried_at: Option<Instant>,
    /// When a token that was denied something was last seen to live.
    seen_alive_at: Option<Instant>,
    failure: Option<Arc<VaultError>>,
    unwrapped: Unwrapped,
}

struct Live {
    token: HeaderValue,
    renewable: bool,
    /// As first granted; zero for a token that never ends.
    life: Duration,
    due_at: Option<Instant>,
    ends_at: Option<Instant>,
}

impl Session {
    pub fn new(login: Login) -> Self {
        Self { login, state: Mutex::default() }
    }

    pub async fn header(&self, transport: &Transport) -> Result<HeaderValue, VaultError> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        let ended = |live: &Live| live.ends_at.is_some_and(|end| end <= now);
        if state.live.as_ref().is_none_or(ended) {
            state.live = None;
            self.log_in(&mut state, transport).await?;
        } else {
            self.prolong_if_due(&mut state, transport).await;
        }
        match &state.live {
            Some(live) => Ok(live.token.clone()),
            None => Err(self.failed(state.failure.clone())),
        }
    }

    /// Another token, where the one that was denied something turns out to be dead.
    pub async fn after_denial(&self, transport: &Transport, denied: &HeaderValue) -> Option<HeaderValue> {
        let mut state = self.state.lock().await;
        if let Some(live) = state.live.as_ref().filter(|live| live.token != *denied) {
            return Some(live.token.clone());
        }
        // Most denials are the policy's. To ask at each whether the token lives would double them.
        let recently = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < self.login.apart);
        if recently(state.tried_at) || recently(state.seen_alive_at) {
            return None;
        }
        match transport.exchange(Operation::Lookup, LookupSelf {}, Some(denied.clone())).await {
            Err(VaultError::Denied { .. }) => {}
            Ok(_) | Err(_) => {
                state.seen_alive_at = Some(Instant::now());
                return None;
            }
        }
        state.live = None;
        match self.log_in(&mut state, transport).await {
            Ok(()) => state.live.as_ref().map(|live| live.token.clone()),
            Err(error) => {
                warn!(login = self.login.way.as_str(), %error, "the token is dead");
                None
            }
        }
    }

    /// Prolongs a token that nothing uses for a while.
    pub async fn tend(&self, transport: &Transport) {
        loop {
            let due_at = self.state.lock().await.live.as_ref().and_then(|live| live.due_at);
            let left = due_at.map_or(LOOKS_APART[1], |due| due.saturating_duration_since(Instant::now()));
            let wait = left.clamp(LOOKS_APART[0], LOOKS_APART[1]);
            // Another token may be due earlier.
            let _ = tokio::time::timeout(wait, transport.life.changed()).await;
            self.prolong_if_due(&mut *self.state.lock().await, transport).await;
        }
    }

    /// Revokes what certd logged in for. A token that is dead already needs no revoking.
    pub async fn close(&self, transport: &Transport) -> Result<(), VaultError> {
        let mut state = self.state.lock().await;
        let live = state.live.take().map(|live| live.token);
        let mut outcome = Ok(());
        for token in live.into_iter().chain(state.former.take()) {
            match transport.exchange(Operation::Revoke, RevokeSelf {}, Some(token)).await {
                Ok(_) | Err(VaultError::Denied { .. }) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    async fn prolong_if_due(&self, state: &mut State, transport: &Transport) {
        let now = Instant::now();
        let Some(live) = state.live.as_mut().filter(|live| live.due_at.is_some_and(|due| due <= now)) else { return };
        if live.renewable {
            match renewed(transport, &live.token).await {
                Ok(granted) => {
                    live.prolong(&granted, now);
                    live.tell(&transport.life);
                    if live.is_prolonged_by(&granted) {
                        return;
                    }
                    // It nears the end that no renewal moves.
                }
                Err(error) if !error.is_decided() => return live.try_again_later(now),
                // It is dead or may not be renewed.
                Err(_) => {}
            }
        }
        live.try_again_later(now);
        let former = live.token.clone();
        // What is there still lives: a login that fails now is tried again, and is told once it matters.
        if self.log_in(state, transport).await.is_ok() {
            state.former = Some(former);
        }
    }

    async fn log_in(&self, state: &mut State, transport: &Transport) -> Result<(), VaultError> {
        if state.tried_at.is_some_and(|at| at.elapsed() < self.login.apart) {
            return Err(self.failed(state.failure.clone()));
        }
        state.tried_at = Some(Instant::now());
        let asked = self.login.ask(transport, &mut state.unwrapped).await;
        match asked.and_then(|granted| Live::new(&granted, self.login.way.as_str())) {
            Ok(live) => {
                live.tell(&transport.life);
                state.live = Some(live);
                state.failure = None;
                Ok(())
            }
            Err(error) => {
                state.failure = Some(Arc::new(error));
                Err(self.failed(state.failure.clone()))
            }
        }
    }

    fn failed(&self, failure: Option<Arc<VaultError>>) -> VaultError {
        let (method, mount) = (self.login.way.as_str(), self.login.mount.clone());
        let apart = self.login.apart.as_secs();
        match failure {
            Some(source) => VaultError::Login { method, mount, apart, source },
            None => VaultError::ShortLived { method, mount, apart },
        }
    }
}

impl Granted {
    fn life(&self) -> Duration {
        Duration::from_secs(self.lease_duration).min(LONGEST_LIFE)
    }
}

impl Live {
    fn new(granted: &Granted, place: &str) -> Result<Self, VaultError> {
        let token = token::header(&granted.client_token, place)?;
        let life = granted.life();
        let mut live = Self { token, renewable: granted.renewable, life, due_at: None, ends_at: None };
        live.prolong(granted, Instant::now());
        Ok(live)
    }

    fn prolong(&mut self, granted: &Granted, now: Instant) {
        let life = granted.life();
        let [first, second, ..] = sha256(self.token.as_bytes());
        self.renewable = granted.renewable;
        self.due_at = (!life.is_zero()).then(|| now + renew_after(life, u16::from_be_bytes([first, second])));
        self.ends_at = (!life.is_zero()).then(|| now + life);
    }

    fn tell(&self, life: &Life) {
        life.heard(self.ends_at.map(|end| end.saturating_duration_since(Instant::now())), self.life);
    }

    /// Vault shortens what would pass the token's last end.
    fn is_prolonged_by(&self, granted: &Granted) -> bool {
        granted.lease_duration == 0 || granted.life() * 2 >= self.life
    }

    fn try_again_later(&mut self, now: Instant) {
        self.due_at = Some(now + (self.life / 20).max(LOOKS_APART[0]));
    }
}

/// Two thirds of a life, and up to a tenth of it earlier: the same for one token, and spread over many.
fn renew_after(life: Duration, spread: u16) -> Duration {
    life * 2 / 3 - life / 10 * u32::from(spread) / u32::from(u16::MAX)
}

async fn renewed(transport: &Transport, token: &HeaderValue) -> Result<Granted, VaultError> {
    let reply = transport.exchange(Operation::Renew, RenewSelf {}, Some(token.clone())).await?;
    granted(&reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_two_thirds_of_its_life_or_up_to_a_tenth_earlier() {
        let hour = Duration::from_secs(3600);
        assert_eq!(renew_after(hour, 0), Duration::from_secs(2400));
        assert_eq!(renew_after(hour, u16::MAX), Duration::from_secs(2040));
        assert_eq!(renew_after(Duration::from_secs(3), u16::MAX), Duration::from_millis(1700));
    }
}
