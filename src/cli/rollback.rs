//! `certd rollback secret/tls/web --to 7`: the old content as a new version, held there until a person
//! releases it.

use std::io::Write;

use clap::Args;

use crate::audit::Outcome;
use crate::audit::record::{Draft, Kind};
use crate::config::{self, Config};
use crate::control::PauseBody;
use crate::domain::inventory::Location;
use crate::domain::name::CertName;
use crate::domain::text::{printable, with_causes};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::restore::{Holds, Restore, RestoreError};

use super::secret::{Secret, VaultArguments};
use super::{JournalAccess, Reason, diff, words};

/// 9999-12-31T23:59:59Z, the last instant that X.509 can say: a person ends this pause, not a clock.
const FOR_EVER: Timestamp = Timestamp(253_402_300_799);

const REFUSED: u8 = 1;
const FAILED: u8 = 2;

#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// secret/path, or vault:NAME:secret/path where the configuration has several vaults; secret/path#object where the
    /// secret holds several certificates, of which the others stay as they are
    secret: String,
    /// The version to go back to
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    why: Reason,
    #[command(flatten)]
    vault: VaultArguments,
}

pub async fn run(arguments: RollbackArguments, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let secret = arguments.vault.secret(&arguments.secret)?;
    let code = go_back(&arguments, &secret, now).await;
    secret.log_out().await;
    code
}

async fn go_back(arguments: &RollbackArguments, secret: &Secret, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    let restore =
        match Restore::plan(secret.vault.clone(), secret.path.clone(), secret.object.as_deref(), arguments.to, now())
            .await
        {
            Ok(restore) => restore,
            Err(refused @ StoreError::Held(_)) => return Ok(told(REFUSED, refused.into())),
            Err(error) => return Err(error.into()),
        };
    super::print(&plan(&secret.location(), &restore))?;
    if arguments.dry_run {
        super::print("nothing is written: --dry-run\n")?;
        return Ok(0);
    }
    let Some(_) = arguments.vault.config else {
        let (code, _) = carry_out(arguments, &restore, None, now).await?;
        return Ok(code);
    };
    let journal = JournalAccess::open_to_act(&secret.config, arguments.why.reason.clone())?;
    let begun = journal.rollback_begins(now(), act(arguments, secret)?).await?;
    let ended = held_and_carried_out(arguments, secret, &restore, &journal, now).await;
    let outcome = match &ended {
        Ok((_, outcome)) => outcome.clone(),
        Err(error) => Outcome::Failed(words::one_line(error)),
    };
    journal.rollback_ended(now(), &begun, &outcome).await?;
    journal.note_audit_head(&secret.config).await;
    ended.map(|(code, _)| code)
}

fn act(arguments: &RollbackArguments, secret: &Secret) -> anyhow::Result<Draft> {
    let location = secret.location();
    let name = managed(&secret.config, &location)?.unwrap_or_else(|| CertName(location.to_string()));
    Ok(Draft::of(Kind::Rollback, Some(&name)).with("location", location).with("to_version", arguments.to))
}

async fn held_and_carried_out(
    arguments: &RollbackArguments,
    secret: &Secret,
    restore: &Restore,
    journal: &JournalAccess,
    now: fn() -> Timestamp,
) -> anyhow::Result<(u8, Outcome)> {
    let hold = Hold::take(secret, journal, now).await?;
    carry_out(arguments, restore, hold, now).await
}

/// The exit code, and what the audit log is told.
async fn carry_out(
    arguments: &RollbackArguments,
    restore: &Restore,
    hold: Option<Hold<'_>>,
    now: fn() -> Timestamp,
) -> anyhow::Result<(u8, Outcome)> {
    let mut outcome = Outcome::Done("nothing was to be written".to_string());
    if !restore.changes_nothing() {
        match restore.carry_out().await {
            Ok(version) => {
                super::print(&format!("written as version {version} and read back\n"))?;
                outcome = Outcome::Done(format!("written as version {version} and read back"));
            }
            Err(error) => {
                let outcome = Outcome::Failed(with_causes(&error));
                return Ok((failed(error, hold, now).await?, outcome));
            }
        }
    }
    super::print(&released_by(arguments, hold.as_ref()))?;
    Ok((0, outcome))
}

fn told(code: u8, error: anyhow::Error) -> u8 {
    // The exit code says it all the same where nobody can be told.
    let _ = writeln!(std::io::stderr(), "certd: {}", words::one_line(&error));
    code
}

/// What was not written needs no holding.
async fn failed(error: RestoreError, hold: Option<Hold<'_>>, now: fn() -> Timestamp) -> anyhow::Result<u8> {
    match (&error, hold) {
        (RestoreError::NotWritten(_), Some(hold)) => hold.give_back(now).await?,
        (RestoreError::Unproven(_), Some(hold)) => super::print(&format!("{}\n", hold.said()))?,
        (RestoreError::NotWritten(_) | RestoreError::Unproven(_), None) => {}
    }
    Ok(told(FAILED, error.into()))
}

fn plan(location: &Location, restore: &Restore) -> String {
    let (from, current) = (restore.from, &restore.current);
    if restore.changes_nothing() {
        return format!(
            "{location}: version {} holds what version {from} held; nothing is to be written\n",
            current.number
        );
    }
    let next = current.number + 1;
    let mut out = format!(
        "{location}: what version {from} held becomes version {next}, in place of version {}\n",
        current.number
    );
    match &current.holds {
        Holds::Nothing => out.push_str("  nothing is there now\n"),
        Holds::NotUnderstood(why) => {
            out.push_str(&format!("  what is there now is not understood: {}\n", printable(why)))
        }
        Holds::Certificate(kept) => {
            for (what, text) in diff::aspects(kept, &restore.kept) {
                out.push_str(&format!("  {what:<9} {text}\n"));
            }
            out.push_str(&format!("  {:<9} {}\n", "fields", diff::fields(&current.fields, &restore.fields)));
        }
    }
    out
}

fn released_by(arguments: &RollbackArguments, hold: Option<&Hold<'_>>) -> String {
    match (&arguments.vault.config, hold) {
        (_, Some(hold)) => format!("{}\n", hold.said()),
        (Some(config), None) => format!("no certificate of {} is kept there, so none is held\n", config.display()),
        (None, None) => {
            "no configuration was given: where a certd keeps this place fresh, `certd pause` there holds it\n"
                .to_string()
        }
    }
}

/// The pause that keeps certd from renewing over what a person went back to.
struct Hold<'a> {
    name: CertName,
    journal: &'a JournalAccess,
    before: Option<Timestamp>,
}

impl<'a> Hold<'a> {
    /// Before anything is written, so that no turn comes in between. `None` where certd manages nothing.
    async fn take(secret: &Secret, journal: &'a JournalAccess, now: fn() -> Timestamp) -> anyhow::Result<Option<Self>> {
        let Some(name) = managed(&secret.config, &secret.location())? else { return Ok(None) };
        let before = journal.view().await?.records.get(&name).and_then(|record| record.paused_until);
        let hold = Self { name, journal, before };
        hold.pause(Some(FOR_EVER), now).await?;
        Ok(Some(hold))
    }

    async fn give_back(self, now: fn() -> Timestamp) -> anyhow::Result<()> {
        self.pause(self.before, now).await
    }

    async fn pause(&self, until: Option<Timestamp>, now: fn() -> Timestamp) -> anyhow::Result<()> {
        self.journal.pause(now(), &PauseBody { certificate: Some(self.name.clone()), until }).await
    }

    fn said(&self) -> String {
        format!("{0} is held: certd renews it only after `certd resume {0}`", self.name)
    }
}

/// What certd calls the certificate that is kept there: declared beats adopted.
fn managed(config: &Config, location: &Location) -> anyhow::Result<Option<CertName>> {
    let setup = config::build::build(config)?;
    if let Some(declared) = setup.declared.iter().find(|managed| managed.location == *location) {
        return Ok(Some(declared.name.clone()));
    }
    let Location::Secret { vault, path, .. } = location else { return Ok(None) };
    let covers = setup.adopted.iter().any(|adopted| adopted.vault.name == *vault && adopted.source.covers(path));
    Ok(covers.then(|| CertName(location.to_string())))
}
