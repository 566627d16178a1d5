//! Names in one table that stand for another: declared at all, and of the same environment.

use std::collections::HashMap;

use toml::Spanned;

use super::validate::Mistakes;
use super::{Config, Declared, Environment, Source, rules};
use crate::domain::inventory::Location;
use crate::source::target::Target;

impl Mistakes<'_> {
    pub fn vault(&mut self, file: usize, name: &Spanned<String>, user: &Environment) {
        match self.config.vaults.get(name.get_ref()) {
            Some(vault) => self.same_environment(file, name, "vault", &vault.environment, user),
            None => self.unknown(file, name, "vault", self.config.vaults.keys()),
        }
    }

    pub fn issuers<T>(&mut self, table: &Declared<T>, names: &[Spanned<String>], user: &Environment) {
        if names.is_empty() {
            self.say(table.file, table.span.clone(), "no issuer", "name at least one: issuer = [\"NAME\"]");
        }
        for name in names {
            match self.config.issuers.get(name.get_ref()) {
                Some(issuer) => self.same_environment(table.file, name, "issuer", issuer.environment(), user),
                None => self.unknown(table.file, name, "issuer", self.config.issuers.keys()),
            }
        }
    }

    /// An endpoint belongs to the environment of each source that watches it.
    pub fn served(&mut self, file: usize, target: &Spanned<String>, user: &Environment) {
        let environments = endpoint(target).and_then(|endpoint| self.watched.get(&endpoint)).cloned();
        for environment in environments.unwrap_or_default() {
            self.same_environment(file, target, "endpoint", environment, user);
        }
    }

    fn unknown<'n>(
        &mut self,
        file: usize,
        name: &Spanned<String>,
        kind: &str,
        declared: impl Iterator<Item = &'n String> + Clone,
    ) {
        let hint = match rules::closest(name.get_ref(), declared.clone()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => match declared.map(String::as_str).collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => format!("declare it: [{kind}.{}…]", name.get_ref()),
                names => format!("declared are: {names}"),
            },
        };
        self.say(file, name.span(), format!("no such {kind}: {:?}", name.get_ref()), hint);
    }

    /// What belongs to an environment serves only that one; what belongs to none serves all.
    fn same_environment(
        &mut self,
        file: usize,
        name: &Spanned<String>,
        kind: &str,
        used: &Environment,
        user: &Environment,
    ) {
        let Some(used) = used.as_ref().map(Spanned::get_ref) else { return };
        let own = match user.as_ref().map(Spanned::get_ref) {
            Some(own) if own == used => return,
            Some(own) => format!("{own:?}"),
            None => "none".to_string(),
        };
        let what = format!("{kind} {:?} is of environment {used:?}, and this is of {own}", name.get_ref());
        self.say(file, name.span(), what, format!("use {kind}s of one environment, or set environment = {used:?}"));
    }
}

/// The same for every way to write it.
fn endpoint(target: &Spanned<String>) -> Option<Location> {
    target.get_ref().parse::<Target>().ok().map(Location::from)
}

/// Each endpoint that is watched, and the environments of the sources that watch it.
pub(super) fn watched(config: &Config) -> HashMap<Location, Vec<&Environment>> {
    let mut watched: HashMap<_, Vec<_>> = HashMap::new();
    for source in config.sources.values() {
        if let Source::Tls(tls) = &**source {
            let endpoints = tls.targets.get_ref().iter().filter_map(endpoint);
            endpoints.for_each(|endpoint| watched.entry(endpoint).or_default().push(&tls.environment));
        }
    }
    watched
}
