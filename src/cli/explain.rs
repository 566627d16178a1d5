//! `certd explain NAME`: when, why, and from what that follows.

use std::sync::Arc;

use anyhow::bail;
use clap::Args;

use crate::config;
use crate::cycle::Cycle;
use crate::cycle::setup::Setup;
use crate::domain::advice::Advice;
use crate::domain::crl::Crl;
use crate::domain::inventory::{Found, Sighting};
use crate::domain::persist::Proof;
use crate::domain::plan::Managed;
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::text::{message, printable, with_causes};
use crate::domain::time::Timestamp;
use crate::issuer::Issuer;
use crate::issuer::acme::persist::by_place;

use super::{ConfigFile, journal_view, note_waits, words};

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The `name` of a certificate, or a location as `certd check` shows it
    name: String,
    #[command(flatten)]
    file: ConfigFile,
}

/// What is told, and the word before it.
type Line = (&'static str, String);

pub async fn run(arguments: ExplainArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let config = super::load(&arguments.file.config)?;
    let setup = Arc::new(config::build::build(&config)?);
    let journal = journal_view(&config).await?;
    let (snapshot, managed) = Cycle::new(setup.clone(), now).look_with_managed(&journal, &|_| {}).await;
    let named = |entry: &&Entry| {
        entry.observation.location.to_string() == arguments.name
            || entry.managed.as_ref().is_some_and(|managed| managed.decision.certificate.0 == arguments.name)
    };
    let entry = snapshot.entries.iter().find(named);
    let managed = managed.iter().find(|managed| entry.is_some_and(|it| it.observation.location == managed.location));
    let records = match managed {
        Some(managed) => records(&setup, managed, now()).await,
        None => Vec::new(),
    };
    note_waits(&config, &setup, &journal, now()).await;
    setup.close().await;
    let Some(entry) = entry else { bail!("{}", unseen(&snapshot, &arguments.name)) };
    let lines = explained(snapshot.taken_at, entry, managed).into_iter().chain(records);
    let text: String = lines.map(|(what, text)| format!("{what:<11} {}\n", message(&text))).collect();
    super::print(&(super::pause::banner(&snapshot) + &text))?;
    Ok(0)
}

fn unseen(snapshot: &Snapshot, name: &str) -> String {
    let decided = |entry: &Entry| entry.managed.as_ref().map(|managed| managed.decision.certificate.0.clone());
    let places = snapshot.entries.iter().map(|entry| entry.observation.location.to_string());
    let names: Vec<String> = snapshot.entries.iter().filter_map(decided).chain(places).collect();
    let list = "`certd plan` and `certd check --config FILE` list what it sees";
    format!("certd sees nothing of this name: {name}{} ({list})", words::did_you_mean(name, names.iter()))
}

fn explained(now: Timestamp, entry: &Entry, managed: Option<&Managed>) -> Vec<Line> {
    let mut lines = vec![("location", entry.observation.location.to_string())];
    match &entry.observation.sighting {
        Sighting::Absent | Sighting::Deleted(_) => lines.push(("seen", "nothing is there".to_string())),
        Sighting::Crl(list) => lines.extend(seen_list(list)),
        Sighting::Unknown(obstacle) => lines.push(("seen", format!("unknown: {}", obstacle.message))),
        Sighting::Found(found) => lines.extend(seen(found)),
    }
    lines.extend(entry.problems.iter().map(|problem| ("problem", problem.message.clone())));
    match (managed, &entry.managed) {
        (Some(managed), Some(decided)) => {
            lines.push(("managed", format!("{:?} as {}", managed.origin, managed.name).to_lowercase()));
            lines.push(("asks for", wanted(managed)));
            lines
                .push(("issuers", managed.issuers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", then ")));
            lines.push(("decision", words::action(&decided.decision.action)));
            if let Some(until) = decided.paused_until(now) {
                lines.push(("paused", format!("until {until}")));
            }
            if let Some(error) = &decided.record.last_error {
                lines.push(("last error", error.clone()));
            }
            if let Some(at) = decided.record.last_success {
                lines.push(("renewed", at.to_string()));
            }
        }
        _ => lines.push(("managed", "no: it is only watched".to_string())),
    }
    if let (Some(managed), Sighting::Found(found)) = (managed, &entry.observation.sighting) {
        lines.push(("due", due(managed, found)));
        let advice = entry.managed.as_ref().and_then(|decided| decided.record.advice.as_ref());
        lines.extend(advice.and_then(|advice| advised(advice, found)).map(|text| ("advised", text)));
    }
    lines
}

/// What a person has put into the DNS for it, or has to.
async fn records(setup: &Setup, managed: &Managed, now: Timestamp) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, issuer) in setup.issuers_of(managed) {
        let Issuer::Acme(acme) = issuer.as_ref() else { continue };
        let Some(persist) = &acme.challenges.dns_persist_01 else { continue };
        let parties = match acme.parties().await {
            Ok(Some(parties)) => parties,
            Ok(None) => {
                let why = "is told once there is an account, which the first renewal makes";
                lines.push(("record", format!("of {name}: {why}")));
                continue;
            }
            Err(error) => {
                lines.push(("record", format!("of {name}: it is not known: {}", with_causes(&error))));
                continue;
            }
        };
        for (of, wildcard) in by_place(&managed.spec.names) {
            lines.push((
                "record",
                match persist.proof(&parties, &of, wildcard, now).await {
                    Ok(Proof { owner, record, standing }) => format!("{owner} TXT \"{record}\": {standing}"),
                    Err(error) => format!("of {of}: it is not known: {}", with_causes(&error)),
                },
            ));
        }
    }
    lines
}

fn seen(found: &Found) -> Vec<(&'static str, String)> {
    let leaf = found.leaf();
    let revoked = found.revoked_at.map_or(String::new(), |at| format!(", revoked on {at}"));
    let version = found.version.map_or(String::new(), |version| format!(", version {version}"));
    vec![
        ("seen", format!("serial {}, sha256 {}{version}", leaf.serial, leaf.fingerprint)),
        ("names", leaf.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ("issuer", leaf.issuer.clone()),
        ("valid", format!("from {} to {}{revoked}", leaf.not_before, leaf.not_after)),
    ]
    .into_iter()
    .map(|(what, text)| (what, printable(&text)))
    .collect()
}

fn seen_list(list: &Crl) -> Vec<(&'static str, String)> {
    let next = list.next_update.map_or("no end".to_string(), |next| next.to_string());
    vec![
        ("seen", format!("a revocation list of {} certificates", list.revoked)),
        ("issuer", printable(&list.issuer)),
        ("valid", format!("from {} to {next}", list.this_update)),
    ]
}

fn wanted(managed: &Managed) -> String {
    let names: Vec<String> = managed.spec.names.iter().map(ToString::to_string).collect();
    format!("{} with a new {} key", names.join(", "), managed.spec.key.key_type())
}

/// `None` where it is about another certificate.
fn advised(advice: &Advice, found: &Found) -> Option<String> {
    let at = advice.renew_at(found.leaf().fingerprint)?;
    let why = advice.explanation.as_ref().map(|url| format!(", see {url}")).unwrap_or_default();
    let window = advice.window;
    Some(format!("{at}, by its CA: between {} and {}{why}", window.start(), window.end()))
}

fn due(managed: &Managed, found: &Found) -> String {
    let rule = match managed.spec.renewal.0 {
        Some(_) => "renew_when_left of the configuration",
        None => "a third of the lifetime left, a half under ten days",
    };
    format!("{} ({rule}, less a spread taken from the fingerprint)", managed.spec.renewal.due_of(&found.chain))
}
