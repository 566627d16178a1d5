//! What the daemon adds to the audit log: its start, its stop and reloads; and the head of the log, noted elsewhere.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::audit::chain::Head;
use crate::audit::head::{HeadError, HeadExport};
use crate::audit::record::{Draft, Kind};
use crate::audit::{Audit, peer};
use crate::control::Ended;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::hardening::BrokenOff;

/// A turn of many renewals is some thousand records, and Vault need not hear of each.
const APART: Duration = Duration::from_secs(10);

/// A log that does not hold its head is a matter for people, and reading it takes a while.
const UNTIL_PEOPLE_LOOK: Duration = Duration::from_secs(60);

/// When certd stops, the last head is not waited for any longer.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// Records that certd starts. It goes on where that fails: an expired certificate is worse.
pub fn started(audit: &Audit, now: Timestamp, hash: &str) {
    let draft = Draft::new(Kind::Start).with("version", env!("CARGO_PKG_VERSION")).with("configuration", hash);
    // Told where it is met.
    let _ = audit.begin(now, &peer::this_process(peer::said(None)), draft);
}

/// Records a reload that a signal asked for: the kernel does not tell whose.
pub fn reloaded(audit: &Audit, now: Timestamp, ended: &Ended) {
    let (outcome, line) = match ended {
        Ended::Done(line) => ("done", line),
        Ended::Refused(line) => ("refused", line),
        Ended::Failed(line) => ("failed", line),
    };
    audit.note(now, Draft::new(Kind::Reload).with("signal", "SIGHUP").with("outcome", outcome).with("message", line));
}

/// Keeps the head noted, one attempt at a time.
#[derive(Default)]
pub struct AuditHead {
    noted: Option<Head>,
    task: Option<JoinHandle<Result<Head, HeadError>>>,
    last: Option<Instant>,
    apart: Duration,
    trouble: Option<String>,
    /// What was noted before this process began is in the log.
    is_compared: bool,
}

impl AuditHead {
    /// To be called after a reload: the head may be noted elsewhere from now on.
    pub fn reloaded(&mut self) {
        self.is_compared = false;
    }

    /// Looks after the log and notes its head if it changed; returns whether both are well. To be called each second.
    pub async fn tend(&mut self, export: &HeadExport, audit: &Audit, now: Timestamp) -> bool {
        audit.look_after(now);
        if let Some(task) = self.task.take_if(|task| task.is_finished()) {
            self.heed(task.await);
        }
        let is_soon = export.vault.is_some() && self.last.is_some_and(|last| last.elapsed() < self.apart);
        if export.is_configured() && self.task.is_none() && !is_soon {
            self.note(export, audit);
        }
        audit.trouble().is_none() && audit.lost().is_none() && (self.trouble.is_none() || !export.is_configured())
    }

    fn note(&mut self, export: &HeadExport, audit: &Audit) {
        let Some(head) = audit.head().filter(|head| self.noted.as_ref() != Some(head)) else { return };
        (self.last, self.apart) = (Some(Instant::now()), APART);
        let (export, log) = (export.clone(), (!self.is_compared).then(|| audit.directory().to_path_buf()));
        self.task = Some(tokio::spawn(async move {
            export.publish(&head, &peer::host(), log.as_deref()).await?;
            Ok(head)
        }));
    }

    fn heed(&mut self, ended: Result<Result<Head, HeadError>, tokio::task::JoinError>) {
        let trouble = match ended {
            Ok(Ok(head)) => {
                (self.noted, self.is_compared) = (Some(head), true);
                None
            }
            Ok(Err(error)) => {
                if matches!(error, HeadError::NotHeld { .. }) {
                    self.apart = UNTIL_PEOPLE_LOOK;
                }
                Some(with_causes(&error))
            }
            Err(broken) => Some(format!("noting the head of the audit log broke off: {}", BrokenOff::from(broken))),
        };
        if let Some(text) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            tracing::error!("{text}");
        }
        self.trouble = trouble;
    }

    /// Records that certd stops, and notes the last head.
    pub async fn stopped(mut self, export: &HeadExport, audit: &Audit, now: Timestamp) {
        audit.note(now, Draft::new(Kind::Stop));
        if let Some(task) = self.task.take() {
            task.abort();
        }
        if !export.is_configured() {
            return;
        }
        self.note(export, audit);
        if let Some(task) = self.task.take() {
            match tokio::time::timeout(LAST_WITHIN, task).await {
                Ok(ended) => self.heed(ended),
                Err(_) => tracing::warn!("the last head of the audit log was not noted in time"),
            }
        }
    }
}
