//! How a renewal ended.

use std::time::Duration;

use crate::domain::cert::Fingerprint;
use crate::domain::name::IssuerName;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::staging::StagingError;
use crate::store::StoreError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Renewed {
        fingerprint: Fingerprint,
        not_after: Timestamp,
        issuer: IssuerName,
    },
    /// What is there is not what the decision was made on: the next turn plans on that.
    Superseded {
        why: String,
    },
}

/// How an attempt ended, for `certd_renewal_attempts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Issuer,
    Rejected,
    Store,
    /// The store would lose something: only a person can mend that.
    Held,
    /// The place went out of sight before anything was begun. It is no failure of this certificate.
    OutOfSight,
    Journal,
}

impl Fault {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Rejected => "rejected",
            Self::Store => "store",
            Self::Held => "held",
            Self::OutOfSight => "out_of_sight",
            Self::Journal => "journal",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub fault: Fault,
    pub issuer: Option<IssuerName>,
    /// What the issuer asked for.
    pub retry_after: Option<Duration>,
    /// The whole chain of errors, in one line.
    pub message: String,
}

pub(super) fn fault(fault: Fault, error: &dyn std::error::Error) -> Failure {
    Failure { fault, issuer: None, retry_after: None, message: with_causes(error) }
}

pub(super) fn store_fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Held(_) => Fault::Held,
        StoreError::Conflict(_) | StoreError::Failed { .. } => Fault::Store,
    }
}

pub(super) fn staging_fault(error: &StagingError) -> Failure {
    match error {
        StagingError::File(_) | StagingError::Sealing(_) => fault(Fault::Journal, error),
        StagingError::Vault { .. } | StagingError::TakenOver { .. } => fault(Fault::Store, error),
    }
}
