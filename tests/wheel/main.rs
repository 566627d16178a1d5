//! The wheel turns: each story is the real binary against a real Vault, with a configuration of its own.

#[path = "../house/mod.rs"]
mod house;
#[path = "../support/mod.rs"]
mod support;

mod gate;
mod home;
mod leaves;
mod served;

mod acme;
mod adopted;
mod crash;
mod declared;
mod doctor;
mod drift;
mod failing;
mod faults;
mod instances;
mod outage;
mod pending;
mod policy;
mod provenance;
mod revoke;
mod secrets;
mod stopped;
mod tokens;
