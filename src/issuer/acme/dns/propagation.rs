//! The wait until every authoritative server of a zone shows what was put there: a CA may ask any of them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use hickory_proto::rr::Name;
use tokio::time::{Instant, sleep_until};

use super::exchange::Unanswered;
use super::lookup::{Authority, shown, texts};
use crate::domain::text::with_causes;

/// Most primaries tell their secondaries at once; the others are not to be pressed.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const CONCURRENCY: usize = 16;

/// What has to be shown, and by whom.
#[derive(Default)]
pub(super) struct Watch(Vec<Watched>);

/// One address of one server, for one name.
struct Watched {
    owner: Name,
    values: BTreeSet<String>,
    /// The number of its server: one server may have several addresses.
    server: usize,
    shown_as: String,
    address: SocketAddr,
    state: State,
}

enum State {
    Missing,
    Unanswered(Unanswered),
    Shown,
}

/// A server that does not show a challenge, or that could not be asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotShown {
    pub owner: String,
    /// With its address.
    pub server: String,
    /// Where it could not be asked.
    pub obstacle: Option<String>,
}

impl fmt::Display for NotShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, server, obstacle } = self;
        match obstacle {
            None => write!(f, "{server} does not show {owner} yet"),
            Some(obstacle) => write!(f, "{server} could not be asked for {owner} ({obstacle})"),
        }
    }
}

impl Watch {
    pub fn add(&mut self, owner: &Name, values: BTreeSet<String>, authorities: &[Authority]) {
        for authority in authorities {
            let server = self.0.last().map_or(0, |last| last.server + 1);
            self.0.extend(authority.addresses.iter().map(|address| Watched {
                owner: owner.clone(),
                values: values.clone(),
                server,
                shown_as: match &authority.name {
                    Some(name) => format!("{name} ({address})"),
                    None => address.to_string(),
                },
                address: *address,
                state: State::Missing,
            }));
        }
    }

    /// The servers that still do not show it when the time is up, where there are any. The last look begins then.
    pub async fn within(mut self, time: Duration) -> Result<(), Vec<NotShown>> {
        let deadline = Instant::now() + time;
        let mut pause = FIRST_PAUSE;
        loop {
            let is_last = Instant::now() >= deadline;
            self.look().await;
            crate::pulse::beat();
            let not_shown = self.not_shown();
            if not_shown.is_empty() {
                return Ok(());
            }
            if is_last {
                return Err(not_shown);
            }
            sleep_until((Instant::now() + pause).min(deadline)).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    async fn look(&mut self) {
        let waiting = self.0.iter_mut().filter(|watched| !matches!(watched.state, State::Shown));
        stream::iter(waiting).for_each_concurrent(CONCURRENCY, Watched::look).await;
    }

    /// An address that this host has no way to is passed over where its server shows it at another one.
    fn not_shown(&self) -> Vec<NotShown> {
        let showing = |state: &State| matches!(state, State::Shown);
        let shows_elsewhere = |one: &Watched| self.0.iter().any(|it| it.server == one.server && showing(&it.state));
        let is_waited_for = |one: &&Watched| match &one.state {
            State::Shown => false,
            State::Missing => true,
            State::Unanswered(why) => !(why.is_out_of_reach() && shows_elsewhere(one)),
        };
        self.0.iter().filter(is_waited_for).map(Watched::told).collect()
    }
}

impl Watched {
    async fn look(&mut self) {
        self.state = match texts(self.address, &self.owner).await {
            Ok(texts) if self.values.is_subset(&texts) => State::Shown,
            Ok(_) => State::Missing,
            Err(why) => State::Unanswered(why),
        };
    }

    fn told(&self) -> NotShown {
        let obstacle = match &self.state {
            State::Missing | State::Shown => None,
            State::Unanswered(why) => Some(with_causes(why)),
        };
        NotShown { owner: shown(&self.owner), server: self.shown_as.clone(), obstacle }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::issuer::acme::dns::lookup::name;

    const SHOWN: fn() -> State = || State::Shown;
    const MISSING: fn() -> State = || State::Missing;
    const SILENT: fn() -> State = || State::Unanswered(Unanswered::Silent);
    const NO_WAY: fn() -> State =
        || State::Unanswered(Unanswered::Unreachable(io::ErrorKind::NetworkUnreachable.into()));

    /// Two servers with an IPv4 and an IPv6 address each, and who of them is waited for.
    fn waited_for(states: [fn() -> State; 4]) -> Vec<String> {
        let authority = |name: &str, addresses: [&str; 2]| Authority {
            name: Some(name.to_string()),
            addresses: addresses.map(|address| address.parse().unwrap()).to_vec(),
        };
        let authorities = [
            authority("a", ["192.0.2.1:53", "[2001:db8::1]:53"]),
            authority("b", ["192.0.2.2:53", "[2001:db8::2]:53"]),
        ];
        let mut watch = Watch::default();
        watch.add(&name("_acme-challenge.example.org").unwrap(), ["value".to_string()].into(), &authorities);
        watch.0.iter_mut().zip(states).for_each(|(watched, state)| watched.state = state());
        watch.not_shown().into_iter().map(|not_shown| not_shown.server).collect()
    }

    #[test]
    fn every_address_of_every_server_is_waited_for() {
        assert_eq!(waited_for([SHOWN, SHOWN, SHOWN, SHOWN]), [""; 0]);
        assert_eq!(waited_for([SHOWN, MISSING, SHOWN, SILENT]), ["a ([2001:db8::1]:53)", "b ([2001:db8::2]:53)"]);
    }

    #[test]
    fn an_address_without_a_way_to_it_is_passed_over_where_its_own_server_shows_it_elsewhere() {
        assert_eq!(waited_for([SHOWN, NO_WAY, SHOWN, NO_WAY]), [""; 0]);
        assert_eq!(waited_for([SHOWN, SHOWN, NO_WAY, NO_WAY]), ["b (192.0.2.2:53)", "b ([2001:db8::2]:53)"]);
        assert_eq!(waited_for([SHOWN, NO_WAY, MISSING, NO_WAY]), ["b (192.0.2.2:53)", "b ([2001:db8::2]:53)"]);
    }

    #[test]
    fn what_is_not_shown_is_told_with_the_reason() {
        let told = |obstacle: Option<&str>| {
            let (owner, server) = ("_acme-challenge.example.org".to_string(), "ns (192.0.2.1:53)".to_string());
            NotShown { owner, server, obstacle: obstacle.map(str::to_string) }.to_string()
        };
        assert_eq!(told(None), "ns (192.0.2.1:53) does not show _acme-challenge.example.org yet");
        assert_eq!(
            told(Some("it answered SERVFAIL")),
            "ns (192.0.2.1:53) could not be asked for _acme-challenge.example.org (it answered SERVFAIL)"
        );
    }
}
