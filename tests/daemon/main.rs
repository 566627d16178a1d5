//! `certd run` as a process, as an operator and systemd see it: a CA and files in a folder of the test.

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod audit;
mod audit_attacked;
mod clock;
mod control;
mod hardened;
mod journal;
mod logs;
mod notify;
mod process;
mod quickstart;
mod readiness;
mod reload;
mod restart;
mod stand_in;
mod stop;
