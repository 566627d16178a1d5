//! What the server was asked, when, and how long its answer told the client to wait.

use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

use super::script::Kind;

/// Longer than any story, so that what a CA may ask for can be added to a clock.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub clock: Timestamp,
    pub method: String,
    pub path: String,
    pub kind: Kind,
    pub user_agent: String,
    /// What was signed, unverified; null for a GET and a POST-as-GET.
    pub payload: Value,
    /// Of the answer, where there was one.
    pub status: Option<u16>,
    /// Of the answer, as its header has it.
    pub retry_after: Option<String>,
    pub answered: Option<Instant>,
    /// What the header comes to, where it can be understood.
    pub wait_until: Option<Instant>,
    /// It was refused by a limit of the names that it orders.
    pub is_of_names: bool,
}

impl Seen {
    pub fn answer(&mut self, status: u16, retry_after: Option<&str>) {
        let now = Instant::now();
        (self.status, self.answered) = (Some(status), Some(now));
        self.retry_after = retry_after.map(str::to_string);
        self.wait_until = retry_after.and_then(wait).map(|wait| now + wait);
    }

    /// A refusal is about the whole server, but for a limit of certain names; what came with a success is about the same
    /// thing.
    fn forbids(&self, other: &Self) -> bool {
        let (Some(answered), Some(until)) = (self.answered, self.wait_until) else { return false };
        let is_meant = match self.is_of_names {
            true => (&self.path, &self.payload) == (&other.path, &other.payload),
            false => self.status.is_some_and(|status| status >= 400) || self.path == other.path,
        };
        is_meant && (answered..until).contains(&other.at)
    }
}

/// Those that came before the moment that an earlier answer had named.
pub fn inside_retry_after(log: &[Seen]) -> Vec<Seen> {
    log.iter().filter(|seen| log.iter().any(|earlier| earlier.forbids(seen))).cloned().collect()
}

fn wait(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u128>() {
        return Some(u64::try_from(seconds).map_or(LONGEST_WAIT, Duration::from_secs).min(LONGEST_WAIT));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST_WAIT))
}
