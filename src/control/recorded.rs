//! Acts between their records in the audit log.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::task::JoinError;

use super::by::By;
use super::{Shared, broken};
use crate::audit::record::{Draft, Kind};
use crate::audit::{AuditError, Begun, Outcome};
use crate::domain::actor::Actor;
use crate::domain::text::{message, with_causes};
use crate::domain::time::Timestamp;
use crate::journal::Journal;

/// Carries out an act between its two records, also where whoever asked is gone before it ends.
pub(super) async fn recorded<T: Send + 'static>(
    shared: &Shared,
    by: &Actor,
    act: Draft,
    work: impl Future<Output = Result<T, (StatusCode, String)>> + Send + 'static,
    outcome: fn(&T) -> Outcome,
) -> Result<T, (StatusCode, String)> {
    let (journal, now) = (shared.journal.clone(), shared.now);
    let begun = journal.audit.begin(now(), by, act).map_err(|error| refused(&error))?;
    let task = tokio::spawn(async move {
        let ended = work.await;
        let outcome = ended.as_ref().map_or_else(|(_, why)| Outcome::Failed(why.clone()), outcome);
        journal.audit.end(now(), &begun, &outcome);
        ended
    });
    task.await.map_err(|_: JoinError| broken())?
}

fn refused(error: &AuditError) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("nothing is done without a record of it: {}", with_causes(error)))
}

/// What the command itself refused after a look.
pub(super) async fn act_refused(
    State(shared): State<Shared>,
    By(by): By,
    Json((act, why)): Json<(Draft, String)>,
) -> Result<(), (StatusCode, String)> {
    write_refused(&shared.journal, (shared.now)(), &by, act, &why).map_err(|error| refused(&error))
}

/// Records an act with its refusal.
pub fn write_refused(journal: &Journal, now: Timestamp, by: &Actor, act: Draft, why: &str) -> Result<(), AuditError> {
    let begun = journal.audit.begin(now, by, act)?;
    journal.audit.end(now, &begun, &Outcome::Refused(message(why)));
    Ok(())
}

/// A rollback is carried out by the command itself.
pub(super) async fn rollback_begins(
    State(shared): State<Shared>,
    By(by): By,
    Json(act): Json<Draft>,
) -> Result<Json<Begun>, (StatusCode, String)> {
    let act = Draft { event: Kind::Rollback, ..act };
    shared.journal.audit.begin((shared.now)(), &by, act).map(Json).map_err(|error| refused(&error))
}

pub(super) async fn rollback_ended(State(shared): State<Shared>, Json((begun, outcome)): Json<(Begun, Outcome)>) {
    shared.journal.audit.end((shared.now)(), &begun, &outcome);
}

/// The head that this process wrote last, for `certd audit verify`.
pub(super) async fn audit_head(State(shared): State<Shared>) -> Json<Option<String>> {
    Json(shared.journal.audit.head().map(|head| head.to_string()))
}
