//! `certd check --format prometheus`: the families of `/metrics`, for node_exporter's textfile collector.

use crate::domain::snapshot::Snapshot;
use crate::metrics::render::{self, About};

/// Without the counters of the daemon, which has not run.
pub fn render(snapshot: &Snapshot, about: &About) -> String {
    render::render(snapshot, about)
}
