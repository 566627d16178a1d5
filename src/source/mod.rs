//! Where certificates are seen. Every source is the same function: `observe`, which never fails as a
//! whole: what could not be seen is an observation with an obstacle, or a failure of its own.

pub mod file;
pub mod target;
pub mod tls;

use crate::domain::inventory::{Observation, Obstacle};

/// One sweep over a source.
#[derive(Debug, Default)]
pub struct Observed {
    pub observations: Vec<Observation>,
    /// Places that could not be listed, so that what lies below them is not known.
    pub failures: Vec<Obstacle>,
}
