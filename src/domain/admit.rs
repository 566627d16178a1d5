//! How much of what is planned one turn may do, and in which order: shared fairly by rule, owner and folder, so that nobody
//! who has a thousand due certificates delays those of others.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::cert::Chain;
use super::inventory::{Inventory, Location};
use super::name::CertName;
use super::plan::{Action, Decision, Deferral, Demand, JournalView, Managed, Reason};
use super::policy::Share;
use super::time::Timestamp;

/// What is about to end does not count, but its number is bounded, too: so many times what a turn may renew.
const URGENT_TIMES: usize = 10;

/// With less than this part of its lifetime left a certificate is about to end.
const LAST: Share = Share::one_in(20);

/// Folders that lie deeper share as if they lay side by side.
const DEEPEST: usize = 16;

/// A turn, as far as it bounds renewals.
pub struct Turn<'a> {
    pub now: Timestamp,
    /// When the next one begins.
    pub next: Timestamp,
    /// So many renewals.
    pub most: usize,
    pub inventory: &'a Inventory,
    pub journal: &'a JournalView,
    pub requested: &'a BTreeMap<CertName, Demand>,
}

/// What the turn does.
pub struct Admitted {
    /// One for each managed certificate, in their order.
    pub decisions: Vec<Decision>,
    /// The renewals, as indices of decisions, in the order in which they are carried out.
    pub order: Vec<usize>,
}

/// Admits at most `most` renewals, and beside them what is about to end. What a person asked for comes first, then what is
/// about to end, then the others, each shared fairly.
pub fn admit(managed: &[Managed], mut decisions: Vec<Decision>, turn: &Turn) -> Admitted {
    let mut order = Vec::new();
    let (mut most, mut most_urgent) = (turn.most, turn.most.saturating_mul(URGENT_TIMES));
    for (nth, is_urgent) in in_turn(managed, &decisions, turn) {
        let budget = if is_urgent { &mut most_urgent } else { &mut most };
        if *budget > 0 {
            *budget -= 1;
            order.push(nth);
        } else if let Action::Renew { reason } = decisions[nth].action {
            decisions[nth].action = Action::Defer { until: turn.next, reason: Deferral::Cap, renew: reason };
        }
    }
    Admitted { decisions, order }
}

/// Returns all renewals in the order in which they come, and which of them are urgent.
fn in_turn(managed: &[Managed], decisions: &[Decision], turn: &Turn) -> Vec<(usize, bool)> {
    let mut all = Group::default();
    for (nth, (managed, decision)) in managed.iter().zip(decisions).enumerate() {
        if let Action::Renew { reason } = decision.action {
            let is_asked_for = turn.requested.contains_key(&managed.name);
            let renewal = Renewal {
                nth,
                class: Class { is_not_asked_for: !is_asked_for, is_not_urgent: !turn.is_urgent(managed, reason) },
                rank: turn.rank(managed),
            };
            all.add(&path(managed), renewal);
        }
    }
    for managed in managed {
        let tried = turn.journal.records.get(&managed.name).and_then(|record| record.tried);
        all.note_tried(&path(managed), tried);
    }
    let classes = Class::ALL.iter();
    classes.flat_map(|class| all.shared(*class).into_iter().map(|(_, nth)| (nth, !class.is_not_urgent))).collect()
}

/// Those that are `false` come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    is_not_asked_for: bool,
    is_not_urgent: bool,
}

impl Class {
    const ALL: [Self; 4] = [
        Self { is_not_asked_for: false, is_not_urgent: false },
        Self { is_not_asked_for: false, is_not_urgent: true },
        Self { is_not_asked_for: true, is_not_urgent: false },
        Self { is_not_asked_for: true, is_not_urgent: true },
    ];
}

/// Within its folder the least comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The place is empty.
    Missing,
    /// It ends then.
    Lives(Timestamp),
    /// It ended so long ago.
    Ended(Duration),
}

impl Turn<'_> {
    fn rank(&self, managed: &Managed) -> Rank {
        match self.chain(managed).map(|chain| chain.usable().until) {
            None => Rank::Missing,
            Some(end) if self.now < end => Rank::Lives(end),
            Some(end) => Rank::Ended(end.until(self.now)),
        }
    }

    /// It ends before the turn after the next one or within a twentieth of its lifetime, no server can use it although it
    /// lives, or a CA has signed for it already.
    fn is_urgent(&self, managed: &Managed, reason: Reason) -> bool {
        if self.journal.records.get(&managed.name).is_some_and(|record| record.issued) {
            return true;
        }
        let Some(chain) = self.chain(managed).filter(|chain| self.now < chain.usable().until) else { return false };
        let (end, after_next) = (chain.usable().until, self.next.plus(self.now.until(self.next)));
        let is_useless = matches!(reason, Reason::Revoked | Reason::KeyMismatch);
        is_useless || end <= after_next || self.now.until(end) <= LAST.of(chain.leaf.lifetime())
    }

    fn chain(&self, managed: &Managed) -> Option<&Chain> {
        self.inventory.at(&managed.location)?.sighting.chain()
    }
}

/// Returns the groups that a certificate is in, the widest first: its rule, its owner, and each folder down to its own.
fn path(managed: &Managed) -> Vec<&str> {
    let (kind, folder) = match &managed.location {
        Location::Secret { vault, path, .. } => {
            (vault.0.as_str(), path.rsplit_once('/').map_or("", |(folder, _)| folder))
        }
        Location::File { path, .. } => ("", path.parent().and_then(Path::to_str).unwrap_or_default()),
        Location::Endpoint { .. } | Location::Pki { .. } | Location::Listing { .. } => ("", ""),
    };
    let head = [managed.rule.as_deref().unwrap_or_default(), managed.owner.as_deref().unwrap_or_default(), kind];
    head.into_iter().chain(folder.splitn(DEEPEST, '/')).collect()
}

#[derive(Debug)]
struct Renewal {
    nth: usize,
    class: Class,
    rank: Rank,
}

/// Renewals that share one turn among several: a rule, an owner, or a folder with what is in it and its subfolders.
#[derive(Debug, Default)]
struct Group<'a> {
    own: Vec<Renewal>,
    within: BTreeMap<&'a str, Group<'a>>,
    /// When certd last worked on one of its certificates, or of those right in it.
    tried: Option<Timestamp>,
    own_tried: Option<Timestamp>,
}

impl<'a> Group<'a> {
    fn add(&mut self, path: &[&'a str], renewal: Renewal) {
        match path {
            [] => self.own.push(renewal),
            [first, rest @ ..] => self.within.entry(first).or_default().add(rest, renewal),
        }
    }

    /// Groups without a renewal need none.
    fn note_tried(&mut self, path: &[&'a str], tried: Option<Timestamp>) {
        self.tried = self.tried.max(tried);
        match path {
            [] => self.own_tried = self.own_tried.max(tried),
            [first, rest @ ..] => {
                if let Some(within) = self.within.get_mut(first) {
                    within.note_tried(rest, tried);
                }
            }
        }
    }

    /// Returns the renewals of a class. Each group has one in turn, and first the one that has waited for longest.
    fn shared(&self, class: Class) -> Vec<(Rank, usize)> {
        let own = self.own.iter().filter(|renewal| renewal.class == class);
        let mut own: Vec<(Rank, usize)> = own.map(|renewal| (renewal.rank, renewal.nth)).collect();
        own.sort();
        let within = self.within.values().map(|group| (group.tried, group.shared(class)));
        let queues = std::iter::once((self.own_tried, own)).chain(within).filter(|(_, queue)| !queue.is_empty());
        let mut queues: Vec<_> = queues.collect();
        queues.sort_by_key(|(tried, queue)| (*tried, queue[0]));
        let mut queues: Vec<_> = queues.into_iter().map(|(_, queue)| queue.into_iter()).collect();
        let mut shared = Vec::new();
        while !queues.is_empty() {
            queues.retain_mut(|queue| {
                let next = queue.next();
                shared.extend(next);
                next.is_some()
            });
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cert::{Certificate, Fingerprint, Trust};
    use crate::domain::inventory::{Found, Sighting};
    use crate::domain::plan::{World, plan};
    use crate::domain::record::Record;
    use crate::domain::sample::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// Certificates that are all to be renewed, and what a turn of an hour makes of them.
    #[derive(Default)]
    struct Crowd {
        managed: Vec<Managed>,
        inventory: Inventory,
        journal: JournalView,
        requested: BTreeMap<CertName, Demand>,
    }

    impl Crowd {
        /// In a folder, found so or missing.
        fn with(mut self, path: &str, leaf: Option<Certificate>) -> Self {
            let managed = Managed { name: path.into(), location: secret(path), ..managed(NAME) };
            let sighting = leaf.map_or(Sighting::Absent, |leaf| Sighting::Found(Box::new(found(leaf))));
            self.inventory.insert(seen(managed.location.clone(), sighting));
            self.managed.push(managed);
            self
        }

        /// Of 90 days, ending in so many.
        fn ending(self, path: &str, days: u32) -> Self {
            self.with(path, Some(ending_in(days * DAY, leaf(&[NAME]))))
        }

        fn ended(self, path: &str, days: u32) -> Self {
            let ended = NOW.minus(days * DAY);
            self.with(path, Some(Certificate { not_before: ended.minus(90 * DAY), not_after: ended, ..leaf(&[NAME]) }))
        }

        fn many(self, folder: &str, many: u32, days: u32) -> Self {
            (0..many).fold(self, |crowd, nth| crowd.ending(&format!("{folder}/{nth}"), days))
        }

        fn tried(mut self, path: &str, ago: Duration) -> Self {
            let record = Record { tried: Some(NOW.minus(ago)), ..Record::default() };
            self.journal.records.insert(path.into(), record);
            self
        }

        fn asked(mut self, path: &str) -> Self {
            self.requested.insert(path.into(), Demand::IfDue);
            self
        }

        fn decisions(&self) -> Vec<Decision> {
            plan(&World {
                clock_doubt: None,
                now: NOW,
                managed: &self.managed,
                inventory: &self.inventory,
                journal: &self.journal,
                act: true,
                requested: &self.requested,
            })
        }

        /// The names of what is renewed, in order. Everything else waits for the next turn, or is as it was.
        fn admitted(&self, most: usize) -> Vec<&str> {
            let decisions = self.decisions();
            let turn = Turn {
                now: NOW,
                next: NOW.plus(HOUR),
                most,
                inventory: &self.inventory,
                journal: &self.journal,
                requested: &self.requested,
            };
            let admitted = admit(&self.managed, decisions.clone(), &turn);
            for (nth, (before, after)) in decisions.iter().zip(&admitted.decisions).enumerate() {
                assert_eq!((&before.certificate, before.based_on), (&after.certificate, after.based_on));
                match (&before.action, &after.action) {
                    (Action::Renew { reason }, Action::Defer { until, reason: Deferral::Cap, renew }) => {
                        assert_eq!((*until, renew, admitted.order.contains(&nth)), (NOW.plus(HOUR), reason, false));
                    }
                    (before, after) => {
                        assert_eq!(before, after);
                        assert_eq!(admitted.order.contains(&nth), matches!(after, Action::Renew { .. }));
                    }
                }
            }
            admitted.order.iter().map(|nth| self.managed[*nth].name.0.as_str()).collect()
        }
    }

    const NAME: &str = "a.example.org";

    #[test]
    fn a_turn_renews_what_is_missing_first_then_what_ends_first_and_what_has_ended_last() {
        let crowd = Crowd::default()
            .ending("t/20", 20)
            .ended("t/long-ago", 9)
            .ending("t/6", 6)
            .with("t/none", None)
            .ended("t/lately", 1)
            .ending("t/60", 60);
        assert_eq!(crowd.admitted(0), [""; 0]);
        assert_eq!(crowd.admitted(1), ["t/none"]);
        assert_eq!(crowd.admitted(2), ["t/none", "t/6"]);
        assert_eq!(crowd.admitted(4), ["t/none", "t/6", "t/20", "t/lately"]);
        assert_eq!(crowd.admitted(5), ["t/none", "t/6", "t/20", "t/lately", "t/long-ago"]);
        assert_eq!(crowd.admitted(9), crowd.admitted(5), "the one of 60 days is not due");
    }

    #[test]
    fn an_instant_decides_what_lives() {
        let ending = |at: Timestamp| {
            let leaf = Certificate { not_before: at.minus(90 * DAY), not_after: at, ..leaf(&[NAME]) };
            Crowd::default().with("t/it", Some(leaf)).ended("t/other", 1).admitted(0).len()
        };
        assert_eq!((ending(NOW.plus(SECOND)), ending(NOW)), (0, 0), "nothing is allowed where nothing is");
        let urgent = |at: Timestamp| {
            let leaf = Certificate { not_before: at.minus(90 * DAY), not_after: at, ..leaf(&[NAME]) };
            Crowd::default().with("t/it", Some(leaf)).many("t", 3, 6).admitted(1).len()
        };
        assert_eq!((urgent(NOW.plus(SECOND)), urgent(NOW)), (2, 1), "what has ended is not about to end");
    }

    #[test]
    fn what_a_person_asked_for_is_renewed_before_all_others() {
        let crowd = Crowd::default().ending("t/20", 20).with("t/none", None).ending("t/1", 1).asked("t/20");
        assert_eq!(crowd.admitted(1), ["t/20", "t/1"]);
        assert_eq!(crowd.asked("t/1").admitted(1), ["t/1", "t/20"], "of those what is about to end");
    }

    #[test]
    fn a_thousand_of_one_folder_delay_nobody() {
        let crowd = Crowd::default().many("tls/evil", 1_000, 6).ending("tls/web/a", 20).ending("tls/web/b", 19);
        assert_eq!(crowd.admitted(2), ["tls/evil/0", "tls/web/b"]);
        assert_eq!(crowd.admitted(4), ["tls/evil/0", "tls/web/b", "tls/evil/1", "tls/web/a"]);
        assert_eq!(crowd.admitted(5)[4], "tls/evil/2", "what others do not need is theirs");
    }

    #[test]
    fn subfolders_have_no_more_than_their_folder() {
        let evil = (0..99).fold(Crowd::default(), |crowd, nth| crowd.ending(&format!("tls/evil/{nth}/it"), 6));
        let crowd = evil.ending("tls/web/a", 20).ending("tls/it", 21);
        assert_eq!(crowd.admitted(3), ["tls/evil/0/it", "tls/web/a", "tls/it"]);
        let deep = |nth: u32| format!("tls/evil/{}{nth}/it", "d/".repeat(40));
        let crowd = (0..9).fold(Crowd::default(), |crowd, nth| crowd.ending(&deep(nth), 6)).ending("tls/web/a", 20);
        assert_eq!(crowd.admitted(2)[1], "tls/web/a");
    }

    #[test]
    fn rules_owners_and_vaults_have_the_same_share_whatever_their_folders_are_called() {
        let crowd = |change: &dyn Fn(&mut Managed)| {
            let mut crowd = Crowd::default().many("tls/t", 9, 6).ending("tls/t/late", 20);
            change(crowd.managed.last_mut().unwrap());
            crowd.admitted(2).contains(&"tls/t/late")
        };
        assert!(!crowd(&|_| {}));
        assert!(crowd(&|managed| managed.rule = Some("prod".into())));
        assert!(crowd(&|managed| managed.owner = Some("team".into())));
        let elsewhere = Location::File { path: "/etc/tls/t/late.pem".into(), part: None };
        let mut crowd = Crowd::default().many("tls/t", 9, 6).ending("tls/t/late", 20);
        crowd.inventory.insert(seen_found(elsewhere.clone(), found(ending_in(20 * DAY, leaf(&[NAME])))));
        crowd.managed.last_mut().unwrap().location = elsewhere;
        assert!(crowd.admitted(2).contains(&"tls/t/late"));
    }

    #[test]
    fn files_share_by_their_directories() {
        let file = |path: &str| Location::File { path: path.into(), part: None };
        let paths = |path: &str| path_of(&Managed { location: file(path), ..managed(NAME) });
        fn path_of(managed: &Managed) -> Vec<String> {
            path(managed).into_iter().map(str::to_string).collect()
        }
        assert_eq!(paths("/etc/tls/web.pem"), ["", "", "", "", "etc", "tls"]);
        assert_eq!(path_of(&managed("tls/web/a")), ["", "", "main", "tls", "web"]);
        assert_eq!(path_of(&managed("web")), ["", "", "main", ""]);
    }

    #[test]
    fn the_group_that_has_waited_for_longest_comes_first() {
        let crowd = || Crowd::default().many("t/a", 2, 6).many("t/b", 2, 6).many("t/c", 2, 6);
        assert_eq!(crowd().admitted(3), ["t/a/0", "t/b/0", "t/c/0"]);
        let tried = crowd().tried("t/a/1", HOUR).tried("t/b/0", 2 * HOUR);
        assert_eq!(tried.admitted(3), ["t/c/0", "t/b/0", "t/a/0"], "whichever of its certificates it was");
        let both = crowd().tried("t/a/0", 9 * HOUR).tried("t/a/1", HOUR).tried("t/b/0", 2 * HOUR);
        assert_eq!(both.admitted(3), ["t/c/0", "t/b/0", "t/a/0"], "the last time counts");
        let mut own = crowd().ending("t/own", 6).tried("t/a/0", HOUR).tried("t/b/0", HOUR).tried("t/c/0", HOUR);
        assert_eq!(own.admitted(1), ["t/own"]);
        own = own.tried("t/own", SECOND);
        assert_eq!(own.admitted(4)[3], "t/own");
    }

    #[test]
    fn what_is_about_to_end_does_not_count() {
        let crowd = Crowd::default().many("t/a", 3, 4).many("t/b", 3, 6);
        assert_eq!(crowd.admitted(1), ["t/a/0", "t/a/1", "t/a/2", "t/b/0"]);
        let evil = Crowd::default().many("t/evil", 50, 4).many("t/b", 3, 4).ending("t/c", 20);
        let admitted = evil.admitted(1);
        assert_eq!(admitted.len(), 10 + 1, "ten times as many");
        assert_eq!(admitted[..6], ["t/evil/0", "t/b/0", "t/evil/1", "t/b/1", "t/evil/2", "t/b/2"]);
        assert_eq!(admitted[10], "t/c", "what is about to end takes no other's place");
        assert_eq!(evil.admitted(0), [""; 0]);
    }

    /// How many of these and of three that are not urgent are renewed where one may be.
    fn renewed_beside_others(leaf: Certificate, change: impl FnOnce(&mut Crowd)) -> usize {
        let mut crowd = Crowd::default().many("t", 3, 6).with("t/it", Some(leaf));
        change(&mut crowd);
        crowd.admitted(1).len()
    }

    #[test]
    fn what_would_end_before_the_turn_after_next_or_within_a_twentieth_of_its_lifetime_is_urgent() {
        let of_90_days = |left: Duration| renewed_beside_others(ending_in(left, leaf(&[NAME])), |_| {});
        assert_eq!(of_90_days(4 * DAY + DAY / 2), 2);
        assert_eq!(of_90_days(4 * DAY + DAY / 2 + SECOND), 1);
        let of_a_day = |left: Duration| {
            let end = NOW.plus(left);
            renewed_beside_others(Certificate { not_before: end.minus(DAY), not_after: end, ..leaf(&[NAME]) }, |_| {})
        };
        assert_eq!(of_a_day(2 * HOUR), 2);
        assert_eq!(of_a_day(2 * HOUR + SECOND), 1);
    }

    #[test]
    fn what_no_server_can_use_and_what_a_ca_has_signed_already_is_urgent() {
        let plenty = || ending_in(60 * DAY, leaf(&[NAME]));
        let beside = |change: fn(&mut Crowd)| renewed_beside_others(plenty(), change);
        assert_eq!(beside(|_| {}), 1);
        assert_eq!(beside(|crowd| refind(crowd, |found| found.stored_key = None)), 2);
        assert_eq!(beside(|crowd| refind(crowd, |found| found.revoked_at = Some(NOW))), 2);
        assert_eq!(beside(|crowd| refind(crowd, |found| found.trust = Trust::Unverified("no path".into()))), 1);
        let signed = |issued| {
            renewed_beside_others(plenty(), |crowd| {
                let record = Record { in_flight: Some(Reason::Forced), issued, replaces: Some(F), ..Record::default() };
                crowd.journal.records.insert("t/it".into(), record);
            })
        };
        assert_eq!((signed(true), signed(false)), (2, 1));
        let ended = Certificate { not_before: NOW.minus(90 * DAY), not_after: NOW, ..leaf(&[NAME]) };
        let useless = |crowd: &mut Crowd| refind(crowd, |found| found.revoked_at = Some(NOW));
        assert_eq!(renewed_beside_others(ended, useless), 1, "what has ended was of no use before");
    }

    const F: Fingerprint = Fingerprint([0; 32]);

    /// The last one is found differently.
    fn refind(crowd: &mut Crowd, change: impl FnOnce(&mut Found)) {
        let location = crowd.managed.last().unwrap().location.clone();
        let mut seen = crowd.inventory.at(&location).unwrap().clone();
        match &mut seen.sighting {
            Sighting::Found(found) => change(found),
            other => panic!("{other:?}"),
        }
        crowd.inventory.insert(seen);
    }

    #[test]
    fn the_plan_is_the_same_on_every_call() {
        let crowd = || Crowd::default().ending("t/1", 1).with("t/none", None).ending("t/80", 80);
        assert_eq!(crowd().decisions(), crowd().decisions());
        assert_eq!(crowd().admitted(1), crowd().admitted(1));
    }
}
