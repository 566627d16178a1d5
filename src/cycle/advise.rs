//! Asks the CAs of what certd keeps when they would have it renewed (RFC 9773), no more often than they wish.

use std::collections::BTreeMap;

use crate::domain::advice::{Advice, asked_again_after};
use crate::domain::breaker;
use crate::domain::cert::{Certificate, Fingerprint};
use crate::domain::inventory::Inventory;
use crate::domain::name::CertName;
use crate::domain::plan::Managed;
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

/// When each is to be asked about again.
pub type Asked = BTreeMap<CertName, (Fingerprint, Timestamp)>;

pub struct Advising<'a> {
    pub setup: &'a Setup,
    pub journal: &'a Journal,
    pub inventory: &'a Inventory,
    pub now: Timestamp,
}

impl Advising<'_> {
    pub async fn run(&self, managed: &[Managed], asked: &mut Asked, troubles: &mut Troubles) {
        asked.retain(|name, _| managed.iter().any(|managed| managed.name == *name));
        let mut most = MOST_IN_A_TURN;
        for managed in managed {
            let leaf = self.inventory.at(&managed.location).and_then(|seen| seen.sighting.leaf());
            let Some(leaf) = leaf.filter(|leaf| self.is_to_be_asked(&managed.name, leaf, asked)) else { continue };
            for (name, issuer) in self.setup.issuers_of(managed) {
                let Issuer::Acme(acme) = issuer.as_ref() else { continue };
                if breaker::asked_for(&self.journal.view(), &name, self.now).is_some() || acme.http.quiet().is_some() {
                    continue;
                }
                let Some(left) = most.checked_sub(1) else { return };
                most = left;
                let again = self.ask(acme, managed, leaf).await.unwrap_or_else(|why| {
                    troubles.meet(format!("renewal information of {name}"), why);
                    self.now.plus(asked_again_after(None))
                });
                asked.insert(managed.name.clone(), (leaf.fingerprint, again));
                break;
            }
        }
    }

    /// Of what has ended no CA has anything to say (section 4.3.3).
    fn is_to_be_asked(&self, name: &CertName, leaf: &Certificate, asked: &Asked) -> bool {
        let is_early = asked.get(name).is_some_and(|(of, again)| *of == leaf.fingerprint && self.now < *again);
        self.now < leaf.not_after && !is_early
    }

    /// When to ask again.
    async fn ask(&self, acme: &Acme, managed: &Managed, leaf: &Certificate) -> Result<Timestamp, String> {
        let said = match ari::ask(acme, leaf).await {
            Ok(said) => said,
            Err(error) => return Err(with_causes(&error)),
        };
        let again = self.now.plus(asked_again_after(said.as_ref().and_then(|said| said.retry_after)));
        let Some(said) = said else { return Ok(again) };
        let Some(window) = said.window else {
            return Err(
                "the CA's window ends before it begins: the certificate is renewed by its own policy".to_string()
            );
        };
        let advice = Advice { fingerprint: leaf.fingerprint, window, explanation: said.explanation };
        self.note(managed, advice)?;
        Ok(again)
    }

    fn note(&self, managed: &Managed, advice: Advice) -> Result<(), String> {
        let view = self.journal.view();
        let before = view.records.get(&managed.name).and_then(|record| record.advice.as_ref());
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
