//! Says where to look, so that a person need not read the configuration for it.

use std::path::Path;

use crate::config::{Config, Issuer, ListenTls};
use crate::cycle::setup::Setup;
use crate::domain::inventory::Location;
use crate::metrics::listener::Listener;

/// A person reads so many lines; whoever has more certificates has `certd plan`.
const NAMED: usize = 10;

pub fn up(path: &Path, config: &Config, setup: &Setup, listener: Option<&Listener>) {
    tracing::info!(config = %path.display(), state_dir = %config.state_dir.display(), act = config.act, "certd is up");
    for managed in setup.declared.iter().take(NAMED) {
        tracing::info!(cert = %managed.name, "kept in {}", managed.location);
    }
    if setup.declared.len() > NAMED {
        tracing::info!("and {} more: see certd plan", setup.declared.len() - NAMED);
    }
    let Some(listener) = listener else { return };
    let (scheme, address) = (listener.scheme(), listener.address());
    tracing::info!("metrics: {scheme}://{address}/metrics");
    if let Some(tls) = config.listen.tls.as_ref() {
        tracing::info!("in another terminal: certd check {address}{}", roots(config, setup, tls));
    }
}

/// No system knows a CA of certd's own, so whoever checks what it signed must name it.
fn roots(config: &Config, setup: &Setup, tls: &ListenTls) -> String {
    match local_ca(config, setup, tls) {
        Some(ca) => format!(" --roots {}", ca.display()),
        None => String::new(),
    }
}

fn local_ca(config: &Config, setup: &Setup, tls: &ListenTls) -> Option<std::path::PathBuf> {
    let ListenTls::Directory(directory) = tls else { return None };
    let served = Location::File { path: config.path(directory), part: None };
    let managed = setup.declared.iter().find(|managed| managed.location == served)?;
    match &**config.issuers.get(&managed.issuers.first()?.0)? {
        Issuer::LocalCa(ca) => Some(config.path(&ca.directory).join("ca.pem")),
        Issuer::VaultPki(_) | Issuer::Acme(_) => None,
    }
}
