//! Terminal, log, metrics and file names are safe from what certificates and servers contain: the real binary against a real
//! Vault, files, and servers that say whatever they like.

#[path = "../support/mod.rs"]
mod support;

mod costs;
mod crowded;
mod forged;
mod scene;

mod estate;
mod peers;
