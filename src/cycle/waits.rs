//! What an issuer asked for, every later certd keeps to, whichever process heard it.

use std::sync::Arc;
use std::time::Duration;

use crate::control::LeftAlone;
use crate::domain::breaker::{self, LONGEST_RETRY_AFTER};
use crate::domain::name::IssuerName;
use crate::domain::plan::JournalView;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::journal::event::Event;
use crate::journal::{Journal, JournalError};

use super::setup::Setup;

/// The wall clock, in which waits are noted, counts in seconds: so much may be lost where one is noted, and recalled.
const TO_THE_SECOND: Duration = Duration::from_secs(1);

impl Setup {
    /// From now on, what issuers ask for is durable before anything else is done.
    pub fn keep_waits(&self, journal: &Arc<Journal>, now: fn() -> Timestamp) {
        self.recall_waits(&journal.view(), now());
        for (name, issuer) in &self.issuers {
            let (journal, name) = (journal.clone(), name.clone());
            issuer.be_heard(Box::new(move |about, wait| {
                if let Err(error) = note(&journal, now(), &name, about, wait) {
                    tracing::error!(issuer = %name, "{}", with_causes(&error));
                }
            }));
        }
    }

    pub fn recall_waits(&self, journal: &JournalView, now: Timestamp) {
        for (name, issuer) in &self.issuers {
            if let Some(wait) = breaker::asked_for(journal, name, now) {
                issuer.recall(None, wait);
            }
            journal.waits.of(name, now).for_each(|(address, wait)| issuer.recall(Some(address), wait));
        }
    }

    /// What a command heard which has perhaps another configuration: of the same servers.
    pub fn is_asked_by(&self, wait: &LeftAlone) -> bool {
        self.server_of(&wait.issuer).is_some_and(|server| Some(server) == wait.server)
    }

    fn server_of(&self, issuer: &IssuerName) -> Option<String> {
        self.acme(issuer).map(|acme| acme.account.directory.clone())
    }

    /// Which issuers ask to be left alone for longer than is noted, for who has no journal to note it in.
    pub fn unnoted_waits(&self, journal: &JournalView, now: Timestamp) -> Vec<LeftAlone> {
        let unnoted = |name: &IssuerName, wait: &Duration| {
            breaker::asked_for(journal, name, now).unwrap_or_default() + 2 * TO_THE_SECOND < *wait
        };
        let quiet = self.issuers.iter().filter_map(|(name, issuer)| Some((name, issuer.quiet()?)));
        let quiet = quiet.filter(|(name, wait)| unnoted(name, wait));
        quiet
            .map(|(name, wait)| LeftAlone {
                issuer: name.clone(),
                server: self.server_of(name),
                until: until(now, wait + TO_THE_SECOND),
            })
            .collect()
    }
}

/// No wait that is further ahead would be believed.
fn until(now: Timestamp, wait: Duration) -> Timestamp {
    now.plus((wait + TO_THE_SECOND).min(LONGEST_RETRY_AFTER))
}

fn note(
    journal: &Journal,
    now: Timestamp,
    issuer: &IssuerName,
    about: Option<&str>,
    wait: Duration,
) -> Result<(), JournalError> {
    let until = until(now, wait);
    match about {
        Some(address) => journal.note_wait(now, issuer, address, until),
        None => journal.append(now, None, Event::LeftAlone { issuer: issuer.clone(), until }),
    }
}
