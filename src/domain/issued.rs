//! What follows from all that one CA issued: for which certificates nobody waits to be renewed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::cert::Certificate;
use super::name::San;
use super::time::Timestamp;

/// A certificate as the CA's own register has it.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    pub certificate: &'a Certificate,
    pub revoked_at: Option<Timestamp>,
}

/// For each, in their order: whether it is revoked, or the CA issued another of the same names, no earlier, that
/// ends later and is not revoked. The end of such a one is no news.
pub fn settled(all: &[Issued]) -> Vec<bool> {
    let mut settled = vec![false; all.len()];
    for mut group in by_names(all).into_values() {
        group.sort_by_key(|i| Reverse(all[*i].certificate.not_before));
        let mut last_end = None;
        for together in group.chunk_by(|a, b| all[*a].certificate.not_before == all[*b].certificate.not_before) {
            let ends = together.iter().filter(|i| all[**i].revoked_at.is_none()).map(|i| all[*i].certificate.not_after);
            last_end = last_end.max(ends.max());
            for i in together {
                let renewed = last_end.is_some_and(|end| end > all[*i].certificate.not_after);
                settled[*i] = renewed || all[*i].revoked_at.is_some();
            }
        }
    }
    settled
}

/// The names in whatever order; where there are none, as in most CA certificates, the subject stands for them.
fn by_names<'a>(all: &[Issued<'a>]) -> BTreeMap<(Vec<&'a San>, &'a str), Vec<usize>> {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (i, issued) in all.iter().enumerate() {
        let mut names: Vec<&San> = issued.certificate.names.iter().collect();
        names.sort();
        names.dedup();
        let subject = if names.is_empty() { issued.certificate.subject.as_str() } else { "" };
        groups.entry((names, subject)).or_default().push(i);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::{DAY, NOW, SECOND, leaf};
    use std::time::Duration;

    /// Begun so long ago, and ending so long from now.
    fn issued(names: &[&str], ago: Duration, left: Duration) -> Certificate {
        Certificate { not_before: NOW.minus(ago), not_after: NOW.plus(left), ..leaf(names) }
    }

    fn settled_of<const N: usize>(all: [&Certificate; N]) -> [bool; N] {
        settled(&all.map(|certificate| Issued { certificate, revoked_at: None })).try_into().unwrap()
    }

    #[test]
    fn the_predecessors_of_a_renewal_are_settled_and_the_last_one_is_not() {
        let [first, second, third] = [60, 30, 1].map(|ago| issued(&["a"], ago * DAY, (90 - ago) * DAY));
        assert_eq!(settled_of([&second, &third, &first]), [true, false, true]);
    }

    #[test]
    fn a_certificate_alone_is_not_settled_and_nothing_is_nothing() {
        assert_eq!(settled_of([&issued(&["a"], DAY, DAY)]), [false]);
        assert_eq!(settled(&[]), Vec::<bool>::new());
    }

    #[test]
    fn other_names_renew_nothing_and_their_order_is_no_difference() {
        let old = issued(&["a", "b"], 60 * DAY, 30 * DAY);
        let new = |names: &[&str]| issued(names, DAY, 89 * DAY);
        assert_eq!(settled_of([&old, &new(&["b", "a"])]), [true, false]);
        assert_eq!(settled_of([&old, &new(&["b", "a", "b"])]), [true, false]);
        assert_eq!(settled_of([&old, &new(&["a"])]), [false, false]);
        assert_eq!(settled_of([&old, &new(&["a", "b", "c"])]), [false, false]);
    }

    #[test]
    fn a_later_one_that_ends_no_later_renews_nothing() {
        let old = issued(&["a"], 60 * DAY, 30 * DAY);
        let ending = |left| settled_of([&old, &issued(&["a"], DAY, left)]);
        assert_eq!(ending(30 * DAY + SECOND), [true, false]);
        assert_eq!(ending(30 * DAY), [false, false]);
        // It is the later one whose end is covered by nothing else.
        assert_eq!(ending(30 * DAY - SECOND), [false, false]);
    }

    #[test]
    fn an_earlier_one_that_ends_later_renews_nothing() {
        let new = issued(&["a"], DAY, 30 * DAY);
        let begun = |ago| settled_of([&new, &issued(&["a"], ago, 300 * DAY)]);
        assert_eq!(begun(DAY + SECOND), [false, false]);
        assert_eq!(begun(DAY), [true, false]);
        assert_eq!(begun(DAY - SECOND), [true, false]);
    }

    #[test]
    fn what_is_revoked_is_settled_and_renews_nothing() {
        let [old, new] = [issued(&["a"], 60 * DAY, 30 * DAY), issued(&["a"], DAY, 89 * DAY)];
        let of = |old_revoked: bool, new_revoked: bool| {
            let revoked = |it: bool| it.then_some(NOW);
            settled(&[
                Issued { certificate: &old, revoked_at: revoked(old_revoked) },
                Issued { certificate: &new, revoked_at: revoked(new_revoked) },
            ])
        };
        assert_eq!(of(false, true), [false, true]);
        assert_eq!(of(true, false), [true, false]);
        assert_eq!(of(true, true), [true, true]);
    }

    #[test]
    fn without_names_the_subject_counts_and_with_names_it_does_not() {
        let named = |subject: &str, names: &[&str], ago: u32| Certificate {
            subject: subject.into(),
            ..issued(names, ago * DAY, (90 - ago) * DAY)
        };
        assert_eq!(settled_of([&named("CN=a", &[], 60), &named("CN=a", &[], 1)]), [true, false]);
        assert_eq!(settled_of([&named("CN=a", &[], 60), &named("CN=b", &[], 1)]), [false, false]);
        assert_eq!(settled_of([&named("CN=a", &["a"], 60), &named("CN=b", &["a"], 1)]), [true, false]);
    }
}
