//! The finished outcome of a turn: what people, machines and the next turn read.

use std::time::Duration;

use super::check::{Problem, ProblemKind, State};
use super::inventory::{Observation, ObstacleKind, Sighting};
use super::name::{IssuerName, SourceName, VaultName};
use super::plan::{Action, Decision, Origin, Record};
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
        if managed.record.consecutive_failures > 0 {
            return Standing::Failing;
        }
        match managed.decision.action {
            Action::Hold { .. } => Standing::Held,
            Action::Defer { .. } => Standing::Deferred,
            Action::Renew { .. } if self.has(ProblemKind::Expired) => Standing::Overdue,
            Action::Renew { .. } => Standing::Due,
            Action::Keep { .. } if self.has(ProblemKind::NotDeployed) => Standing::Drifted,
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
}

impl Snapshot {
    /// The worst state of all; `Ok` when there is nothing.
    pub fn worst(&self) -> State {
        self.entries.iter().map(|entry| entry.state).max().unwrap_or(State::Ok)
    }
}
