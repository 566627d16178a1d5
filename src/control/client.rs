//! The other end of the control socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{AdoptBody, Answer, Ended, LastBody, LeftAlone, PauseBody, RenewBody, by, socket};
use crate::audit::chain::Head;
use crate::audit::record::Draft;
use crate::audit::{Begun, Outcome};
use crate::domain::actor::Said;
use crate::domain::name::{CertName, IssuerName};
use crate::domain::plan::{Demand, JournalView};
use crate::journal::event::Entry;
use crate::revoke::Wanted;

/// A renewal waits for its whole turn, and a turn for its slowest endpoint.
const LONGEST_ANSWER: Duration = Duration::from_secs(600);

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
    said: Said,
}

impl Client {
    /// `said` is told with each request.
    pub fn new(state_dir: &Path, said: Said) -> Result<Self, ControlError> {
        let socket = socket(state_dir);
        let unreachable = |source| ControlError::Unreachable { socket: socket.clone(), source };
        let http = reqwest::Client::builder()
            .unix_socket(socket.as_path())
            // Nothing here is encrypted, and a host without a CA bundle must be able to do this.
            .tls_certs_only(Vec::new())
            .timeout(LONGEST_ANSWER)
            .build()
            .map_err(unreachable)?;
        Ok(Self { http, socket, said })
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

    pub async fn reload(&self) -> Result<Ended, ControlError> {
        let request = self.http.post("http://certd/reload");
        self.answer(request).await?.json().await.map_err(|e| self.unreachable(e))
    }

    /// Returns the head of the audit log that the running certd wrote last; `None` where it wrote none yet.
    pub async fn audit_head(&self) -> Result<Option<Head>, ControlError> {
        let answer = self.answer(self.http.get("http://certd/audit/head")).await?;
        let head: Option<String> = answer.json().await.map_err(|e| self.unreachable(e))?;
        Ok(head.and_then(|head| head.parse().ok()))
    }

    pub async fn refused(&self, act: &Draft, why: &str) -> Result<(), ControlError> {
        self.answer(self.http.post("http://certd/refused").json(&(act, why))).await.map(|_| ())
    }

    pub async fn rollback_begins(&self, act: &Draft) -> Result<Begun, ControlError> {
        let request = self.http.post("http://certd/rollback/begin").json(act);
        self.answer(request).await?.json().await.map_err(|e| self.unreachable(e))
    }

    pub async fn rollback_ended(&self, begun: &Begun, outcome: &Outcome) -> Result<(), ControlError> {
        let request = self.http.post("http://certd/rollback/end").json(&(begun, outcome));
        self.answer(request).await.map(|_| ())
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, ControlError> {
        let request = request.header(by::SAID, by::to_header(&self.said));
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
