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
