//! What an event is about.

use super::event::Event;

impl Event {
    /// Whether certd worked on a renewal, however that ended.
    pub(super) fn is_of_a_renewal(&self) -> bool {
        match self {
            Self::Begun { .. }
            | Self::TakenUp(_)
            | Self::Asked { .. }
            | Self::Ordered { .. }
            | Self::NotIssued { .. }
            | Self::IssuerFailed { .. }
            | Self::Issued(_)
            | Self::Accepted { .. }
            | Self::Rejected { .. }
            | Self::Written { .. }
            | Self::OverTheCap { .. }
            | Self::Closed { .. }
            | Self::Superseded { .. }
            | Self::Failed { .. } => true,
            Self::Staged(_) | Self::KeyKept(_) | Self::KeyDestroyed(_) => false,
            Self::LeftAlone { .. }
            | Self::Served { .. }
            | Self::Advised(_)
            | Self::Paused { .. }
            | Self::Resumed
            | Self::Revoking { .. }
            | Self::Revoked { .. }
            | Self::Place(_)
            | Self::SetAside { .. }
            | Self::Acknowledged => false,
        }
    }
}
