//! The rules over `[vault.NAME]`.

use std::time::Duration;

use super::Mistakes;
use crate::config::kept::same_address;
use crate::config::rules;
use crate::config::{Auth, Declared, Vault};

/// A renewal that was left behind waits for so long, where no longer one is needed.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// Requests a second: under one, a sweep would not end; above what any Vault answers, it bounds nothing.
const RATES: std::ops::RangeInclusive<u32> = 1..=100_000;

impl Mistakes<'_> {
    pub(super) fn vaults(&mut self) {
        for (name, vault) in &self.config.vaults {
            self.own_name(vault.file, vault.span.clone(), name);
            self.vault_addresses(vault);
            self.deadline(vault.file, &vault.deadline);
            self.lease_term(vault);
            if let Some(group) = &vault.staging_group {
                self.judge(vault.file, group, rules::staging_group);
            }
            self.rate(vault);
            self.way_in(vault);
            if let Some(namespace) = &vault.namespace {
                self.judge(vault.file, namespace, rules::vault_segments);
            }
        }
    }

    fn vault_addresses(&mut self, vault: &Declared<Vault>) {
        let file = vault.file;
        if vault.address.is_empty() {
            let hint = "write one such as https://vault.example.org:8200, or several of the same Vault";
            self.say(file, vault.span.clone(), "no address for this Vault", hint);
        }
        for (nth, address) in vault.address.iter().enumerate() {
            self.judge(file, address, rules::vault_address);
            if vault.address[..nth].iter().any(|before| same_address(before) == same_address(address)) {
                self.say(file, address.span(), "an address that is listed twice", "remove one of them");
            }
        }
        let Some(name) = &vault.server_name else { return };
        self.judge(file, name, rules::server_name);
        if vault.address.iter().any(|address| address.get_ref().starts_with("http://")) {
            let hint = "write https:// addresses, or remove server_name";
            self.say(file, name.span(), "plain http shows no certificate, so there is no name to check", hint);
        }
    }

    fn rate(&mut self, vault: &Declared<Vault>) {
        let Some(rate) = &vault.requests_per_second else { return };
        if !RATES.contains(rate.get_ref()) {
            let hint = format!("from {} to {}; leave it out for no bound", RATES.start(), RATES.end());
            self.say(vault.file, rate.span(), "the rate is out of bounds", hint);
        }
    }

    /// Exactly one: which of two is meant, nobody could tell.
    fn way_in(&mut self, vault: &Declared<Vault>) {
        let file = vault.file;
        match (&vault.token_file, &vault.auth) {
            (Some(_), None) | (None, Some(_)) => {}
            (None, None) => {
                let hint =
                    "add token_file, or one of auth.approle, auth.userpass, auth.jwt, auth.kubernetes, auth.cert";
                self.say(file, vault.span.clone(), "no way into this Vault", hint);
            }
            (Some(_), Some(auth)) => {
                self.say(file, auth.span(), "two ways into one Vault", "remove either token_file or auth");
            }
        }
        match (&vault.client_certificate_file, &vault.client_key_file) {
            (Some(_), Some(_)) | (None, None) => {}
            (Some(lone), None) | (None, Some(lone)) => {
                let hint = "write client_certificate_file and client_key_file, or neither";
                self.say(file, lone.span(), "a client certificate needs its key, and a key its certificate", hint);
            }
        }
        let Some(auth) = &vault.auth else { return };
        if let Some(mount) = auth.get_ref().mount() {
            self.judge(file, mount, rules::vault_segments);
        }
        match auth.get_ref() {
            Auth::Cert(_) if vault.client_certificate_file.is_none() => {
                let hint = "add client_certificate_file and client_key_file";
                self.say(file, auth.span(), "nothing to log in with", hint);
            }
            Auth::Userpass(userpass) => self.judge(file, &userpass.username, rules::vault_segments),
            Auth::Cert(_) | Auth::Approle(_) | Auth::Jwt(_) | Auth::Kubernetes(_) => {}
        }
    }

    /// A step of a renewal waits for several answers, and nobody may take it over meanwhile.
    fn lease_term(&mut self, vault: &Declared<Vault>) {
        let Some(term) = &vault.lease_term else { return };
        let least = vault.deadline.get_ref().0 * 3;
        if term.get_ref().0 < least || term.get_ref().0 > LONGEST_LEASE {
            let what = "the lease_term is out of bounds";
            self.say(vault.file, term.span(), what, "at least three times the deadline, and up to 1d");
        }
    }
}
