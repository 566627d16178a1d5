//! The same outcome for Prometheus, and the listener that serves it.
//!
//! What belongs to certificates is rendered by hand, once a turn, from the finished snapshot: a scrape
//! sends those bytes as they are. The daemon's own counters live in the `prometheus` crate's registry.

pub mod connection;
pub mod exposition;
pub mod listener;
pub mod own;
pub mod page;
pub mod render;
pub mod served;
