//! The journal of this host: in our hands, or in those of a certd that runs.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::record::Draft;
use crate::audit::{Begun, Outcome, peer};
use crate::config::{self, Config};
use crate::control::{self, AdoptBody, Client, Ended, LeftAlone, PauseBody};
use crate::domain::actor::Actor;
use crate::domain::name::CertName;
use crate::domain::plan::JournalView;
use crate::domain::text::{message, with_causes};
use crate::domain::time::Timestamp;
use crate::journal::event::Entry;
use crate::journal::{Journal, JournalError};

use super::words;

/// What was asked for is done by then, and its record is in the log.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

pub enum JournalAccess {
    Ours { journal: Arc<Journal>, by: Actor },
    Daemon(Client),
}

impl JournalAccess {
    /// For commands that carry out no act.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        Self::open_to_act(config, None)
    }

    /// `reason` is for the audit log.
    pub fn open_to_act(config: &Config, reason: Option<String>) -> anyhow::Result<Self> {
        let said = peer::said(reason);
        match Journal::open(&config.state_dir) {
            Ok(journal) => {
                journal.audit.rotate_at(config.audit.rotate_at());
                Ok(Self::Ours { journal: Arc::new(journal), by: peer::this_process(said) })
            }
            Err(JournalError::InUse(_)) => Ok(Self::Daemon(Client::new(&config.state_dir, said)?)),
            Err(error) => Err(error.into()),
        }
    }

    pub async fn pause(&self, now: Timestamp, body: &PauseBody) -> anyhow::Result<()> {
        match self {
            Self::Ours { journal, by } => control::write_pause(journal, now, by, body)?,
            Self::Daemon(client) => client.pause(body).await?,
        }
        Ok(())
    }

    pub async fn adopt(&self, now: Timestamp, body: &AdoptBody) -> anyhow::Result<()> {
        match self {
            Self::Ours { journal, by } => control::write_adopted(journal, now, by, body)?,
            Self::Daemon(client) => client.adopt(body).await?,
        }
        Ok(())
    }

    /// Records an act that this command refused, and returns the refusal. It stands whether or not it can be recorded.
    pub async fn refused(&self, now: Timestamp, config: &Config, act: Draft, why: String) -> Ended {
        let recorded: anyhow::Result<()> = match self {
            Self::Ours { journal, by } => control::write_refused(journal, now, by, act, &why).map_err(Into::into),
            Self::Daemon(client) => client.refused(&act, &why).await.map_err(Into::into),
        };
        match recorded {
            Ok(()) => self.note_audit_head(config).await,
            Err(error) => eprintln!("certd: the refusal is not in the audit log: {}", words::one_line(&error)),
        }
        Ended::Refused(why)
    }

    /// Records a rollback that this command is about to carry out.
    pub async fn rollback_begins(&self, now: Timestamp, act: Draft) -> anyhow::Result<Begun> {
        match self {
            Self::Ours { journal, by } => Ok(journal.audit.begin(now, by, act).map_err(JournalError::from)?),
            Self::Daemon(client) => Ok(client.rollback_begins(&act).await?),
        }
    }

    pub async fn rollback_ended(&self, now: Timestamp, begun: &Begun, outcome: &Outcome) -> anyhow::Result<()> {
        match self {
            Self::Ours { journal, .. } => journal.audit.end(now, begun, outcome),
            Self::Daemon(client) => client.rollback_ended(begun, outcome).await?,
        }
        Ok(())
    }

    pub async fn last(&self, most: usize, certificate: Option<CertName>) -> anyhow::Result<Vec<Entry>> {
        match self {
            Self::Ours { journal, .. } => Ok(journal.last(most, certificate.as_ref())?),
            Self::Daemon(client) => Ok(client.last(most, certificate).await?),
        }
    }

    pub async fn acknowledge(&self, now: Timestamp) -> anyhow::Result<()> {
        match self {
            Self::Ours { journal, by } => control::write_acknowledged(journal, now, by)?,
            Self::Daemon(client) => client.acknowledge().await?,
        }
        Ok(())
    }

    pub async fn note_waits(&self, now: Timestamp, waits: Vec<LeftAlone>) -> anyhow::Result<()> {
        match self {
            Self::Ours { journal, .. } => control::write_left_alone(journal, now, waits)?,
            Self::Daemon(client) => client.left_alone(&waits).await?,
        }
        Ok(())
    }

    pub async fn view(&self) -> anyhow::Result<JournalView> {
        match self {
            Self::Ours { journal, .. } => Ok(journal.view()),
            Self::Daemon(client) => Ok(client.journal().await?),
        }
    }

    /// Notes the head of the audit log where the configuration says, after what this command recorded. A certd that runs
    /// does so itself.
    pub async fn note_audit_head(&self, config: &Config) {
        let Self::Ours { journal, .. } = self else { return };
        let is_wanted = config.audit.head.vault_kv.is_some() || config.audit.head.syslog.is_some();
        let Some(head) = journal.audit.head().filter(|_| is_wanted) else { return };
        // The command could not have come so far with a configuration that is not valid.
        let Ok(setup) = config::build::build(config) else { return };
        let (host, log) = (peer::host(), journal.audit.directory());
        let noted = setup.audit_head.publish(&head, &host, Some(log));
        match tokio::time::timeout(HEAD_WITHIN, noted).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("certd: {}", message(&with_causes(&error))),
            Err(_) => eprintln!("certd: the head of the audit log was not noted in time: see `certd vault doctor`"),
        }
        setup.close().await;
    }
}
