//! `certd adopt` and `certd forget`: a person says whose the names of a place are, where a rule may not.

use std::sync::Arc;

use clap::Args;

use crate::config;
use crate::control::{AdoptBody, Ended};
use crate::cycle::Cycle;
use crate::domain::check::ProblemKind;
use crate::domain::homes::{self, Lodging};
use crate::domain::inventory::Sighting;
use crate::domain::name::CertName;
use crate::domain::plan::{Held, JournalView, Managed, Origin};
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::text::printable;
use crate::domain::time::Timestamp;

use super::{ConfigFile, JournalAccess, note_waits, words};

#[derive(Debug, Args)]
pub struct AdoptArguments {
    /// The place, as `certd plan` and `certd check` show it
    #[arg(value_name = "LOCATION")]
    location: String,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, Args)]
pub struct ForgetArguments {
    /// The place, as `certd journal` and `certd plan` show it
    #[arg(value_name = "LOCATION")]
    location: String,
    #[command(flatten)]
    file: ConfigFile,
}

/// Looks once, so that the person agrees to the certificate that is there now and to no later one.
pub async fn adopt(arguments: AdoptArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = config::load(&arguments.file.config)?;
    let setup = Arc::new(config::build::build(&config)?);
    let journal = JournalAccess::open(&config)?;
    let view = journal.view().await?;
    let (snapshot, managed) = Cycle::new(setup.clone(), now).look_with_managed(&view, &|_| {}).await;
    note_waits(&config, &setup, &view, now()).await;
    setup.close().await;
    super::ended(match claim(&snapshot, &managed, &view, &arguments.location) {
        Ok(Claimed::Settled(line)) => Ended::Done(line),
        Ok(Claimed::Agreed(place, holds)) => {
            let line = agreed(&place, &holds, &managed);
            journal.adopt(now(), &AdoptBody { place, holds: Some(holds), by: who() }).await?;
            Ended::Done(line)
        }
        Err(why) => Ended::Refused(format!("nothing was adopted: {why}")),
    })
}

/// Releases the names of a place that is gone or that nobody wants any more.
pub async fn forget(arguments: ForgetArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = config::load(&arguments.file.config)?;
    let journal = JournalAccess::open(&config)?;
    let homes = journal.view().await?.homes;
    let place = CertName(arguments.location);
    let Some(home) = homes.get(&place) else {
        let known: Vec<String> = homes.keys().map(|place| place.0.clone()).collect();
        let meant = words::did_you_mean(&place.0, known.iter());
        return super::ended(Ended::Refused(format!("nothing was forgotten: it is no home: {place}{meant}")));
    };
    let line = format!("forgotten: {place}; its names are free: {}", home.names.join(", "));
    journal.adopt(now(), &AdoptBody { place, holds: None, by: who() }).await?;
    super::ended(Ended::Done(line))
}

/// The account that the command runs under.
fn who() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

enum Claimed {
    /// Nothing is to be agreed to.
    Settled(String),
    Agreed(CertName, Lodging),
}

fn claim(snapshot: &Snapshot, managed: &[Managed], view: &JournalView, what: &str) -> Result<Claimed, String> {
    let Some(entry) = snapshot.entries.iter().find(|entry| entry.observation.location.to_string() == what) else {
        let places: Vec<String> = snapshot.entries.iter().map(|entry| entry.observation.location.to_string()).collect();
        let meant = words::did_you_mean(what, places.iter());
        return Err(format!("certd sees nothing of this name: {}{meant}", printable(what)));
    };
    let Sighting::Found(found) = &entry.observation.sighting else {
        return Err("there is no certificate that could be read".to_string());
    };
    let place = CertName(what.to_string());
    let holds = Lodging { names: homes::name_texts(&found.leaf().names), fingerprint: found.leaf().fingerprint };
    let managed = managed.iter().find(|managed| managed.location == entry.observation.location);
    match managed {
        Some(managed) if managed.origin == Origin::Declared => {
            Ok(Claimed::Settled(format!("it is declared already, as {}", managed.name)))
        }
        Some(managed) => Ok(match &managed.held {
            Some(Held::ContestedName(_) | Held::OtherNames(_) | Held::NotAgreed) => Claimed::Agreed(place, holds),
            Some(_) | None if view.homes.contains_key(&place) => {
                Claimed::Settled(format!("it is adopted already: {}", printable(what)))
            }
            Some(_) | None => Claimed::Agreed(place, holds),
        }),
        None if problem(entry, ProblemKind::Abandoned).is_some() => Ok(Claimed::Agreed(place, holds)),
        None => match problem(entry, ProblemKind::Foreign) {
            Some(why) => Err(why.to_string()),
            None => Err("no [[adopt]] rule covers it; add its path to one, or declare it".to_string()),
        },
    }
}

fn problem(entry: &Entry, kind: ProblemKind) -> Option<&str> {
    entry.problems.iter().find(|problem| problem.problem == kind).map(|problem| problem.message.as_str())
}

fn agreed(place: &CertName, holds: &Lodging, managed: &[Managed]) -> String {
    let names = printable(&holds.names.join(", "));
    let places = managed.iter().filter(|managed| managed.name != *place && managed.held.is_none());
    let places = places.map(|managed| (&managed.name, homes::name_texts(&managed.spec.names)));
    let shared = homes::shared(places.chain([(place, holds.names.clone())]));
    let others: std::collections::BTreeSet<&CertName> =
        shared.keys().filter(|places| places.contains(place)).flatten().filter(|other| *other != place).collect();
    let also = match others.is_empty() {
        true => String::new(),
        false => {
            let others: Vec<&str> = others.iter().map(|other| other.0.as_str()).collect();
            format!("; it shares them with {}", printable(&others.join(", ")))
        }
    };
    format!("adopted: {}, for {names}{also}", printable(&place.0))
}
