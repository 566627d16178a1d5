//! Which of a certificate's issuers may be asked now: the first, and the others once time is short.

use super::cert::Certificate;
use super::name::IssuerName;
use super::plan::{Managed, Reason};
use super::time::Timestamp;

/// In order of preference.
pub fn in_question<'a>(
    managed: &'a Managed,
    reason: Reason,
    leaf: Option<&Certificate>,
    now: Timestamp,
) -> &'a [IssuerName] {
    let most = if is_short(managed, reason, leaf, now) { managed.issuers.len() } else { 1 };
    &managed.issuers[..most.min(managed.issuers.len())]
}

/// Whether what is there cannot wait for the first issuer: it is of no use, or half of the time between when it is due
/// and its end has passed.
fn is_short(managed: &Managed, reason: Reason, leaf: Option<&Certificate>, now: Timestamp) -> bool {
    match (reason, leaf) {
        (Reason::Due | Reason::Advised | Reason::Forced | Reason::KeyTypeChanged, Some(leaf)) => {
            let due = managed.spec.renewal.due_at(leaf);
            due.plus(due.until(leaf.not_after) / 2) <= now
        }
        (Reason::Missing | Reason::KeyMismatch | Reason::NamesChanged, _) => true,
        (Reason::Untrusted | Reason::Revoked | Reason::NotYetValid, _) => true,
        (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{RenewalPolicy, Threshold};
    use crate::domain::sample::{DAY, NOW, SECOND, leaf, managed};

    /// Due four days before its end.
    fn two_issuers() -> Managed {
        let mut managed = managed("a.example.org");
        managed.issuers = vec!["first".into(), "second".into()];
        managed.spec.renewal = RenewalPolicy(Some(Threshold::Left(4 * DAY)));
        managed
    }

    fn asked(reason: Reason, now: Timestamp) -> usize {
        let leaf = Certificate { not_before: NOW, not_after: NOW.plus(90 * DAY), ..leaf(&["a.example.org"]) };
        in_question(&two_issuers(), reason, Some(&leaf), now).len()
    }

    #[test]
    fn the_second_is_asked_once_half_of_what_is_left_when_it_is_due_has_passed() {
        let leaf = Certificate { not_before: NOW, not_after: NOW.plus(90 * DAY), ..leaf(&["a.example.org"]) };
        let due = two_issuers().spec.renewal.due_at(&leaf);
        let half = due.plus(due.until(leaf.not_after) / 2);
        for reason in [Reason::Due, Reason::Advised, Reason::Forced, Reason::KeyTypeChanged] {
            assert_eq!(asked(reason, NOW), 1, "{reason:?}");
            assert_eq!(asked(reason, half.minus(SECOND)), 1, "{reason:?}");
            assert_eq!(asked(reason, half), 2, "{reason:?}");
        }
    }

    #[test]
    fn what_is_of_no_use_waits_for_nobody() {
        let reasons = [Reason::Missing, Reason::KeyMismatch, Reason::NamesChanged];
        for reason in reasons.into_iter().chain([Reason::Untrusted, Reason::Revoked, Reason::NotYetValid]) {
            assert_eq!(asked(reason, NOW), 2, "{reason:?}");
        }
        assert_eq!(in_question(&two_issuers(), Reason::Due, None, NOW).len(), 2);
        assert_eq!(in_question(&managed_by_nobody(), Reason::Due, None, NOW).len(), 0);
    }

    fn managed_by_nobody() -> Managed {
        Managed { issuers: Vec::new(), ..two_issuers() }
    }
}
