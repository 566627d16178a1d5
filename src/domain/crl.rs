//! A certificate revocation list, and what is wrong with it.

use super::cert::SignatureAlgorithm;
use super::check::{Problem, ProblemKind};
use super::policy::Share;
use super::time::Timestamp;

/// Vault makes the next list when a sixth of the life of one is left (12 of 72 hours); this is well after that.
const LATE: Share = Share::one_in(10);

/// What RFC 5280, section 5 has of a list, but for the serial numbers in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// RFC 4514 text.
    pub issuer: String,
    pub issuer_cn: Option<String>,
    /// Lower-case hexadecimal; `None` where it has none.
    pub number: Option<String>,
    pub this_update: Timestamp,
    /// By when the next list is due; some CAs leave it out, against the RFC.
    pub next_update: Option<Timestamp>,
    /// How many certificates it names.
    pub revoked: usize,
    pub signature: SignatureAlgorithm,
    /// Whether its signature is that of the CA it lies with.
    pub is_signed: bool,
}

/// Everything wrong with a list, in a fixed order.
pub fn check(now: Timestamp, crl: &Crl) -> Vec<Problem> {
    let forged = || Problem::critical(ProblemKind::Chain, "the CA that it lies with did not sign this list");
    let weak = || Problem::warning(ProblemKind::WeakSignature, format!("signed with {}", crl.signature));
    [currency(now, crl), (!crl.is_signed).then(forged), crl.signature.is_weak().then(weak)]
        .into_iter()
        .flatten()
        .collect()
}

/// A client that finds the next update passed must take the list for outdated (RFC 5280, section 6.3.3).
fn currency(now: Timestamp, crl: &Crl) -> Option<Problem> {
    if now < crl.this_update {
        let message = format!("this list is of the future: {}", crl.this_update);
        return Some(Problem::critical(ProblemKind::NotYetValid, message));
    }
    let next = crl.next_update?;
    let remedy = "`crl/rotate` of the mount makes one, and `auto_rebuild` in its `config/crl` keeps making them";
    if now > next {
        let message = format!("the next list was due by {next}: {remedy}");
        return Some(Problem::critical(ProblemKind::Expired, message));
    }
    let late = next.minus(LATE.of(crl.this_update.until(next)));
    let message = || format!("the next list is due by {next} and late: {remedy}");
    (now >= late).then(|| Problem::warning(ProblemKind::Expiring, message()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::Severity;
    use crate::domain::sample::{NOW, SECOND, crl};
    use std::time::Duration;

    fn problems(crl: &Crl) -> Vec<(ProblemKind, Severity)> {
        check(NOW, crl).iter().map(|problem| (problem.problem, problem.severity)).collect()
    }

    const HOUR: Duration = Duration::from_secs(3_600);
    const CRITICAL: Severity = Severity::Critical;
    const WARNING: Severity = Severity::Warning;

    /// Of 72 hours.
    fn with_left(left: Duration) -> Vec<(ProblemKind, Severity)> {
        let next = NOW.plus(left);
        problems(&Crl { this_update: next.minus(72 * HOUR), next_update: Some(next), ..crl() })
    }

    #[test]
    fn a_list_that_is_replaced_in_time_has_no_problem() {
        assert_eq!(problems(&crl()), []);
        assert_eq!(with_left(72 * HOUR), []);
        // The earliest that Vault makes the next one.
        assert_eq!(with_left(12 * HOUR), []);
    }

    #[test]
    fn it_is_late_from_a_tenth_of_its_life_and_outdated_the_second_after_its_end() {
        let tenth = 72 * HOUR / 10;
        assert_eq!(with_left(tenth + SECOND), []);
        assert_eq!(with_left(tenth), [(ProblemKind::Expiring, WARNING)]);
        assert_eq!(with_left(SECOND), [(ProblemKind::Expiring, WARNING)]);
        assert_eq!(with_left(Duration::ZERO), [(ProblemKind::Expiring, WARNING)]);
        let passed = Crl { next_update: Some(NOW.minus(SECOND)), ..crl() };
        assert_eq!(problems(&passed), [(ProblemKind::Expired, CRITICAL)]);
    }

    #[test]
    fn what_is_said_names_the_instant_and_what_makes_a_new_list() {
        let passed = check(NOW, &Crl { next_update: Some(NOW.minus(SECOND)), ..crl() }).remove(0).message;
        assert!(passed.starts_with("the next list was due by 2027-01-15T07:59:59Z: `crl/rotate`"), "{passed}");
    }

    #[test]
    fn a_list_of_the_future_is_not_in_force() {
        let from = |this_update| problems(&Crl { this_update, ..crl() });
        assert_eq!(from(NOW), []);
        assert_eq!(from(NOW.plus(SECOND)), [(ProblemKind::NotYetValid, CRITICAL)]);
    }

    #[test]
    fn a_list_without_a_next_update_is_never_late() {
        assert_eq!(problems(&Crl { next_update: None, ..crl() }), []);
    }

    #[test]
    fn a_list_that_its_ca_did_not_sign_or_signed_weakly_is_told() {
        assert_eq!(problems(&Crl { is_signed: false, ..crl() }), [(ProblemKind::Chain, CRITICAL)]);
        let weak = Crl { signature: SignatureAlgorithm("rsa-sha1".into()), ..crl() };
        assert_eq!(problems(&weak), [(ProblemKind::WeakSignature, WARNING)]);
    }
}
