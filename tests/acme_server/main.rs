//! The scripted CA of the stories is honest where it is not told to fail, and fails as it is told to; Pebble is what the
//! stories take it for. The client here is somebody else's, or writes its own signatures.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod faults;
mod flaws;
mod honesty;
mod issuance;
mod pebble;
mod waits;
