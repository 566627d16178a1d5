//! ACME end to end: the real binary against Pebble, and against a CA that fails as it is told.

#[path = "../support/mod.rs"]
mod support;

mod home;

mod account;
mod challenges;
mod dns;
mod fallback;
mod faults;
mod manners;
mod network;
mod openbao;
mod orders;
mod persist;
mod readme;
mod renewal_info;
mod sockets;
