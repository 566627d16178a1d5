//! The finished outcome of a turn: what people, machines and the next turn read.

use std::time::Duration;

use super::check::{Problem, ProblemKind, State};
use super::inventory::{Observation, ObstacleKind, PassedOver, Sighting};
use super::name::{IssuerName, SourceName, VaultName};
use super::plan::{Action, Decision, Held, Origin, Record};
use super::time::Timestamp;

/// One location: what was seen, what is wrong with it, and what certd makes of it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub observation: Observation,
    pub problems: Vec<Problem>,
    pub state: State,
    /// `None` for what is only watched.
    pub managed: Option<ManagedEntry>,
}

#[derive(Clone, Debug)]
pub struct ManagedEntry {
    pub origin: Origin,
    pub owner: Option<String>,
    pub decision: Decision,
    pub record: Record,
}

impl ManagedEntry {
    /// Its own pause, while it lasts.
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.record.paused_until.filter(|until| now < *until)
    }
}

/// What is served is not what is stored.
const DRIFT: [ProblemKind; 5] = [
    ProblemKind::NotDeployed,
    ProblemKind::PartlyDeployed,
    ProblemKind::OlderVersion,
    ProblemKind::Foreign,
    ProblemKind::ChainDiffers,
];

/// The one word of `certd_certificate_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    Ok,
    Due,
    Overdue,
    Failing,
    Deferred,
    Held,
    Drifted,
    Unmanaged,
    Unknown,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Due => "due",
            Self::Overdue => "overdue",
            Self::Failing => "failing",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::Drifted => "drifted",
            Self::Unmanaged => "unmanaged",
            Self::Unknown => "unknown",
        }
    }
}

impl Entry {
    pub fn standing(&self) -> Standing {
        if matches!(self.observation.sighting, Sighting::Unknown(_)) {
            return Standing::Unknown;
        }
        let Some(managed) = &self.managed else { return Standing::Unmanaged };
        let is_held_by_its_place = matches!(managed.decision.action, Action::Hold { held: Held::Unwritable(_) });
        if managed.record.consecutive_failures > 0 && !is_held_by_its_place {
            return Standing::Failing;
        }
        match managed.decision.action {
            Action::Hold { .. } => Standing::Held,
            Action::Defer { .. } => Standing::Deferred,
            Action::Renew { .. } if self.has(ProblemKind::Expired) => Standing::Overdue,
            Action::Renew { .. } => Standing::Due,
            Action::Keep { .. } if DRIFT.iter().any(|kind| self.has(*kind)) => Standing::Drifted,
            Action::Keep { .. } => Standing::Ok,
        }
    }

    pub fn has(&self, kind: ProblemKind) -> bool {
        self.problems.iter().any(|problem| problem.problem == kind)
    }
}

/// Whether a source could be read in its last sweep.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    pub source: SourceName,
    pub up: bool,
    pub last_success: Option<Timestamp>,
    pub items: usize,
    /// Since start, by what went wrong.
    pub errors: Vec<(ObstacleKind, u64)>,
}

#[derive(Clone, Debug)]
pub struct IssuerStatus {
    pub issuer: IssuerName,
    /// `None` until it has been asked.
    pub up: Option<bool>,
    /// The end of the CA certificate, where it is known.
    pub not_after: Option<Timestamp>,
    pub backoff_until: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct VaultStatus {
    pub vault: VaultName,
    pub token_expiry: Option<Timestamp>,
    /// Since start: operation, HTTP status (0 without an answer), count.
    pub requests: Vec<(&'static str, u16, u64)>,
    pub cas_conflicts: u64,
}

/// A part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    Observe,
    Plan,
    Execute,
}

impl Phase {
    pub const ALL: [Self; 3] = [Self::Observe, Self::Plan, Self::Execute];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Plan => "plan",
            Self::Execute => "execute",
        }
    }
}

#[derive(Clone, Debug)]
pub struct PhaseStatus {
    pub phase: Phase,
    pub completed_at: Timestamp,
    pub succeeded: bool,
    pub took: Duration,
}

/// Everything that one turn found and did.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub taken_at: Timestamp,
    /// In the order of locations.
    pub entries: Vec<Entry>,
    pub sources: Vec<SourceStatus>,
    pub issuers: Vec<IssuerStatus>,
    pub vaults: Vec<VaultStatus>,
    pub phases: Vec<PhaseStatus>,
    /// `act = false` in the configuration.
    pub act: bool,
    pub paused_until: Option<Timestamp>,
    /// Why this host's clock cannot be right, and with it all that was said of time.
    pub clock_doubt: Option<String>,
    /// What patterns led to and is no certificate.
    pub passed_over: Vec<PassedOver>,
    /// What was lost with a damaged journal, until somebody acknowledges it.
    pub journal_lost: Option<String>,
    /// The journal was removed under this process, so that nothing is acted on.
    pub journal_gone: Option<String>,
    /// The audit log cannot be written, so that acts of people are refused.
    pub unaudited: Option<String>,
}

impl Snapshot {
    /// The worst state of all; `Ok` when there is nothing. By a clock that cannot be right nothing is known to be well.
    pub fn worst(&self) -> State {
        let worst = self.entries.iter().map(|entry| entry.state).max().unwrap_or(State::Ok);
        if self.clock_doubt.is_some() { worst.max(State::Unknown) } else { worst }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::Severity;
    use crate::domain::plan::{Basis, Deferral, Reason};
    use crate::domain::sample::*;

    fn watched(sighting: Sighting) -> Entry {
        Entry { observation: seen(secret("a"), sighting), problems: Vec::new(), state: State::Ok, managed: None }
    }

    fn kept(action: Action) -> Entry {
        let decision = Decision { certificate: "a".into(), location: secret("a"), action, based_on: Basis::default() };
        let managed = ManagedEntry { origin: Origin::Declared, owner: None, decision, record: Record::default() };
        Entry { managed: Some(managed), ..watched(Sighting::Found(Box::new(found(leaf(&["a"]))))) }
    }

    #[test]
    fn its_own_pause_lasts_until_its_instant() {
        let record = Record { paused_until: Some(NOW), ..Record::default() };
        let entry = kept(Action::Keep { renew_at: NOW });
        let managed = ManagedEntry { record, ..entry.managed.unwrap() };
        let paused = [NOW.minus(SECOND), NOW, NOW.plus(SECOND)].map(|at| managed.paused_until(at));
        assert_eq!(paused, [Some(NOW), None, None]);
    }

    fn with(mut entry: Entry, problem: ProblemKind) -> Entry {
        entry.problems.push(Problem { problem, severity: Severity::Critical, message: String::new() });
        entry
    }

    const RENEW: Action = Action::Renew { reason: Reason::Due };
    const KEEP: Action = Action::Keep { renew_at: NOW };

    #[test]
    fn each_standing_has_its_cause() {
        let deferred = Action::Defer { until: NOW, reason: Deferral::Cap, renew: Reason::Due };
        assert_eq!(kept(KEEP).standing(), Standing::Ok);
        assert_eq!(kept(RENEW).standing(), Standing::Due);
        assert_eq!(with(kept(RENEW), ProblemKind::Expired).standing(), Standing::Overdue);
        assert_eq!(with(kept(RENEW), ProblemKind::Expiring).standing(), Standing::Due);
        assert_eq!(kept(deferred).standing(), Standing::Deferred);
        assert_eq!(kept(Action::Hold { held: Held::ActIsOff }).standing(), Standing::Held);
        for kind in DRIFT {
            assert_eq!(with(kept(KEEP), kind).standing(), Standing::Drifted, "{kind:?}");
        }
        assert_eq!(with(kept(KEEP), ProblemKind::SharedKey).standing(), Standing::Ok);
        assert_eq!(watched(Sighting::Absent).standing(), Standing::Unmanaged);
    }

    #[test]
    fn unknown_goes_before_failing_and_failing_before_the_decision() {
        let mut failing = kept(RENEW);
        failing.managed.as_mut().unwrap().record.consecutive_failures = 1;
        assert_eq!(failing.standing(), Standing::Failing);
        let mut held = kept(Action::Hold { held: Held::Unwritable("two names".into()) });
        held.managed.as_mut().unwrap().record.consecutive_failures = 1;
        assert_eq!(held.standing(), Standing::Held, "no CA was asked, and a person must mend it");
        failing.observation.sighting = Sighting::Unknown(obstacle());
        assert_eq!(failing.standing(), Standing::Unknown);
        assert_eq!(watched(Sighting::Unknown(obstacle())).standing(), Standing::Unknown);
    }

    #[test]
    fn the_worst_state_of_all_counts_and_nothing_at_all_is_ok() {
        let worst = |states: &[State]| {
            let entries = states.iter().map(|state| Entry { state: *state, ..watched(Sighting::Absent) }).collect();
            let (sources, issuers, vaults, phases) = Default::default();
            Snapshot {
                taken_at: NOW,
                entries,
                sources,
                issuers,
                vaults,
                phases,
                act: true,
                paused_until: None,
                clock_doubt: None,
                passed_over: Vec::new(),
                journal_lost: None,
                journal_gone: None,
                unaudited: None,
            }
            .worst()
        };
        assert_eq!(worst(&[]), State::Ok);
        assert_eq!(worst(&[State::Ok, State::Warning]), State::Warning);
        assert_eq!(worst(&[State::Unknown, State::Warning]), State::Unknown);
        assert_eq!(worst(&[State::Unknown, State::Critical, State::Ok]), State::Critical);
    }
}
