//! The rules over the whole configuration. All mistakes are found, not only the first.

mod acme;
mod audit;
mod vaults;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::folders;
use super::references;
use super::rules::{self, Fault};
use super::{
    Adopt, Certificate, Config, ConfigError, Declared, Environment, FilePath, Found, Issuer, Listen, Period, Roots,
    Source, Store,
};
use crate::domain::inventory::Location;
use crate::domain::name::NamePattern;
use crate::domain::policy::{Share, Threshold};
use crate::source::target::Target;

/// More often is load without news; more rarely misses six-day certificates.
const INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(24 * 60 * 60)];

/// Longer than anything healthy takes; one place that hangs must not hold up the others for longer.
pub const LONGEST_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// Each one in flight holds a socket; hosts commonly allow 1024.
const MOST_AT_ONCE: usize = 512;

pub(super) fn validate(config: &Config) -> Vec<ConfigError> {
    let mut m = Mistakes { config, watched: references::watched(config), found: Vec::new() };
    m.turn();
    m.thresholds();
    m.same_key();
    m.listen(&config.listen);
    m.audit(&config.audit);
    m.vaults();
    m.addresses();
    config.sources.iter().for_each(|(name, source)| m.source(name, source));
    config.issuers.iter().for_each(|(name, issuer)| m.issuer(name, issuer));
    config.certificates.iter().for_each(|certificate| m.certificate(certificate));
    config.adopt.iter().for_each(|rule| m.adopt(rule));
    m.one_name_each();
    m.one_store_each();
    targets_valid(&mut m);
    m.found
}

/// The one place where TLS targets are judged.
fn targets_valid(m: &mut Mistakes) {
    for source in m.config.sources.values() {
        if let Source::Tls(tls) = &**source {
            tls.targets.get_ref().iter().for_each(|target| m.target(source.file, target));
        }
    }
    for certificate in &m.config.certificates {
        certificate.serves.iter().for_each(|target| m.target(certificate.file, target));
    }
}

pub(super) struct Mistakes<'a> {
    pub config: &'a Config,
    pub watched: HashMap<Location, Vec<&'a Environment>>,
    found: Vec<ConfigError>,
}

impl Mistakes<'_> {
    pub fn say(&mut self, file: usize, span: Range<usize>, what: impl Into<String>, hint: impl Into<String>) {
        let read = &self.config.files[file];
        self.found.push(ConfigError::at(&read.path, &read.text, span, what.into(), Some(hint.into())));
    }

    fn judge(&mut self, file: usize, text: &Spanned<String>, rule: fn(&str) -> Result<(), Fault>) {
        if let Err(Fault { what, hint }) = rule(text.get_ref()) {
            self.say(file, text.span(), what, hint);
        }
    }

    fn own_name(&mut self, file: usize, span: Range<usize>, name: &str) {
        if let Err(Fault { what, hint }) = rules::own_name(name) {
            self.say(file, span, what, hint);
        }
    }

    fn target(&mut self, file: usize, target: &Spanned<String>) {
        if let Err(error) = target.get_ref().parse::<Target>() {
            self.say(file, target.span(), error.to_string(), "such as www.example.org:443");
        }
    }

    fn turn(&mut self) {
        let turn = &self.config.turn;
        let interval = &turn.interval;
        if !(INTERVALS[0]..=INTERVALS[1]).contains(&interval.get_ref().0) {
            self.say(turn.file, interval.span(), "the interval is out of bounds", "from 1s to 1d");
        }
        if *turn.max_renewals.get_ref() == 0 {
            let hint = "at least 1; to stop all acting write act = false";
            self.say(turn.file, turn.max_renewals.span(), "no renewal is ever allowed", hint);
        }
    }

    fn thresholds(&mut self) {
        let check = &self.config.check;
        let thresholds = check.thresholds();
        let below = match (thresholds.warning, thresholds.critical) {
            (Threshold::Share(warning), Threshold::Share(critical)) => warning < critical,
            (Threshold::Left(warning), Threshold::Left(critical)) => warning < critical,
            (Threshold::Share(_), Threshold::Left(_)) | (Threshold::Left(_), Threshold::Share(_)) => false,
        };
        if let (true, Some(written)) = (below, check.warning.as_ref().or(check.critical.as_ref())) {
            let hint = "the warning comes first: give it the larger value";
            self.say(check.file, written.span(), "the warning threshold is below the critical one", hint);
        }
    }

    fn same_key(&mut self) {
        let check = &self.config.check;
        if let Some(zero) = check.same_key_renewals.as_ref().filter(|most| *most.get_ref() == 0) {
            let hint = "at least 1; leave it out to let every key live for ever";
            self.say(check.file, zero.span(), "every key would be too old", hint);
        }
    }

    fn listen(&mut self, listen: &Declared<Listen>) {
        let address = match rules::listen_address(listen.address.get_ref()) {
            Ok(Some(address)) => address,
            Ok(None) => return,
            Err(Fault { what, hint }) => return self.say(listen.file, listen.address.span(), what, hint),
        };
        if !address.ip().is_loopback() && (listen.tls.is_none() || listen.bearer_token_file.is_none()) {
            let what = format!("listening off loopback needs TLS and a bearer token: {address}");
            let hint = "add certificate_directory (or certificate_file and private_key_file) and bearer_token_file";
            self.say(listen.file, listen.address.span(), what, hint);
        }
    }

    fn addresses(&mut self) {
        for (host, addresses) in &self.config.addresses {
            if !format!("{host}:1").parse::<Target>().is_ok_and(|target| target.host == host.to_ascii_lowercase()) {
                let hint = "write the name of a host as targets have it, without a port";
                self.say(addresses.file, addresses.span.clone(), format!("not a host: {host:?}"), hint);
            }
            self.not_empty(addresses.file, addresses, "addresses");
            for address in addresses.get_ref() {
                self.judge(addresses.file, address, rules::ip_address);
            }
        }
    }

    fn source(&mut self, name: &str, source: &Declared<Source>) {
        let file = source.file;
        self.own_name(file, source.span.clone(), name);
        match &**source {
            Source::Tls(tls) => {
                self.not_empty(file, &tls.targets, "targets");
                self.deadline(file, &tls.timeout);
                self.concurrency(file, &tls.concurrency);
            }
            Source::VaultKv(kv) => {
                self.not_empty(file, &kv.paths, "paths");
                kv.paths.get_ref().iter().chain(&kv.exclude).for_each(|p| self.judge(file, p, rules::vault_glob));
                self.concurrency(file, &kv.concurrency);
                self.vault(file, &kv.vault, &kv.environment);
            }
            Source::VaultPki(pki) => {
                self.not_empty(file, &pki.mounts, "mounts");
                pki.mounts.get_ref().iter().for_each(|mount| self.judge(file, mount, rules::vault_segments));
                self.one_mount_each(file, pki.mounts.get_ref());
                self.concurrency(file, &pki.concurrency);
                self.vault(file, &pki.vault, &pki.environment);
            }
            Source::File(files) => {
                self.not_empty(file, &files.paths, "paths");
                files.paths.get_ref().iter().for_each(|path| self.file_glob(file, path));
            }
        }
    }

    fn one_mount_each(&mut self, file: usize, mounts: &[Spanned<String>]) {
        for (i, mount) in mounts.iter().enumerate() {
            if mounts[..i].iter().any(|earlier| earlier.get_ref() == mount.get_ref()) {
                self.say(file, mount.span(), format!("a mount named twice: {:?}", mount.get_ref()), "remove one");
            }
        }
    }

    fn file_glob(&mut self, file: usize, path: &Spanned<FilePath>) {
        let text = path.get_ref().as_written().to_string_lossy();
        if let Err(error) = glob::Pattern::new(&text) {
            self.say(file, path.span(), format!("not a glob: {text:?}: {}", error.msg), "mend it, such as *.pem");
        }
    }

    fn issuer(&mut self, name: &str, issuer: &Declared<Issuer>) {
        let file = issuer.file;
        self.own_name(file, issuer.span.clone(), name);
        match &**issuer {
            Issuer::LocalCa(ca) => {
                self.judge(file, &ca.common_name, rules::common_name);
                ca.permitted_names.iter().for_each(|base| self.judge(file, base, rules::permitted_name));
                self.lifetime(file, &ca.lifetime);
                self.lifetime(file, &ca.leaf_lifetime);
                if ca.leaf_lifetime.get_ref() > ca.lifetime.get_ref() {
                    let hint = "no certificate outlives its CA: shorten it";
                    self.say(file, ca.leaf_lifetime.span(), "leaf_lifetime is longer than the CA's lifetime", hint);
                }
            }
            Issuer::VaultPki(pki) => {
                self.vault(file, &pki.vault, &pki.environment);
                self.judge(file, &pki.mount, rules::vault_segments);
                self.judge(file, &pki.role, rules::own_name);
            }
            Issuer::Acme(acme) => self.acme(issuer, acme),
        }
    }

    fn certificate(&mut self, certificate: &Declared<Certificate>) {
        let file = certificate.file;
        self.judge(file, &certificate.name, rules::own_name);
        self.not_empty(file, &certificate.names, "names");
        certificate.names.get_ref().iter().for_each(|name| self.judge(file, name, rules::san));
        if let Some(name) = &certificate.common_name {
            self.judge(file, name, rules::common_name);
        }
        self.issuers(certificate, &certificate.issuer, &certificate.environment);
        self.provable(certificate);
        self.lifetime_can_be_asked_for(file, &certificate.lifetime, &certificate.issuer);
        self.renewal(file, &certificate.lifetime, &certificate.renew_when_left);
        match certificate.store.get_ref() {
            Store::VaultKv(kv) => {
                self.judge(file, &kv.path, rules::vault_store);
                self.vault(file, &kv.vault, &certificate.environment);
            }
            Store::File(_) => {}
        }
        certificate.serves.iter().for_each(|target| self.served(file, target, &certificate.environment));
    }

    fn adopt(&mut self, rule: &Declared<Adopt>) {
        let file = rule.file;
        let Found::VaultKv(found) = &rule.found;
        if let Some(name) = &rule.name {
            self.judge(file, name, rules::own_name);
        }
        self.not_empty(file, &found.paths, "paths");
        found.paths.get_ref().iter().chain(&found.exclude).for_each(|path| self.judge(file, path, rules::vault_glob));
        self.vault(file, &found.vault, &rule.environment);
        self.not_empty(file, &rule.names, "names");
        for pattern in rule.names.get_ref() {
            self.judge(file, pattern, name_pattern);
            if let Err(Fault { what, hint }) = folders::bound(pattern.get_ref(), rule) {
                self.say(file, pattern.span(), what, hint);
            }
        }
        if *rule.roots.get_ref() == Roots::None {
            let hint = "write \"system\" or a list of PEM files: only what verifies to them is adopted";
            self.say(file, rule.roots.span(), "adopting without roots would let anything stored reach a CA", hint);
        }
        self.issuers(rule, &rule.issuer, &rule.environment);
        self.lifetime_can_be_asked_for(file, &rule.lifetime, &rule.issuer);
        self.renewal(file, &rule.lifetime, &rule.renew_when_left);
    }

    fn renewal(&mut self, file: usize, lifetime: &Option<Spanned<Period>>, left: &Option<Spanned<Threshold>>) {
        if let Some(lifetime) = lifetime {
            self.lifetime(file, lifetime);
        }
        let Some(left) = left else { return };
        let late = matches!(*left.get_ref(), Threshold::Share(share) if share == Share::millionths(0))
            || *left.get_ref() == Threshold::Left(Duration::ZERO);
        if late {
            let hint = "leave it out for a third of the lifetime, or give time to try again";
            self.say(file, left.span(), "it would be renewed only once it has expired", hint);
        }
        let whole = lifetime.as_ref().map(|lifetime| lifetime.get_ref().0);
        if matches!((*left.get_ref(), whole), (Threshold::Left(left), Some(whole)) if left >= whole) {
            let hint = "make renew_when_left shorter than lifetime";
            self.say(file, left.span(), "it would be due again as soon as it is issued", hint);
        }
    }

    fn lifetime(&mut self, file: usize, lifetime: &Spanned<Period>) {
        if lifetime.get_ref().0 < INTERVALS[0] {
            self.say(file, lifetime.span(), "a lifetime under a second", "write one such as \"90d\"");
        }
    }

    fn deadline(&mut self, file: usize, deadline: &Spanned<Period>) {
        if deadline.get_ref().0.is_zero() || deadline.get_ref().0 > LONGEST_DEADLINE {
            self.say(file, deadline.span(), "the time to wait is out of bounds", "over 0s and up to 5m");
        }
    }

    fn concurrency(&mut self, file: usize, concurrency: &Spanned<usize>) {
        if !(1..=MOST_AT_ONCE).contains(concurrency.get_ref()) {
            let hint = format!("from 1 to {MOST_AT_ONCE}");
            self.say(file, concurrency.span(), "the concurrency is out of bounds", hint);
        }
    }

    fn not_empty<T>(&mut self, file: usize, list: &Spanned<Vec<T>>, key: &str) {
        if list.get_ref().is_empty() {
            self.say(file, list.span(), format!("no {key}"), "list at least one, or remove the table");
        }
    }

    fn one_name_each(&mut self) {
        let mut seen = BTreeMap::new();
        for certificate in &self.config.certificates {
            if let Some(first) = seen.insert(certificate.name.get_ref(), certificate) {
                let what = format!("two certificates of one name: {:?}", certificate.name.get_ref());
                let hint = format!("the other: {}", self.place(first, first.name.span()));
                self.say(certificate.file, certificate.name.span(), what, hint);
            }
        }
    }

    pub fn place<T>(&self, table: &Declared<T>, span: Range<usize>) -> String {
        let read = &self.config.files[table.file];
        let (line, column) = super::error::line_and_column(&read.text, span.start);
        format!("{}:{line}:{column}", read.path.display())
    }
}

fn name_pattern(text: &str) -> Result<(), Fault> {
    match NamePattern::new(text) {
        Some(_) => Ok(()),
        None => Err(Fault {
            what: format!("a pattern that could match every name, or none: {text:?}"),
            hint: "write one such as *.example.org".to_string(),
        }),
    }
}
