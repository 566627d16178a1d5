//! What the stories stand on: real servers, started once for each test binary, and other people's tools.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub mod acme_server;
pub mod bind;
pub mod certd;
pub mod certificates;
pub mod cluster;
pub mod fault_proxy;
pub mod jwt;
pub mod loopback;
pub mod pebble;
pub mod scripted;
pub mod secrets;
pub mod server;
pub mod tools;
pub mod vault;
