//! A CA that speaks ACME (RFC 8555) and does what a story tells it to. It is honest about signatures, nonces, URLs and
//! certificates, and keeps a log of what it was asked; it fails where the story wants it to.
//!
//! ```text
//! let ca = AcmeServer::start(Script::default());
//! ca.fail(Kind::NewOrder, Nth::Only(1), Fault::busy(429, Some("120")));
//! …
//! assert!(ca.requests_inside_retry_after().is_empty());
//! assert_eq!((ca.count(Kind::Finalize), ca.issued().len()), (1, 1));
//! ```

mod accounts;
mod answer;
mod ca;
mod certificates;
mod connection;
mod identifier;
mod jws;
mod orders;
mod place;
mod script;
mod seen;
mod service;
mod state;

use std::fs;
use std::path::Path;

use axum::Router;
use axum::routing::any;
use tokio::runtime::Runtime;

use super::loopback::Identity;
use connection::{Connections, Cut};
use place::Place;
use service::World;
use state::{Rule, State};

#[allow(unused_imports, reason = "each test binary uses its own part of this module")]
pub use self::{
    accounts::Account,
    answer::{Answer, problem},
    ca::Issued,
    certificates::Revoked,
    identifier::Identifier,
    orders::Order,
    script::{DAY, Fault, Flaw, Judge, Kind, Nth, Profile, Script, Validation, Verdict, Window, retry_dates},
    seen::Seen,
    state::Status,
};

/// Serves from threads of its own until it is dropped, whoever else waits for whatever.
pub struct AcmeServer {
    world: World,
    identity: Identity,
    base: String,
    runtime: Option<Runtime>,
}

impl AcmeServer {
    pub fn start(script: Script) -> Self {
        let identity = Identity::new();
        let tls = (!script.plain).then(|| identity.acceptor());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let scheme = if script.plain { "http" } else { "https" };
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let world = World::new(State::new(base.clone(), script));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let service = Router::new().fallback(any(service::serve)).with_state(world.clone());
        runtime.spawn(async move {
            let connections = Connections::listen(tokio::net::TcpListener::from_std(listener).unwrap(), tls);
            axum::serve(connections, service.into_make_service_with_connect_info::<Cut>()).await.unwrap();
        });
        Self { world, identity, base, runtime: Some(runtime) }
    }

    pub fn directory_url(&self) -> String {
        format!("{}{}", self.base, Place::Directory.path())
    }

    /// What a client has to trust to speak with it.
    pub fn tls_root_pem(&self) -> &str {
        &self.identity.root_pem
    }

    /// Writes the same.
    pub fn ca_file(&self, path: &Path) {
        fs::write(path, self.tls_root_pem()).unwrap();
    }

    /// The root of what it issues.
    pub fn root_pem(&self) -> String {
        self.world.state().authority.root_pem.clone()
    }

    /// The root of the second chain.
    pub fn alternate_root_pem(&self) -> String {
        self.world.state().authority.alternate_root_pem.clone()
    }

    /// From the next request on.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.world.state().script);
    }

    pub fn fail(&self, kind: Kind, nth: Nth, fault: Fault) {
        self.world.state().rules.push(Rule { kind: Some(kind), nth, fault, count: 0, met: 0 });
    }

    /// Whatever it is asked for.
    pub fn fail_all(&self, nth: Nth, fault: Fault) {
        self.world.state().rules.push(Rule { kind: None, nth, fault, count: 0, met: 0 });
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.world.state().rules.clear();
    }

    /// Whether each fault that was asked for, and not healed, met a request.
    pub fn every_fault_was_met(&self) -> bool {
        self.world.state().rules.iter().all(|rule| rule.met > 0)
    }

    /// The renewal window of one certificate, by its serial number.
    pub fn set_window(&self, serial: &str, window: Window) {
        self.world.state().windows.insert(serial.to_string(), window);
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.world.state().log.clone()
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.world.state().log.iter().filter(|seen| seen.kind == kind).count()
    }

    /// Those that came too early: before the end of a Retry-After of any refusal, or of an earlier answer about the same
    /// thing. One that nobody can understand binds nobody.
    pub fn requests_inside_retry_after(&self) -> Vec<Seen> {
        seen::inside_retry_after(&self.world.state().log)
    }

    pub fn accounts(&self) -> Vec<Account> {
        self.world.state().accounts.clone()
    }

    pub fn orders(&self) -> Vec<Order> {
        self.world.state().orders.clone()
    }

    pub fn issued(&self) -> Vec<Issued> {
        self.world.state().issued.clone()
    }

    pub fn revoked(&self) -> Vec<Revoked> {
        self.world.state().revoked.clone()
    }
}

impl Drop for AcmeServer {
    fn drop(&mut self) {
        // Waiting for it is forbidden inside of another runtime, where most stories are.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
