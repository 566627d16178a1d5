//! The daemon's 0600 socket in the state directory: what `renew`, `revoke`, `adopt`, `pause`, `account` and `plan` ask of a certd
//! that runs, because one process alone writes the journal. JSON over HTTP/1.1.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::domain::homes::Lodging;
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::{Demand, JournalView};
use crate::domain::text::with_causes;
use crate::domain::time::Timestamp;
use crate::journal::event::{Entry, Event};
use crate::journal::places::Placed;
use crate::journal::{Journal, JournalError};
use crate::revoke::Wanted;

/// A renewal waits for its whole turn, and a turn for its slowest endpoint.
const LONGEST_ANSWER: Duration = Duration::from_secs(600);

pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// What people ask of the daemon's loop.
pub enum Command {
    Renew(RenewCommand),
    Revoke(RevokeCommand),
    RollOver(RollOverCommand),
    LeaveAlone(LeaveAloneCommand),
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
    pub by: String,
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
        .route("/left-alone", post(left_alone))
        .with_state(Shared { journal, commands, now });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
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

async fn acknowledge(State(shared): State<Shared>) -> Result<(), (StatusCode, String)> {
    shared.journal.append((shared.now)(), None, Event::Acknowledged).map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, with_causes(error))
}

async fn pause(State(shared): State<Shared>, Json(body): Json<PauseBody>) -> Result<(), (StatusCode, String)> {
    write_pause(&shared.journal, (shared.now)(), &body).map_err(|error| failed(&error))?;
    turn_soon(&shared);
    Ok(())
}

/// A turn now, so that the metrics show it and what waited begins. Where the loop has enough to do already, it will turn
/// without this.
fn turn_soon(shared: &Shared) {
    let nothing = RenewCommand { requested: BTreeMap::new(), answer: oneshot::channel().0 };
    let _ = shared.commands.try_send(Command::Renew(nothing));
}

async fn adopt(State(shared): State<Shared>, Json(body): Json<AdoptBody>) -> Result<(), (StatusCode, String)> {
    write_adopted(&shared.journal, (shared.now)(), &body).map_err(|error| failed(&error))?;
    turn_soon(&shared);
    Ok(())
}

/// Notes that a person agreed to a place, or released its names.
pub fn write_adopted(journal: &Journal, now: Timestamp, body: &AdoptBody) -> Result<(), JournalError> {
    let by = body.by.clone();
    let event = match &body.holds {
        Some(holds) => Event::Place(Placed::Agreed { holds: holds.clone(), by }),
        None => Event::Place(Placed::Forgotten { by }),
    };
    let what = if body.holds.is_some() { "adopted by a person" } else { "its names were released by a person" };
    tracing::info!(cert = %body.place, by = %body.by, "{what}");
    journal.append(now, Some(&body.place), event)
}

/// The pause as an event, whoever writes it.
pub fn write_pause(journal: &Journal, now: Timestamp, body: &PauseBody) -> Result<(), JournalError> {
    let event = body.until.map_or(Event::Resumed, |until| Event::Paused { until });
    let what = body.certificate.as_ref().map_or("all acting", |name| name.0.as_str());
    match body.until {
        Some(until) => tracing::info!(until = %until, "paused: {what}"),
        None => tracing::info!("resumed: {what}"),
    }
    journal.append(now, body.certificate.as_ref(), event)
}

async fn renew(
    State(shared): State<Shared>,
    Json(body): Json<RenewBody>,
) -> Result<Json<Vec<Answer>>, (StatusCode, String)> {
    let (answer, answered) = oneshot::channel();
    let command = Command::Renew(RenewCommand { requested: body.requested, answer });
    shared.commands.send(command).await.map_err(|_| stopping())?;
    let broken = |_| (StatusCode::INTERNAL_SERVER_ERROR, "the turn ended before its time: see the log".to_string());
    answered.await.map(Json).map_err(broken)
}

async fn revoke(State(shared): State<Shared>, Json(wanted): Json<Wanted>) -> Result<Json<Ended>, (StatusCode, String)> {
    let (answer, answered) = oneshot::channel();
    let command = Command::Revoke(RevokeCommand { wanted, answer });
    shared.commands.send(command).await.map_err(|_| stopping())?;
    answered.await.map(Json).map_err(|_| stopping())
}

async fn roll_over(
    State(shared): State<Shared>,
    Json(issuer): Json<IssuerName>,
) -> Result<Json<Ended>, (StatusCode, String)> {
    let (answer, answered) = oneshot::channel();
    let command = Command::RollOver(RollOverCommand { issuer, answer });
    shared.commands.send(command).await.map_err(|_| stopping())?;
    answered.await.map(Json).map_err(|_| stopping())
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

fn stopping() -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping".to_string())
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("could not ask the running certd by {}", socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: reqwest::Error,
    },
    #[error("the running certd refused: {0}")]
    Refused(String),
}

/// The other end of the socket.
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    pub fn new(state_dir: &Path) -> Result<Self, ControlError> {
        let socket = socket(state_dir);
        let unreachable = |source| ControlError::Unreachable { socket: socket.clone(), source };
        let http = reqwest::Client::builder()
            .unix_socket(socket.as_path())
            // Nothing here is encrypted, and a host without a CA bundle must be able to do this.
            .tls_certs_only(Vec::new())
            .timeout(LONGEST_ANSWER)
            .build()
            .map_err(unreachable)?;
        Ok(Self { http, socket })
    }

    pub async fn journal(&self) -> Result<JournalView, ControlError> {
        self.answer(self.http.get("http://certd/journal")).await?.json().await.map_err(|e| self.unreachable(e))
    }

    pub async fn last(&self, most: usize, certificate: Option<CertName>) -> Result<Vec<Entry>, ControlError> {
        let request = self.http.post("http://certd/journal/last").json(&LastBody { most, certificate });
        self.answer(request).await?.json().await.map_err(|e| self.unreachable(e))
    }

    pub async fn acknowledge(&self) -> Result<(), ControlError> {
        self.answer(self.http.post("http://certd/journal/acknowledge")).await.map(|_| ())
    }

    pub async fn pause(&self, body: &PauseBody) -> Result<(), ControlError> {
        self.answer(self.http.post("http://certd/pause").json(body)).await.map(|_| ())
    }

    pub async fn adopt(&self, body: &AdoptBody) -> Result<(), ControlError> {
        self.answer(self.http.post("http://certd/adopt").json(body)).await.map(|_| ())
    }

    pub async fn renew(&self, requested: BTreeMap<CertName, Demand>) -> Result<Vec<Answer>, ControlError> {
        let request = self.http.post("http://certd/renew").json(&RenewBody { requested });
        self.answer(request).await?.json().await.map_err(|e| self.unreachable(e))
    }

    pub async fn revoke(&self, wanted: &Wanted) -> Result<Ended, ControlError> {
        let request = self.http.post("http://certd/revoke").json(wanted);
        self.answer(request).await?.json().await.map_err(|e| self.unreachable(e))
    }

    pub async fn roll_over(&self, issuer: &IssuerName) -> Result<Ended, ControlError> {
        let request = self.http.post("http://certd/roll-over").json(issuer);
        self.answer(request).await?.json().await.map_err(|e| self.unreachable(e))
    }

    pub async fn left_alone(&self, waits: &[LeftAlone]) -> Result<(), ControlError> {
        self.answer(self.http.post("http://certd/left-alone").json(waits)).await.map(|_| ())
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, ControlError> {
        let answer = request.send().await.map_err(|e| self.unreachable(e))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(ControlError::Refused(answer.text().await.unwrap_or_default()))
    }

    fn unreachable(&self, source: reqwest::Error) -> ControlError {
        ControlError::Unreachable { socket: self.socket.clone(), source }
    }
}
