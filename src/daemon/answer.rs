//! What whoever asked for a renewal is told of it.

use crate::cli::words::did_you_mean;
use crate::control::{Answer, Upshot};
use crate::cycle::Turn;
use crate::domain::inventory::{Location, Sighting};
use crate::domain::name::CertName;
use crate::domain::plan::Action;
use crate::domain::snapshot::Snapshot;
use crate::renew;

/// What came of one requested renewal.
pub fn answer(name: &CertName, turn: &Turn) -> Answer {
    let attempt = turn.attempts.iter().find(|attempt| attempt.certificate == *name);
    let (upshot, message) = match attempt.map(|attempt| &attempt.ended) {
        Some(Ok(renew::Outcome::Renewed { not_after, issuer, .. })) => {
            (Upshot::Done, format!("renewed by {issuer}, ends on {not_after}"))
        }
        Some(Ok(renew::Outcome::Superseded { why })) => (Upshot::Done, format!("not renewed: {why}")),
        Some(Err(failure)) => (Upshot::Failed, failure.message.clone()),
        None => not_tried(name, turn),
    };
    Answer { certificate: name.clone(), upshot, message }
}

fn not_tried(name: &CertName, turn: &Turn) -> (Upshot, String) {
    let mut managed = turn.snapshot.entries.iter().filter_map(|entry| entry.managed.as_ref());
    let Some(managed) = managed.find(|managed| managed.decision.certificate == *name) else {
        return (Upshot::NotManaged, unmanaged(name, &turn.snapshot));
    };
    let action = &managed.decision.action;
    let upshot = match action {
        Action::Keep { .. } => Upshot::NotDue,
        Action::Renew { .. } | Action::Defer { .. } | Action::Hold { .. } => Upshot::Waiting,
    };
    (upshot, crate::cli::words::action(action))
}

/// Why places may be there that were not seen.
fn hidden(snapshot: &Snapshot) -> Option<&str> {
    snapshot.entries.iter().find_map(|entry| match &entry.observation.sighting {
        Sighting::Unknown(obstacle) if matches!(entry.observation.location, Location::Listing { .. }) => {
            Some(obstacle.message.as_str())
        }
        _ => None,
    })
}

/// Why certd does not renew what is not its own.
fn unmanaged(name: &CertName, snapshot: &Snapshot) -> String {
    match snapshot.entries.iter().find(|entry| entry.observation.location.to_string() == name.0) {
        Some(entry) => {
            let why: Vec<&str> = entry.problems.iter().map(|problem| problem.message.as_str()).collect();
            format!("certd only watches it{}{}", if why.is_empty() { "" } else { ": " }, why.join(", "))
        }
        None => match hidden(snapshot) {
            Some(why) => format!("whether certd manages it is unknown: {why}"),
            None => {
                let managed = snapshot.entries.iter().filter_map(|entry| entry.managed.as_ref());
                let names = managed.map(|managed| &managed.decision.certificate.0);
                format!("certd manages no such certificate{}", did_you_mean(&name.0, names))
            }
        },
    }
}
