//! `certd adopt` and `certd forget`: a person says whose the names of a place are, where a rule may not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clap::Args;

use crate::audit::record::{Draft, Kind};
use crate::config::{self, Config};
use crate::control::{AdoptBody, Ended};
use crate::cycle::Cycle;
use crate::domain::cert::Certificate;
use crate::domain::check::ProblemKind;
use crate::domain::homes::{self, Lodging};
use crate::domain::inventory::{Location, Sighting};
use crate::domain::name::{CertName, San};
use crate::domain::plan::{Held, JournalView, Managed, Origin};
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::text::{one_line, printable};
use crate::domain::time::Timestamp;
use crate::domain::waiting;

use super::{ConfigFile, JournalAccess, Reason, note_waits, words};

#[derive(Debug, Args)]
pub struct AdoptArguments {
    /// The place, as `certd plan` and `certd check` show it
    #[arg(value_name = "LOCATION")]
    location: String,
    /// The serial number of the certificate that is meant, where another place has names of it
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// All names of the certificate that is meant, in place of its serial number
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    names: Vec<String>,
    #[command(flatten)]
    why: Reason,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, Args)]
pub struct ForgetArguments {
    /// The place, as `certd journal` and `certd plan` show it
    #[arg(value_name = "LOCATION")]
    location: String,
    #[command(flatten)]
    why: Reason,
    #[command(flatten)]
    file: ConfigFile,
}

/// Looks once, so that the person agrees to the certificate that is there now and to no later one.
pub async fn adopt(arguments: AdoptArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = config::load(&arguments.file.config)?;
    let setup = Arc::new(config::build::build(&config)?);
    let journal = JournalAccess::open_to_act(&config, arguments.why.reason.clone())?;
    let view = journal.view().await?;
    let (snapshot, managed) = Cycle::new(setup.clone(), now).look_with_managed(&view, &|_| {}).await;
    note_waits(&config, &setup, &view, now()).await;
    setup.close().await;
    super::ended(match claim(&snapshot, &managed, &view, &arguments) {
        Ok(Claimed::Settled(line)) => Ended::Done(line),
        Ok(Claimed::Agreed(place, holds, line)) => {
            journal.adopt(now(), &AdoptBody { place, holds: Some(holds) }).await?;
            journal.note_audit_head(&config).await;
            Ended::Done(line)
        }
        Err(why) => {
            let act = Draft::of(Kind::Adopt, Some(&CertName(arguments.location)));
            journal.refused(now(), &config, act, format!("nothing was adopted: {why}")).await
        }
    })
}

/// Looks once, and releases the names of a place that is gone. A rule would adopt again what still stands there.
pub async fn forget(arguments: ForgetArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = config::load(&arguments.file.config)?;
    let journal = JournalAccess::open_to_act(&config, arguments.why.reason.clone())?;
    let view = journal.view().await?;
    let place = CertName(arguments.location);
    let released = match view.homes.get(&place) {
        None => {
            let known: Vec<String> = view.homes.keys().map(|place| place.0.clone()).collect();
            Err(format!("it is no home: {place}{}", words::did_you_mean(&place.0, known.iter())))
        }
        Some(home) => match lives(&config, &view, &place, now).await? {
            Some(why) => Err(why),
            None => Ok(home.names.join(", ")),
        },
    };
    super::ended(match released {
        Ok(names) => {
            let line = format!("forgotten: {place}; its names are free: {names}");
            journal.adopt(now(), &AdoptBody { place, holds: None }).await?;
            journal.note_audit_head(&config).await;
            Ended::Done(line)
        }
        Err(why) => {
            let act = Draft::of(Kind::Forget, Some(&place));
            journal.refused(now(), &config, act, format!("nothing was forgotten: {why}")).await
        }
    })
}

/// Returns why a place may still have its names; `None` where it is gone or no rule adopts it.
async fn lives(
    config: &Config,
    view: &JournalView,
    place: &CertName,
    now: fn() -> Timestamp,
) -> anyhow::Result<Option<String>> {
    let setup = Arc::new(config::build::build(config)?);
    let (snapshot, managed) = Cycle::new(setup.clone(), now).look_with_managed(view, &|_| {}).await;
    note_waits(config, &setup, view, now()).await;
    setup.close().await;
    let Some(entry) = snapshot.entries.iter().find(|entry| entry.observation.location.to_string() == place.0) else {
        let hidden = snapshot.entries.iter().find_map(|entry| match &entry.observation.sighting {
            Sighting::Unknown(obstacle) if matches!(entry.observation.location, Location::Listing { .. }) => {
                Some(format!("whether {place} is gone is unknown: {}", obstacle.message))
            }
            _ => None,
        });
        return Ok(hidden);
    };
    let is_adopted = managed.iter().any(|managed| managed.location == entry.observation.location);
    Ok(match &entry.observation.sighting {
        Sighting::Unknown(obstacle) => Some(format!("whether {place} is gone is unknown: {}", obstacle.message)),
        Sighting::Found(_) if is_adopted => Some(format!(
            "{place} is still there, and its [[adopt]] rule would adopt it again; delete it or take it out of the rule first"
        )),
        Sighting::Found(_) | Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_) => None,
    })
}

enum Claimed {
    /// Nothing is to be agreed to.
    Settled(String),
    Agreed(CertName, Lodging, String),
}

fn claim(
    snapshot: &Snapshot,
    managed: &[Managed],
    view: &JournalView,
    arguments: &AdoptArguments,
) -> Result<Claimed, String> {
    let what = arguments.location.as_str();
    let Some(entry) = snapshot.entries.iter().find(|entry| entry.observation.location.to_string() == what) else {
        let places: Vec<String> = snapshot.entries.iter().map(|entry| entry.observation.location.to_string()).collect();
        let meant = words::did_you_mean(what, places.iter());
        return Err(format!("certd sees nothing of this name: {}{meant}", printable(what)));
    };
    let Sighting::Found(found) = &entry.observation.sighting else {
        return Err("there is no certificate that could be read".to_string());
    };
    let (place, leaf) = (CertName(what.to_string()), found.leaf());
    let holds = Lodging { names: homes::name_texts(&found.leaf().names), fingerprint: found.leaf().fingerprint };
    let others = others(&place, &holds.names, managed, view);
    let managed = managed.iter().find(|managed| managed.location == entry.observation.location);
    let held = managed.and_then(|managed| managed.held.as_ref());
    match managed {
        Some(managed) if managed.origin == Origin::Declared => {
            return Ok(Claimed::Settled(format!("it is declared already, as {}", managed.name)));
        }
        Some(_) if held.and_then(waiting::kind).is_none() && view.homes.contains_key(&place) => {
            return Ok(Claimed::Settled(format!("it is adopted already: {}", printable(what))));
        }
        Some(_) => {}
        None if problem(entry, ProblemKind::Abandoned).is_some() => {}
        None => match problem(entry, ProblemKind::Foreign) {
            Some(why) => return Err(why.to_string()),
            None => return Err("no [[adopt]] rule covers it; add its path to one, or declare it".to_string()),
        },
    }
    let is_named = arguments.names_it(leaf, &holds)?;
    if !is_named && (!others.is_empty() || held.is_some_and(|held| !matches!(held, Held::NotAgreed))) {
        let why = held.and_then(waiting::why).unwrap_or_else(|| "another place has names of it".to_string());
        let command = waiting::command(&entry.observation.location, leaf);
        return Err(format!("{}; {why}; if that is right, run {command}", described(leaf, &others)));
    }
    let line = format!("adopted: {}, {}", printable(what), described(leaf, &others));
    Ok(Claimed::Agreed(place, holds, line))
}

impl AdoptArguments {
    /// Whether they name the certificate that is there; an error where they name another.
    fn names_it(&self, leaf: &Certificate, holds: &Lodging) -> Result<bool, String> {
        let plain = |text: &str| {
            let digits: String = text.chars().filter(|c| *c != ':').collect();
            digits.to_ascii_lowercase().trim_start_matches('0').to_string()
        };
        let now = described(leaf, &BTreeSet::new());
        if self.serial.as_ref().is_some_and(|serial| plain(serial) != plain(&leaf.serial)) {
            return Err(format!("another certificate than the one of that serial number is there now, {now}"));
        }
        let named: Vec<San> = self.names.iter().map(|name| San::from_text(name.trim())).collect();
        if !named.is_empty() && homes::name_texts(&named) != holds.names {
            return Err(format!("a certificate with other names than these is there now, {now}"));
        }
        Ok(self.serial.is_some() || !named.is_empty())
    }
}

fn problem(entry: &Entry, kind: ProblemKind) -> Option<&str> {
    entry.problems.iter().find(|problem| problem.problem == kind).map(|problem| problem.message.as_str())
}

/// The certificate that a person agrees to, and who has its names already.
fn described(leaf: &Certificate, others: &BTreeSet<CertName>) -> String {
    let names = homes::name_texts(&leaf.names).join(", ");
    let (serial, issuer, until) = (&leaf.serial, &leaf.issuer, leaf.not_after);
    let also = match others.is_empty() {
        true => String::new(),
        false => {
            let others: Vec<&str> = others.iter().map(|other| other.0.as_str()).collect();
            format!("; it shares them with {}", others.join(", "))
        }
    };
    one_line(&format!("for {names} (serial {serial}, issued by {issuer}, valid until {until}){also}"))
}

/// The places that have names of it: homes, whether they are still there or not, and what is declared or adopted.
fn others(place: &CertName, names: &[String], managed: &[Managed], view: &JournalView) -> BTreeSet<CertName> {
    let waits = |managed: &Managed| managed.held.as_ref().is_some_and(|held| waiting::kind(held).is_some());
    let managed = managed.iter().filter(|managed| !waits(managed));
    let managed = managed.map(|managed| (&managed.name, homes::name_texts(&managed.spec.names)));
    let homes = view.homes.iter().map(|(home, it)| (home, it.names.clone()));
    let known: BTreeMap<&CertName, Vec<String>> = homes.chain(managed).chain([(place, names.to_vec())]).collect();
    let shared = homes::shared(known.into_iter());
    let sharing = shared.keys().filter(|places| places.contains(place)).flatten();
    sharing.filter(|other| *other != place).cloned().collect()
}
