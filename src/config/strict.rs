//! Strict mode, as sshd has it: nobody but root and certd's user may change what certd reads, trusts and runs.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::file::{Issuer, ListenTls, Source};
use super::{Auth, Config, FilePath, Roots};
use crate::files::Trust;
use crate::files::way::{End, LastLink, Owners, Walk, WayError};

const HINT: &str = "or set strict_modes = false in the main file, which accepts it and tells it at each start";

/// Returns a mistake for each file that others may change, and for each whose way others may turn elsewhere.
pub(super) fn judge(config: &Config, drop_ins: &Path) -> Vec<ConfigError> {
    let own = Trust::own();
    // Root looks at the files of a service that runs as another user.
    let service = Trust::own().and_owner_of(&config.state_dir);
    let configuration = config.files().chain([drop_ins]).filter_map(|path| mistake(path, &own));
    let named = named(config).into_iter().filter_map(|path| mistake(&path, &service));
    let mut mistakes: Vec<ConfigError> = configuration.chain(named).collect();
    mistakes.sort();
    mistakes.dedup();
    mistakes
}

fn mistake(path: &Path, trust: &Trust) -> Option<ConfigError> {
    let walk = Walk { trust: trust.clone(), owners: Owners::Trusted, last_link: LastLink::Followed, make: None };
    let judged = match walk.to(path) {
        Ok(Some(End { last: Some(last), .. })) => last.insist_on_no_other_writers(trust),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match judged.err()? {
        // Whoever reads the file tells why it cannot be read.
        WayError::Io { .. } | WayError::NotADirectory(_) | WayError::Nameless(_) | WayError::TooManyLinks(_) => None,
        refused => Some(ConfigError::whole(path, refused.to_string(), Some(HINT.to_string()))),
    }
}

/// Every secret, every root to trust and every command that the configuration names.
fn named(config: &Config) -> Vec<PathBuf> {
    let mut paths: Vec<&FilePath> = config.listen.bearer_token_file.iter().collect();
    match &config.listen.tls {
        Some(ListenTls::Files { certificate, private_key }) => paths.extend([certificate, private_key]),
        Some(ListenTls::Directory(directory)) => paths.push(directory),
        None => {}
    }
    for vault in config.vaults.values() {
        paths.extend(vault.token_file.iter().chain(&vault.ca_file));
        let others = [&vault.client_certificate_file, &vault.client_key_file, &vault.staging_key_file];
        paths.extend(others.into_iter().flatten().map(|path| path.get_ref()));
        paths.extend(vault.auth.iter().flat_map(|auth| credentials(auth.get_ref())));
    }
    for source in config.sources.values() {
        paths.extend(roots(match &**source {
            Source::Tls(tls) => &tls.roots,
            Source::VaultKv(kv) => &kv.roots,
            Source::File(file) => &file.roots,
            Source::VaultPki(_) => &Roots::None,
        }));
    }
    for rule in &config.adopt {
        paths.extend(roots(rule.roots.get_ref()));
    }
    let mut all: Vec<PathBuf> = Vec::new();
    for issuer in config.issuers.values() {
        match &**issuer {
            Issuer::LocalCa(ca) => paths.push(&ca.directory),
            Issuer::VaultPki(pki) => paths.extend(&pki.roots),
            Issuer::Acme(acme) => {
                paths.extend(acme.ca_file.iter().chain(acme.eab.iter().map(|eab| &eab.hmac_file)));
                paths.extend(acme.roots.iter().flat_map(roots));
                if let Some(dns) = acme.challenge.get_ref().dns_01.as_ref().map(|dns| dns.get_ref()) {
                    paths.extend(dns.rfc2136.iter().map(|update| &update.tsig_key_file));
                    paths.extend(dns.acme_dns.iter().map(|accounts| &accounts.accounts_file));
                    let command = dns.exec.as_ref().and_then(|exec| exec.command.get_ref().first());
                    all.extend(command.map(PathBuf::from));
                }
            }
        }
    }
    all.push(config.state_dir.clone());
    all.extend(paths.into_iter().map(|path| config.path(path)));
    all
}

fn credentials(auth: &Auth) -> Vec<&FilePath> {
    match auth {
        Auth::Approle(it) => vec![&it.role_id_file, &it.secret_id_file],
        Auth::Userpass(it) => vec![&it.password_file],
        Auth::Jwt(it) => vec![&it.jwt_file],
        Auth::Kubernetes(it) => it.jwt_file.iter().collect(),
        Auth::Cert(_) => Vec::new(),
    }
}

fn roots(roots: &Roots) -> &[FilePath] {
    match roots {
        Roots::Files(paths) => paths,
        Roots::System | Roots::None => &[],
    }
}
