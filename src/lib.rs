//! certd keeps certificates fresh.

pub mod cli;
pub mod config;
pub mod control;
pub mod cycle;
pub mod daemon;
pub mod domain;
pub mod issuer;
pub mod journal;
pub mod metrics;
pub mod pki;
pub mod pulse;
pub mod renew;
pub mod report;
pub mod source;
pub mod store;
pub mod vault;
