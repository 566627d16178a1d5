//! The daemon's 0600 socket in the state directory: what `renew`, `revoke`, `adopt`, `pause`, `account` and `plan` ask of a certd
//! that runs, because one process alone writes the journal. JSON over HTTP/1.1.

pub mod acts;
mod by;
mod client;
mod recorded;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::audit::record::{Draft, Kind};
use crate::domain::actor::Actor;
use crate::domain::homes::Lodging;
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::{Demand, JournalView};
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::journal::event::{Entry, Event};
use crate::journal::places::Placed;
use crate::journal::{Journal, JournalError};
use crate::revoke::Wanted;

use by::{By, Peer};
pub use client::{Client, ControlError};
pub use recorded::write_refused;
use recorded::{act_refused, audit_head, recorded, rollback_begins, rollback_ended};

pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// What people ask of the daemon's loop.
pub enum Command {
    Renew(RenewCommand),
    Revoke(RevokeCommand),
    RollOver(RollOverCommand),
    LeaveAlone(LeaveAloneCommand),
    Reload(ReloadCommand),
}

/// Asks for a revocation, which goes on beside the turns.
pub struct RevokeCommand {
    pub wanted: Wanted,
    pub answer: oneshot::Sender<Ended>,
}

/// Asks for another key for the account of an issuer, beside the turns, too.
pub struct RollOverCommand {
    pub issuer: IssuerName,
    pub answer: oneshot::Sender<Ended>,
}

/// Asks for the configuration to be read again.
pub struct ReloadCommand {
    pub answer: oneshot::Sender<Ended>,
}

/// Tells of issuers that asked another process for that.
pub struct LeaveAloneCommand {
    pub waits: Vec<LeftAlone>,
    pub answer: oneshot::Sender<Result<(), JournalError>>,
}

/// How it ended, and that in a line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Done(String),
    Refused(String),
    Failed(String),
}

/// Asks the daemon's loop for a turn with these renewals; the answer is a line each.
pub struct RenewCommand {
    pub requested: BTreeMap<CertName, Demand>,
    pub answer: oneshot::Sender<Vec<Answer>>,
}

/// How one requested renewal went, and that in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub certificate: CertName,
    pub upshot: Upshot,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upshot {
    /// Tried, and what is stored now is as it should be.
    Done,
    Failed,
    NotDue,
    /// Held or put off.
    Waiting,
    /// certd manages no certificate of this name.
    NotManaged,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PauseBody {
    /// `None` for all.
    pub certificate: Option<CertName>,
    /// `None` ends the pause.
    pub until: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct AdoptBody {
    pub place: CertName,
    /// What the person saw there; `None` releases the names of the place.
    pub holds: Option<Lodging>,
}

/// An issuer that asks for it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAlone {
    pub issuer: IssuerName,
    /// The address of its directory.
    pub server: Option<String>,
    pub until: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct LastBody {
    most: usize,
    /// `None` for all.
    certificate: Option<CertName>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RenewBody {
    requested: BTreeMap<CertName, Demand>,
}

#[derive(Clone)]
struct Shared {
    journal: Arc<Journal>,
    commands: mpsc::Sender<Command>,
    now: fn() -> Timestamp,
}

/// Serves until the runtime ends. A socket left by a crash is replaced: the journal's lock says that no
/// other certd runs.
pub fn serve(
    state_dir: &Path,
    journal: Arc<Journal>,
    commands: mpsc::Sender<Command>,
    now: fn() -> Timestamp,
) -> io::Result<()> {
    let listener = bind(&socket(state_dir))?;
    let router = Router::new()
        .route("/journal", get(journal_view))
        .route("/journal/last", post(last))
        .route("/journal/acknowledge", post(acknowledge))
        .route("/pause", post(pause))
        .route("/adopt", post(adopt))
        .route("/renew", post(renew))
        .route("/revoke", post(revoke))
        .route("/roll-over", post(roll_over))
        .route("/reload", post(reload))
        .route("/audit/head", get(audit_head))
        .route("/refused", post(act_refused))
        .route("/rollback/begin", post(rollback_begins))
        .route("/rollback/end", post(rollback_ended))
        .route("/left-alone", post(left_alone))
        .with_state(Shared { journal, commands, now });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router.into_make_service_with_connect_info::<Peer>()).await {
            tracing::error!("the control socket ended: {error}");
        }
    });
    Ok(())
}

/// Bound beside its name in a directory that is private whatever the state directory is, then renamed
/// there: nobody else can connect before its mode says so.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let nursery = private_directory(path)?;
    let draft = nursery.join("socket");
    let bound = UnixListener::bind(&draft).and_then(|listener| {
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&draft, path)?;
        Ok(listener)
    });
    std::fs::remove_dir_all(&nursery)?;
    bound
}

/// Made anew, since one left by a crash keeps its mode and its socket.
fn private_directory(path: &Path) -> io::Result<PathBuf> {
    let nursery = path.with_extension("new");
    match std::fs::remove_dir_all(&nursery) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new().mode(0o700).create(&nursery)?;
    Ok(nursery)
}

async fn journal_view(State(shared): State<Shared>) -> Json<JournalView> {
    Json(shared.journal.view())
}

async fn last(
    State(shared): State<Shared>,
    Json(body): Json<LastBody>,
) -> Result<Json<Vec<Entry>>, (StatusCode, String)> {
    shared.journal.last(body.most, body.certificate.as_ref()).map(Json).map_err(|error| failed(&error))
}

async fn acknowledge(State(shared): State<Shared>, By(by): By) -> Result<(), (StatusCode, String)> {
    write_acknowledged(&shared.journal, (shared.now)(), &by).map_err(|error| failed(&error))
}

/// Notes that a person knows of a journal that was set aside.
pub fn write_acknowledged(journal: &Journal, now: Timestamp, by: &Actor) -> Result<(), JournalError> {
    journal.audit.perform(now, by, Draft::new(Kind::Acknowledge), || journal.append(now, None, Event::Acknowledged))
}

fn failed(error: &dyn std::error::Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, with_causes(error))
}

async fn pause(
    State(shared): State<Shared>,
    By(by): By,
    Json(body): Json<PauseBody>,
) -> Result<(), (StatusCode, String)> {
    write_pause(&shared.journal, (shared.now)(), &by, &body).map_err(|error| failed(&error))?;
    turn_soon(&shared);
    Ok(())
}

/// A turn now, so that the metrics show it and what waited begins. Where the loop has enough to do already, it will turn
/// without this.
fn turn_soon(shared: &Shared) {
    let nothing = RenewCommand { requested: BTreeMap::new(), answer: oneshot::channel().0 };
    let _ = shared.commands.try_send(Command::Renew(nothing));
}

async fn adopt(
    State(shared): State<Shared>,
    By(by): By,
    Json(body): Json<AdoptBody>,
) -> Result<(), (StatusCode, String)> {
    write_adopted(&shared.journal, (shared.now)(), &by, &body).map_err(|error| failed(&error))?;
    turn_soon(&shared);
    Ok(())
}

/// Notes that a person agreed to a place, or released its names.
pub fn write_adopted(journal: &Journal, now: Timestamp, actor: &Actor, body: &AdoptBody) -> Result<(), JournalError> {
    let by = format!("uid {}", actor.uid);
    let what = if body.holds.is_some() { "adopted by a person" } else { "its names were released by a person" };
    tracing::info!(cert = %body.place, by, "{what}");
    let event = match &body.holds {
        Some(holds) => Event::Place(Placed::Agreed { holds: holds.clone(), by }),
        None => Event::Place(Placed::Forgotten { by }),
    };
    journal.audit.perform(now, actor, acts::adopt(body), || journal.append(now, Some(&body.place), event))
}

/// The pause as an event, whoever writes it.
pub fn write_pause(journal: &Journal, now: Timestamp, by: &Actor, body: &PauseBody) -> Result<(), JournalError> {
    let event = body.until.map_or(Event::Resumed, |until| Event::Paused { until });
    let what = body.certificate.as_ref().map_or("all acting", |name| name.0.as_str());
    match body.until {
        Some(until) => tracing::info!(until = %until, "paused: {what}"),
        None => tracing::info!("resumed: {what}"),
    }
    journal.audit.perform(now, by, acts::pause(body), || journal.append(now, body.certificate.as_ref(), event))
}

async fn renew(
    State(shared): State<Shared>,
    By(by): By,
    Json(body): Json<RenewBody>,
) -> Result<Json<Vec<Answer>>, (StatusCode, String)> {
    let (answer, answered) = oneshot::channel();
    let act = acts::renew(&body.requested);
    let command = Command::Renew(RenewCommand { requested: body.requested, answer });
    let commands = shared.commands.clone();
    let work = async move {
        commands.send(command).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| broken())
    };
    recorded(&shared, &by, act, work, |answers| acts::renewed(answers)).await.map(Json)
}

async fn revoke(
    State(shared): State<Shared>,
    By(by): By,
    Json(wanted): Json<Wanted>,
) -> Result<Json<Ended>, (StatusCode, String)> {
    let act = acts::revoke(&wanted);
    asked(&shared, &by, act, |answer| Command::Revoke(RevokeCommand { wanted, answer })).await
}

async fn roll_over(
    State(shared): State<Shared>,
    By(by): By,
    Json(issuer): Json<IssuerName>,
) -> Result<Json<Ended>, (StatusCode, String)> {
    let act = acts::roll_over(&issuer);
    asked(&shared, &by, act, |answer| Command::RollOver(RollOverCommand { issuer, answer })).await
}

async fn reload(State(shared): State<Shared>, By(by): By) -> Result<Json<Ended>, (StatusCode, String)> {
    asked(&shared, &by, Draft::new(Kind::Reload), |answer| Command::Reload(ReloadCommand { answer })).await
}

/// Asks the daemon's loop for what ends in a line.
async fn asked(
    shared: &Shared,
    by: &Actor,
    act: Draft,
    command: impl FnOnce(oneshot::Sender<Ended>) -> Command,
) -> Result<Json<Ended>, (StatusCode, String)> {
    let (answer, answered) = oneshot::channel();
    let (command, commands) = (command(answer), shared.commands.clone());
    let work = async move {
        commands.send(command).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    };
    recorded(shared, by, act, work, |ended| ended.into()).await.map(Json)
}

async fn left_alone(
    State(shared): State<Shared>,
    Json(waits): Json<Vec<LeftAlone>>,
) -> Result<(), (StatusCode, String)> {
    let (answer, answered) = oneshot::channel();
    shared.commands.send(Command::LeaveAlone(LeaveAloneCommand { waits, answer })).await.map_err(|_| stopping())?;
    answered.await.map_err(|_| stopping())?.map_err(|error| failed(&error))
}

/// Whoever heard it.
pub fn write_left_alone(journal: &Journal, now: Timestamp, waits: Vec<LeftAlone>) -> Result<(), JournalError> {
    let mut events = waits.into_iter().map(|LeftAlone { issuer, until, .. }| Event::LeftAlone { issuer, until });
    events.try_for_each(|event| journal.append(now, None, event))
}

fn broken() -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, "the turn ended before its time: see the log".to_string())
}

fn stopping() -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping".to_string())
}
