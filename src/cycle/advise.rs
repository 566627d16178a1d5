//! Asks the CAs of what certd keeps when they would have it renewed (RFC 9773), no more often than they wish.

use std::time::Duration;

use crate::domain::advice::{Advice, MOST_RARELY, asked_again_after};
use crate::domain::breaker;
use crate::domain::cert::Certificate;
use crate::domain::inventory::Inventory;
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::{JournalView, Managed};
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::issuer::Issuer;
use crate::issuer::acme::{Acme, ari};
use crate::journal::Journal;
use crate::journal::event::Event;

use super::setup::Setup;
use super::troubles::Troubles;

/// A turn waits for them one after the other; the next turn asks for the others.
const MOST_IN_A_TURN: usize = 100;

/// What a server asks for itself is obeyed beside it.
const AFTER_A_FAILURE: Duration = Duration::from_secs(60 * 60);

struct Asked {
    /// When it may be asked again.
    again: Timestamp,
    /// Whether the CA knows the certificate, as far as that could be learned.
    is_known: bool,
}

pub struct Advising<'a> {
    pub setup: &'a Setup,
    pub journal: &'a Journal,
    pub view: &'a JournalView,
    pub inventory: &'a Inventory,
    pub now: Timestamp,
}

impl Advising<'_> {
    pub async fn run(&self, managed: &[Managed], troubles: &mut Troubles) {
        let mut most = MOST_IN_A_TURN;
        for managed in managed {
            let issuers = self.setup.issuers_of(managed);
            let cas: Vec<_> = issuers.iter().filter_map(|(name, issuer)| self.may_be_asked(name, issuer)).collect();
            let leaf = self.inventory.at(&managed.location).and_then(|seen| seen.sighting.leaf());
            let Some(leaf) = leaf.filter(|leaf| !cas.is_empty() && self.is_to_be_asked(&managed.name, leaf)) else {
                continue;
            };
            for (name, acme) in cas {
                let Some(left) = most.checked_sub(1) else { return };
                most = left;
                let asked = self.ask(acme, managed, leaf).await.unwrap_or_else(|why| {
                    troubles.meet(format!("renewal information of {name}"), why);
                    Asked { again: self.now.plus(AFTER_A_FAILURE), is_known: true }
                });
                if let Err(error) = self.journal.note_asked_for_advice(&managed.name, leaf.fingerprint, asked.again) {
                    return troubles.meet("the journal".to_string(), with_causes(&error));
                }
                // What one CA does not know may be of the next.
                if asked.is_known {
                    break;
                }
            }
        }
    }

    fn may_be_asked<'i>(&self, name: &'i IssuerName, issuer: &'i Issuer) -> Option<(&'i IssuerName, &'i Acme)> {
        let Issuer::Acme(acme) = issuer else { return None };
        let is_quiet = breaker::asked_for(self.view, name, self.now).is_some() || acme.http.quiet().is_some();
        (!is_quiet).then_some((name, &**acme))
    }

    /// Of what has ended no CA has anything to say (section 4.3.3).
    fn is_to_be_asked(&self, name: &CertName, leaf: &Certificate) -> bool {
        let is_early = match self.journal.asked_for_advice(name) {
            // What lies further ahead than any wait was noted by a clock that was wrong.
            Ok(Some((about, again))) => {
                about == leaf.fingerprint && self.now < again && self.now.until(again) <= MOST_RARELY
            }
            Ok(None) => false,
            Err(_) => true,
        };
        self.now < leaf.not_after && !is_early
    }

    async fn ask(&self, acme: &Acme, managed: &Managed, leaf: &Certificate) -> Result<Asked, String> {
        let said = match ari::ask(acme, leaf).await {
            Ok(said) => said,
            Err(error) => return Err(with_causes(&error)),
        };
        let again = self.now.plus(asked_again_after(said.as_ref().and_then(|said| said.retry_after)));
        let Some(said) = said else { return Ok(Asked { again, is_known: false }) };
        let Some(window) = said.window else {
            return Err(
                "the CA's window ends before it begins: the certificate is renewed by its own policy".to_string()
            );
        };
        let advice = Advice { fingerprint: leaf.fingerprint, window, explanation: said.explanation };
        self.note(managed, advice)?;
        Ok(Asked { again, is_known: true })
    }

    fn note(&self, managed: &Managed, advice: Advice) -> Result<(), String> {
        let before = self.view.records.get(&managed.name).and_then(|record| record.advice.as_ref());
        if before == Some(&advice) {
            return Ok(());
        }
        let known = before.filter(|before| before.fingerprint == advice.fingerprint);
        if known.is_some_and(|before| advice.window.moves_earlier_than(before.window)) {
            let (start, end) = (advice.window.start(), advice.window.end());
            let why = advice.explanation.as_deref().unwrap_or("(the CA does not say why)");
            tracing::warn!(cert = %managed.name, start = %start, end = %end, "its CA would have it renewed earlier than before: {why}");
        }
        let noted = self.journal.append(self.now, Some(&managed.name), Event::Advised(advice));
        noted.map_err(|error| with_causes(&error))
    }
}
