//! The certificates that certd itself uses: to open a Vault, and for its listener.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::file::ListenTls;
use crate::config::{Config, FileStore, Store};
use crate::domain::inventory::OWN;
use crate::domain::name::SourceName;
use crate::pki::roots::Roots;
use crate::source::Source;
use crate::source::file::FileSource;

/// Returns a source of them, without those that certd keeps fresh itself: their stores are looked at anyway.
pub(super) fn source(config: &Config) -> Option<Source> {
    let clients = config.vaults.values().filter_map(|vault| vault.client_certificate_file.as_ref());
    let listener = config.listen.tls.as_ref().map(|tls| match tls {
        ListenTls::Files { certificate, .. } => config.path(certificate),
        ListenTls::Directory(directory) => config.path(directory).join("fullchain.pem"),
    });
    let kept: Vec<PathBuf> = config.certificates.iter().flat_map(|it| kept_at(config, it.store.get_ref())).collect();
    let is_kept = |path: &PathBuf| path.ancestors().any(|at| kept.iter().any(|kept| kept == at));
    let used = clients.map(|path| config.path(path.get_ref())).chain(listener).filter(|path| !is_kept(path));
    let patterns: Vec<String> = used.map(|path| path.display().to_string()).collect();
    let (name, roots) = (SourceName::from(OWN), Arc::new(Roots::none()));
    (!patterns.is_empty()).then(|| Source::File(FileSource { name, environment: None, patterns, roots }))
}

fn kept_at(config: &Config, store: &Store) -> Vec<PathBuf> {
    match store {
        Store::VaultKv(_) => Vec::new(),
        Store::File(FileStore::Bundle(path) | FileStore::Directory(path)) => vec![config.path(path)],
        Store::File(FileStore::Loose { certificate, .. }) => vec![config.path(certificate)],
    }
}
