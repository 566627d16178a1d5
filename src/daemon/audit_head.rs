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
    trouble: Option<String>,
}

impl AuditHead {
    /// Notes the head if it changed; returns whether the log and its head are well. To be called each second.
    pub async fn tend(&mut self, export: &HeadExport, audit: &Audit) -> bool {
        if let Some(task) = self.task.take_if(|task| task.is_finished()) {
            self.heed(task.await);
        }
        let is_soon = export.vault.is_some() && self.last.is_some_and(|last| last.elapsed() < APART);
        if export.is_configured() && self.task.is_none() && !is_soon {
            self.note(export, audit);
        }
        audit.trouble().is_none() && (self.trouble.is_none() || !export.is_configured())
    }

    fn note(&mut self, export: &HeadExport, audit: &Audit) {
        let Some(head) = audit.head().filter(|head| self.noted.as_ref() != Some(head)) else { return };
        self.last = Some(Instant::now());
        let export = export.clone();
        self.task = Some(tokio::spawn(async move {
            export.publish(&head, &peer::host()).await?;
            Ok(head)
        }));
    }

    fn heed(&mut self, ended: Result<Result<Head, HeadError>, tokio::task::JoinError>) {
        let trouble = match ended {
            Ok(Ok(head)) => {
                self.noted = Some(head);
                None
            }
            Ok(Err(error)) => Some(with_causes(&error)),
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
