//! `certd check` as a person, a Nagios and a script use it: the real binary, real servers, real files.

#[path = "../support/mod.rs"]
mod support;

mod canaries;
mod certd;
mod configured;
mod endpoints;
mod files;
mod formats;
mod leaks;
mod made;
mod pki;
mod strict;
mod usage;
mod vaults;
