//! When turns happen: a cron tick, signals, requests by the socket; readiness and watchdog to systemd.
//!
//! The cron scheduler only ticks. What is due is decided here by the wall clock, so a suspend, a jump of
//! the clock or a turn that overran neither loses a turn nor runs two at once.

mod announce;
mod answer;
mod audit_head;
mod schedule;
mod standing;
mod systemd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_cron_scheduler::JobSchedulerError;

use crate::cli::account;
use crate::config::{self, Config, ConfigErrors};
use crate::control::{
    self, Answer, Command, Ended, LeaveAloneCommand, ReloadCommand, RenewCommand, RevokeCommand, RollOverCommand,
};
use crate::cycle::setup::Setup;
use crate::cycle::{Cycle, Turn};
use crate::domain::name::CertName;
use crate::domain::plan::Demand;
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::hardening::BrokenOff;
use crate::journal::{Journal, JournalError};
use crate::metrics::listener::{ListenError, ListenSettings, Listener, TlsFiles};
use crate::metrics::own::{Ending, OwnMetrics};
use crate::metrics::page::{Page, Readiness};
use crate::metrics::render::{About, render};
use crate::metrics::served::Reload;
use crate::pulse;
use crate::renew;
use crate::report::Summary;
use crate::revoke;

pub use answer::answer;
use audit_head::AuditHead;
use schedule::Schedule;
use standing::Standing;

/// After SIGTERM the turn may end by itself for so long; a renewal inside it gives up earlier.
const STOP_WITHIN: Duration = Duration::from_secs(8);

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("could not open the control socket in {}", .0.display())]
    Control(PathBuf, #[source] std::io::Error),
    #[error("could not listen for signals")]
    Signals(#[from] std::io::Error),
    #[error("could not start the cron scheduler")]
    Cron(#[from] JobSchedulerError),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(path: &Path, config: Config, now: fn() -> Timestamp) -> Result<(), DaemonError> {
    // First, since until then a signal ends the process where it stands.
    let signals = Signals::new()?;
    let setup = Arc::new(config::build::build(&config)?);
    let journal = Arc::new(Journal::open(&config.state_dir)?);
    journal.audit.rotate_at(config.audit.rotate_at());
    audit_head::started(&journal.audit, now(), &config.hash);
    setup.keep_waits(&journal, now);
    let own = Arc::new(OwnMetrics::new(now()));
    let page = Arc::new(Page::new(own.clone(), setup.interval));
    page.depends_on(setup.vaults.values().cloned().collect());
    let listener = listen(&config, &page)?;
    let (sender, commands) = mpsc::channel(16);
    control::serve(&config.state_dir, journal.clone(), sender, now)
        .map_err(|source| DaemonError::Control(config.state_dir.clone(), source))?;
    announce::up(path, &config, &setup, listener.as_ref());
    let daemon = Daemon {
        path: path.to_path_buf(),
        cycle: Arc::new(Mutex::new(Cycle::new(setup.clone(), now))),
        tending: setup.tend(),
        setup,
        journal,
        page,
        own,
        listener,
        listener_trouble: None,
        now,
        stop: watch::channel(false).0,
        asked: BTreeMap::new(),
        waiting: Vec::new(),
        standing: Standing::default(),
        schedule: Schedule::new(now()),
        audit_head: AuditHead::default(),
    };
    daemon.run(signals, commands).await
}

fn listen(config: &Config, page: &Arc<Page>) -> Result<Option<Listener>, ListenError> {
    let Some(settings) = listen_settings(config) else { return Ok(None) };
    Listener::bind(settings, page.clone()).map(Some)
}

fn listen_settings(config: &Config) -> Option<ListenSettings> {
    let listen = &config.listen;
    let address = listen.socket_address()?;
    let tls = listen.tls.as_ref().map(|tls| match tls {
        config::ListenTls::Files { certificate, private_key } => {
            TlsFiles { certificate: config.path(certificate), private_key: config.path(private_key) }
        }
        config::ListenTls::Directory(directory) => {
            let directory = config.path(directory);
            TlsFiles { certificate: directory.join("fullchain.pem"), private_key: directory.join("privkey.pem") }
        }
    });
    Some(ListenSettings {
        address,
        tls,
        bearer_token_file: listen.bearer_token_file.as_ref().map(|path| config.path(path)),
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

struct Daemon {
    path: PathBuf,
    /// The worker holds it while a turn runs.
    cycle: Arc<Mutex<Cycle>>,
    setup: Arc<Setup>,
    /// Tokens of its Vaults, kept alive between turns.
    tending: JoinSet<()>,
    journal: Arc<Journal>,
    page: Arc<Page>,
    own: Arc<OwnMetrics>,
    listener: Option<Listener>,
    /// Why the listener has not the newest certificate, so that each turn need not say it again.
    listener_trouble: Option<String>,
    now: fn() -> Timestamp,
    stop: watch::Sender<bool>,
    /// What people asked for since the running turn began.
    asked: BTreeMap<CertName, Demand>,
    waiting: Vec<Waiting>,
    standing: Standing,
    schedule: Schedule,
    audit_head: AuditHead,
}

/// A turn under way, and who waits for it.
struct Worker {
    task: JoinHandle<Option<Turn>>,
    /// What the turn works with, whatever is reloaded meanwhile.
    setup: Arc<Setup>,
    waiting: Vec<Waiting>,
}

/// Somebody who asked for renewals and is told what came of them.
struct Waiting {
    names: Vec<CertName>,
    answer: oneshot::Sender<Vec<Answer>>,
}

impl Daemon {
    async fn run(mut self, mut signals: Signals, mut commands: mpsc::Receiver<Command>) -> Result<(), DaemonError> {
        let (tick, mut ticks) = mpsc::channel(1);
        let mut cron = schedule::ticker(tick).await?;
        let mut watchdog = tokio::time::interval(systemd::watchdog_period());
        let mut second = schedule::second();
        systemd::ready();
        let mut worker = Some(self.start());
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => {
                    let (former, ended) = self.reload();
                    audit_head::reloaded(&self.journal.audit, (self.now)(), &ended);
                    if worker.is_none() {
                        self.retire(former);
                    }
                }
                Some(command) = commands.recv() => {
                    if let (Some(former), None) = (self.take(command), &worker) {
                        self.retire(former);
                    }
                }
                Some(()) = ticks.recv() => {}
                _ = second.tick() => self.tend_audit().await,
                ended = finished(&mut worker) => self.finish(ended),
                _ = watchdog.tick() => systemd::feed_watchdog(worker.is_some()),
            }
            if worker.is_none() && self.is_due() {
                worker = Some(self.start());
            }
        }
        systemd::stopping();
        tracing::info!("stopping");
        self.wind_down(worker).await;
        if let Err(error) = cron.shutdown().await {
            tracing::debug!("the cron scheduler did not end cleanly: {error}");
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Returns the setup that was in force before, where that was asked for.
    fn take(&mut self, command: Command) -> Option<Arc<Setup>> {
        match command {
            Command::Renew(command) => self.note(command),
            Command::Revoke(command) => self.revoke(command),
            Command::RollOver(command) => self.roll_over(command),
            Command::LeaveAlone(command) => self.leave_alone(command),
            Command::Reload(ReloadCommand { answer }) => {
                let (former, ended) = self.reload();
                // Who asked may have gone meanwhile.
                let _ = answer.send(ended);
                return Some(former);
            }
        }
        None
    }

    /// Beside the turns, so that none waits for what a person looks for.
    fn revoke(&self, RevokeCommand { wanted, answer }: RevokeCommand) {
        let (setup, journal, now) = (self.setup.clone(), self.journal.clone(), self.now);
        tokio::spawn(async move {
            let revoked = revoke::revoke(setup, &journal, &wanted, now).await;
            // Who asked may have gone meanwhile.
            let _ = answer.send(Ended::from(revoked));
        });
    }

    fn roll_over(&self, RollOverCommand { issuer, answer }: RollOverCommand) {
        let setup = self.setup.clone();
        tokio::spawn(async move {
            let _ = answer.send(account::rolled_over(&setup, &issuer).await);
        });
    }

    /// From now on, also in a turn that runs.
    fn leave_alone(&self, LeaveAloneCommand { mut waits, answer }: LeaveAloneCommand) {
        waits.retain(|wait| self.setup.is_asked_by(wait));
        let noted = control::write_left_alone(&self.journal, (self.now)(), waits);
        self.setup.recall_waits(&self.journal.view(), (self.now)());
        let _ = answer.send(noted);
    }

    fn note(&mut self, command: RenewCommand) {
        for (name, demand) in &command.requested {
            let asked = self.asked.entry(name.clone()).or_insert(*demand);
            *asked = (*asked).max(*demand);
        }
        self.waiting.push(Waiting { names: command.requested.into_keys().collect(), answer: command.answer });
    }

    fn is_due(&mut self) -> bool {
        self.schedule.is_due((self.now)(), self.setup.interval) || !self.waiting.is_empty()
    }

    fn start(&mut self) -> Worker {
        self.schedule.begin((self.now)(), self.setup.interval);
        pulse::beat();
        let (cycle, setup, journal) = (self.cycle.clone(), self.setup.clone(), self.journal.clone());
        let worked_with = setup.clone();
        let (requested, stop) = (std::mem::take(&mut self.asked), self.stop.subscribe());
        let task = tokio::spawn(async move {
            let mut cycle = cycle.lock().await;
            cycle.setup = setup;
            cycle.turn(&journal, &requested, stop).await
        });
        Worker { task, setup: worked_with, waiting: std::mem::take(&mut self.waiting) }
    }

    fn finish(&mut self, (worker, ended): (Worker, Result<Option<Turn>, tokio::task::JoinError>)) {
        match ended {
            Ok(Some(turn)) => {
                for Waiting { names, answer: to } in worker.waiting {
                    // Who asked may have gone meanwhile.
                    let _ = to.send(names.iter().map(|name| answer(name, &turn)).collect());
                }
                self.publish(&worker.setup, &turn);
            }
            Ok(None) => {}
            Err(broken) => {
                tracing::error!("the turn broke off, the next one begins anew: {}", BrokenOff::from(broken));
            }
        }
        self.retire(worker.setup);
    }

    /// A setup that neither the daemon nor a turn works with any more logs out.
    fn retire(&self, setup: Arc<Setup>) {
        if !Arc::ptr_eq(&setup, &self.setup) {
            tokio::spawn(async move { setup.close().await });
        }
    }

    fn publish(&mut self, setup: &Setup, turn: &Turn) {
        for phase in &turn.snapshot.phases {
            self.own.phase_took(phase.phase, phase.took);
        }
        for attempt in &turn.attempts {
            let result = match &attempt.ended {
                Ok(renew::Outcome::Renewed { .. }) => Ending::Renewed,
                Ok(renew::Outcome::Superseded { .. }) => Ending::Pending,
                Err(_) => Ending::Failed,
            };
            self.own.renewal_attempted(attempt.issuer.as_ref(), result, attempt.reason);
        }
        self.page.publish(render(&turn.snapshot, &about(setup)));
        let readiness = Readiness { last_completed: Some(turn.snapshot.taken_at), interval: setup.interval };
        self.page.completed(readiness);
        self.page.doubts_clock(turn.snapshot.clock_doubt.clone());
        self.page.misses_journal(turn.snapshot.journal_gone.clone());
        self.serve_newest();
        self.standing.follow(&turn.snapshot);
        self.summarise(turn);
    }

    fn summarise(&self, turn: &Turn) {
        let Summary { ok, warning, critical, unknown } = Summary::of(&turn.snapshot);
        tracing::info!(
            certificates = turn.snapshot.entries.len(),
            ok,
            warning,
            critical,
            unknown,
            renewals = turn.attempts.len(),
            failed = turn.attempts.iter().filter(|attempt| attempt.ended.is_err()).count(),
            "turn completed"
        );
    }

    fn serve_newest(&mut self) {
        let Some(listener) = &self.listener else { return };
        let trouble = match listener.reload() {
            Ok(reload) => {
                if reload == Reload::Swapped {
                    tracing::info!("the listener serves a new certificate");
                }
                None
            }
            Err(error) => Some(with_causes(&error)),
        };
        if let Some(text) = trouble.as_ref().filter(|_| trouble != self.listener_trouble) {
            tracing::warn!("{text}");
        }
        self.listener_trouble = trouble;
    }

    async fn tend_audit(&mut self) {
        let is_well = self.audit_head.tend(&self.setup.audit_head, &self.journal.audit, (self.now)()).await;
        self.own.audit_is_well(is_well);
    }

    /// A bad new configuration is refused and the old one stays.
    /// Returns what was in force before, and how it ended.
    fn reload(&mut self) -> (Arc<Setup>, Ended) {
        let former = self.setup.clone();
        systemd::reloading();
        let ended = match config::load(&self.path).and_then(|config| Ok((config::build::build(&config)?, config))) {
            Ok((setup, config)) => {
                let tolerated = config.tolerated.iter();
                tolerated.for_each(|it| tracing::warn!("strict_modes = false lets this pass: {it}"));
                self.setup = Arc::new(setup);
                self.setup.keep_waits(&self.journal, self.now);
                self.journal.audit.rotate_at(config.audit.rotate_at());
                self.audit_head.reloaded();
                self.tending = self.setup.tend();
                self.page.depends_on(self.setup.vaults.values().cloned().collect());
                self.schedule.at_once((self.now)());
                tracing::info!(
                    hash = config.hash,
                    "reloaded; `listen`, `log` and `state_dir` change with a restart only"
                );
                Ended::Done(format!("reloaded: configuration {}", config.hash))
            }
            Err(ConfigErrors(mistakes)) => {
                tracing::error!("the new configuration is refused and the old one stays");
                mistakes.iter().for_each(|mistake| tracing::error!("{mistake}"));
                let first = mistakes.first().map(|mistake| format!(": {mistake}")).unwrap_or_default();
                Ended::Refused(format!("the new configuration is refused and the old one stays{first}"))
            }
        };
        systemd::ready();
        (former, ended)
    }

    async fn wind_down(self, worker: Option<Worker>) {
        // Without a receiver there is no turn that needs telling.
        let _ = self.stop.send(true);
        // Side by side, since both have their deadlines within the same ten seconds.
        tokio::join!(finished_or_abandoned(worker), async {
            if let Some(listener) = self.listener {
                listener.shut_down().await;
            }
        });
        self.audit_head.stopped(&self.setup.audit_head, &self.journal.audit, (self.now)()).await;
        self.setup.close().await;
    }
}

async fn finished_or_abandoned(worker: Option<Worker>) {
    let Some(mut worker) = worker else { return };
    if tokio::time::timeout(STOP_WITHIN, &mut worker.task).await.is_err() {
        tracing::warn!("the turn did not end in time and is abandoned; what it left open is resumed on the next start");
        worker.task.abort();
    }
}

/// Waits for ever where there is no worker.
async fn finished(worker: &mut Option<Worker>) -> (Worker, Result<Option<Turn>, tokio::task::JoinError>) {
    let Some(running) = worker else { return std::future::pending().await };
    let ended = (&mut running.task).await;
    (worker.take().expect("it ended just now"), ended)
}

pub fn about(setup: &Setup) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").to_string(),
        commit: option_env!("CERTD_COMMIT").unwrap_or("unknown").to_string(),
        config_hash: Some(setup.hash.clone()).filter(|hash| !hash.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(state_dir: &Path) -> Daemon {
        let now = || Timestamp(1_800_000_000);
        let config = config::minimal();
        let setup = Arc::new(config::build::build(&config).unwrap());
        let own = Arc::new(OwnMetrics::new(now()));
        Daemon {
            path: state_dir.join("certd.toml"),
            cycle: Arc::new(Mutex::new(Cycle::new(setup.clone(), now))),
            journal: Arc::new(Journal::open(state_dir).unwrap()),
            page: Arc::new(Page::new(own.clone(), setup.interval)),
            tending: JoinSet::new(),
            setup,
            own,
            listener: None,
            listener_trouble: None,
            now,
            stop: watch::channel(false).0,
            asked: BTreeMap::new(),
            waiting: Vec::new(),
            standing: Standing::default(),
            schedule: Schedule::new(now()),
            audit_head: AuditHead::default(),
        }
    }

    /// A turn that panics while it holds the cycle, as one that hit a bug would.
    fn panicking(daemon: &mut Daemon) -> Worker {
        let cycle = daemon.cycle.clone();
        let task = tokio::spawn(async move {
            let _held = cycle.lock().await;
            panic!("a bug in a turn");
        });
        Worker { task, setup: daemon.setup.clone(), waiting: std::mem::take(&mut daemon.waiting) }
    }

    #[tokio::test]
    async fn a_turn_that_panics_ends_neither_the_daemon_nor_the_turns_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = daemon(dir.path());
        let (answer, answered) = oneshot::channel();
        daemon.note(RenewCommand { requested: BTreeMap::from([("web".into(), Demand::Force)]), answer });

        // More often than the ten panics after which certmagic stops for good.
        for _ in 0..12 {
            let mut worker = Some(panicking(&mut daemon));
            let ended = finished(&mut worker).await;
            assert!(ended.1.as_ref().is_err_and(tokio::task::JoinError::is_panic));
            daemon.finish(ended);
            assert!(worker.is_none());
        }
        assert!(answered.await.is_err(), "who asked for the renewal is let go");
        assert_eq!(daemon.page.readiness().last_completed, None);

        let mut worker = Some(daemon.start());
        let ended = finished(&mut worker).await;
        daemon.finish(ended);
        assert_eq!(daemon.page.readiness().last_completed, Some(Timestamp(1_800_000_000)));
    }
}
