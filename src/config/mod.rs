//! The file as the user writes it, and build(): names become things, once.

mod acme;
mod audit;
mod auth;
pub mod build;
mod door;
mod error;
mod file;
pub mod folders;
mod kept;
mod load;
mod references;
mod rules;
mod strict;
mod validate;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use crate::source::tls::Addresses;

pub use audit::{Audit, Head, HeadVaultKv};
pub use auth::{Approle, Auth, Cert, Jwt, Kubernetes, Userpass};
pub use error::{ConfigError, ConfigErrors};
pub use file::{
    Adopt, AdoptMode, Certificate, Check, Environment, FileSource, FileStore, Found, FoundVaultKv, HostAddresses,
    Issuer, Level, Listen, ListenTls, LocalCaIssuer, Log, LogFormat, Source, Store, TlsSource, Turn, Vault,
    VaultKvSource, VaultKvStore, VaultPkiIssuer,
};
pub use load::{load, minimal};
pub use rules::closest;
pub use toml::Spanned;
pub use validate::LONGEST_DEADLINE;
pub use value::{FilePath, Period, Roots, duration, threshold};

/// The main file and its drop-ins, merged and valid: every name that it mentions is declared.
#[derive(Debug)]
pub struct Config {
    /// Where relative paths start: the folder of the main file, absolute.
    pub directory: PathBuf,
    /// The first 12 hexadecimal digits of the SHA-256 of all files; empty when there was none.
    pub hash: String,
    pub state_dir: PathBuf,
    /// `false` stops all acting; everything is still observed.
    pub act: bool,
    pub turn: Declared<Turn>,
    pub log: Log,
    pub listen: Declared<Listen>,
    pub check: Declared<Check>,
    pub audit: Declared<Audit>,
    /// By host: where it is looked at, in place of what DNS says.
    pub addresses: BTreeMap<String, Declared<HostAddresses>>,
    pub vaults: BTreeMap<String, Declared<Vault>>,
    pub sources: BTreeMap<String, Declared<Source>>,
    pub issuers: BTreeMap<String, Declared<Issuer>>,
    pub certificates: Vec<Declared<Certificate>>,
    pub adopt: Vec<Declared<Adopt>>,
    /// What strict mode refuses and `strict_modes = false` lets pass: told each time.
    pub tolerated: Vec<ConfigError>,
    files: Vec<ReadFile>,
}

impl Config {
    /// The mistake of a value in the table, for what only shows when names become things.
    pub fn mistake<T>(
        &self,
        table: &Declared<T>,
        span: Range<usize>,
        what: String,
        hint: Option<String>,
    ) -> ConfigError {
        let file = self.files.get(table.file).expect("a declared table names the file it was read from");
        ConfigError::at(&file.path, &file.text, span, what, hint)
    }

    /// Of a valid configuration.
    pub fn addresses(&self) -> Addresses {
        let parsed = |texts: &Declared<HostAddresses>| {
            texts.get_ref().iter().filter_map(|text| text.get_ref().parse().ok()).collect::<BTreeSet<_>>()
        };
        self.addresses
            .iter()
            .map(|(host, texts)| (host.to_ascii_lowercase(), parsed(texts).into_iter().collect()))
            .collect()
    }

    pub fn path(&self, path: &FilePath) -> PathBuf {
        path.below(&self.directory)
    }

    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }
}

/// A table and where it was read; the spans inside it count in that file.
#[derive(Clone, Debug)]
pub struct Declared<T> {
    file: usize,
    /// The bytes of the table's name.
    pub span: Range<usize>,
    table: T,
}

impl<T> Deref for Declared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.table
    }
}

/// Kept so that a mistake found late still has its line.
struct ReadFile {
    path: PathBuf,
    text: String,
}

impl fmt::Debug for ReadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

#[cfg(test)]
mod tests;
