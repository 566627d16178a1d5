//! The rules. Pure: no clock, no randomness, no async, no I/O.

pub mod adopt;
pub mod breaker;
pub mod cap;
pub mod cert;
pub mod check;
pub mod clock;
pub mod crl;
pub mod drift;
pub mod inventory;
pub mod issued;
pub mod key;
pub mod name;
pub mod plan;
pub mod policy;
pub mod rate;
pub mod record;
pub mod renewal;
#[cfg(test)]
pub mod sample;
pub mod shared_key;
pub mod snapshot;
pub mod text;
pub mod time;
