//! Whether the server answers, can work, and has the same time as this host.

use std::time::Duration;

use super::finding::{About, Findings};
use crate::domain::time::Timestamp;
use crate::report::span;
use crate::vault::Vault;
use crate::vault::inspect::Health;

/// Vault begins a certificate this much before it signs it (`not_before_duration` of a role).
const MOST_APART: Duration = Duration::from_secs(30);

/// Whether it can be asked for more.
pub(super) async fn examine(vault: &Vault, now: fn() -> Timestamp, findings: &mut Findings) -> bool {
    let asked_at = now();
    match vault.health().await {
        Err(error) => {
            let what = error.obstacle("ask for the state of the server").message;
            findings.unknown(About::Server, what, "check the address, the network and ca_file, or start the server");
            false
        }
        Ok(health) => {
            let is_well = state(vault, &health, findings);
            if is_well {
                clock(asked_at, health.time, now(), findings);
            }
            is_well
        }
    }
}

fn state(vault: &Vault, health: &Health, findings: &mut Findings) -> bool {
    let server = format!("the server {} at {}", health.version, vault.address());
    match health {
        Health { initialized: false, .. } => {
            findings.critical(About::Server, format!("{server} was not initialised"), "initialise it, and unseal it");
        }
        Health { sealed: true, .. } => {
            findings.critical(About::Server, format!("{server} is sealed"), "unseal it");
        }
        Health { standby: true, .. } => {
            findings.ok(About::Server, format!("{server} answers, as a standby of the active one"));
        }
        Health { .. } => findings.ok(About::Server, format!("{server} answers, and is the active one")),
    }
    health.initialized && !health.sealed
}

/// The server read its clock at some time between the request and its answer.
fn clock(asked_at: Timestamp, server: Timestamp, answered_at: Timestamp, findings: &mut Findings) {
    let (ahead, behind) = (answered_at.until(server), server.until(asked_at));
    let apart = ahead.max(behind);
    let what = match (ahead.is_zero(), behind.is_zero()) {
        (true, true) => "this host and the server have the same time".to_string(),
        (false, _) => format!("the server's clock is {} ahead of this host's", span(ahead)),
        (true, false) => format!("the server's clock is {} behind this host's", span(behind)),
    };
    match apart <= MOST_APART {
        true => findings.ok(About::Clock, what),
        false => {
            let advice = "set both by NTP: what is signed may be refused here as not yet valid, or end too soon";
            findings.warning(About::Clock, what, advice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::State;

    #[test]
    fn a_clock_is_off_by_what_the_way_of_the_question_does_not_explain() {
        for (asked, server, answered, state, what) in [
            (100, 100, 100, State::Ok, "this host and the server have the same time"),
            (100, 105, 109, State::Ok, "this host and the server have the same time"),
            (100, 130, 100, State::Ok, "the server's clock is 30 s ahead of this host's"),
            (100, 131, 100, State::Warning, "the server's clock is 31 s ahead of this host's"),
            (100, 70, 105, State::Ok, "the server's clock is 30 s behind this host's"),
            (100, 69, 105, State::Warning, "the server's clock is 31 s behind this host's"),
            (100_000, 0, 100_000, State::Warning, "the server's clock is 27 h behind this host's"),
        ] {
            let mut findings = Findings::new(&"main".into());
            clock(Timestamp(asked), Timestamp(server), Timestamp(answered), &mut findings);
            let found = &findings.all[0];
            assert_eq!((found.state, found.what.as_str()), (state, what), "{asked} {server} {answered}");
        }
    }
}
