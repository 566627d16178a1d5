//! From a request to its answer, and what goes wrong between.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, State as Shared};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::Value;

use super::answer::{Answer, Outcome, PROBLEM, refused};
use super::connection::Cut;
use super::jws::decoded;
use super::place::Place;
use super::script::Fault;
use super::seen::Seen;
use super::state::{Request, State, bad_nonce};

/// No request of ACME comes near it.
const LARGEST_REQUEST: usize = 1 << 20;

/// So that the first half is on its way before the connection is cut.
const BETWEEN_HALVES: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

impl World {
    pub fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// A story that failed in the middle leaves a state that the rest of it can still read.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub async fn serve(
    Shared(world): Shared<World>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    asked: http::Request<Body>,
) -> Response {
    let at = (Instant::now(), Timestamp::now());
    let (parts, body) = asked.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_REQUEST).await else { return severed(&cut) };
    let text =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string();
    let path = parts.uri.path().to_string();
    let place = Place::of(&path);
    let request =
        Request { method: parts.method.to_string(), place, content_type: text("content-type"), body: body.to_vec() };
    let seen = seen(at, &request, path, text("user-agent"));
    let (nth, faults) = {
        let mut state = world.state();
        state.log.push(seen);
        (state.log.len() - 1, state.faults(request.place.kind()))
    };
    let answer = match refusal(&faults) {
        Some(Refusal::Cut) => return severed(&cut),
        Some(Refusal::Hang) => return std::future::pending().await,
        Some(Refusal::Answer(answer)) => answer,
        None => carried_out(&world, &request, &faults).await.unwrap_or_else(|refusal| refusal),
    };
    if faults.contains(&Fault::CutAfter) {
        return severed(&cut);
    }
    let answer = world.state().finished(&request, answer, &faults);
    world.state().log[nth].answer(answer.status, answer.header("Retry-After"));
    world.state().log[nth].is_of_names =
        String::from_utf8_lossy(&answer.body).contains("this exact set of identifiers");
    sent(answer, &faults, cut)
}

enum Refusal {
    Answer(Answer),
    Cut,
    Hang,
}

fn refusal(faults: &[Fault]) -> Option<Refusal> {
    faults.iter().find_map(|fault| match fault {
        Fault::Answer(answer) => Some(Refusal::Answer(answer.clone())),
        Fault::BadNonce => Some(Refusal::Answer(bad_nonce())),
        Fault::CutBefore => Some(Refusal::Cut),
        Fault::Hang => Some(Refusal::Hang),
        Fault::CutAfter | Fault::CutMidway | Fault::Swollen(_) | Fault::With(..) | Fault::Without(_) => None,
        Fault::Processing(_) | Fault::Stuck | Fault::Invalid(_) | Fault::Late(_) | Fault::Flawed(_) => None,
    })
}

async fn carried_out(world: &World, request: &Request, faults: &[Fault]) -> Outcome {
    let (Place::Challenge(id, nth), "POST") = (&request.place, request.method.as_str()) else {
        return world.state().answer(request, faults);
    };
    let (answer, validation) = world.state().challenge(request, *id, *nth)?;
    if let Some(validation) = validation {
        let judge = world.state().script.judge.clone();
        let verdict = tokio::task::spawn_blocking(move || judge(&validation)).await;
        let verdict = verdict.map_err(|_| refused(500, "serverInternal", "the judge of the story panicked"))?;
        world.state().judged(*id, *nth, verdict);
    }
    Ok(answer)
}

impl State {
    /// What every answer has, and what the faults make of it.
    fn finished(&mut self, request: &Request, answer: Answer, faults: &[Fault]) -> Answer {
        let mut answer = answer;
        if request.place != Place::Directory {
            answer = answer.and("Link", &format!("<{}>;rel=\"index\"", self.url(&Place::Directory)));
        }
        // A page of a proxy knows of no nonces.
        let is_own = answer.status < 400 || answer.header("Content-Type") == Some(PROBLEM);
        if request.method == "POST" && is_own {
            answer = answer.with("Replay-Nonce", &self.nonce());
        }
        for fault in faults {
            match fault {
                Fault::With(name, value) => answer = answer.with(name, value),
                Fault::Without(name) => answer = answer.without(name),
                Fault::Answer(_) | Fault::Hang | Fault::CutBefore | Fault::BadNonce | Fault::CutAfter => {}
                Fault::CutMidway | Fault::Swollen(_) | Fault::Processing(_) | Fault::Stuck => {}
                Fault::Invalid(_) | Fault::Late(_) | Fault::Flawed(_) => {}
            }
        }
        answer
    }
}

fn seen((at, clock): (Instant, Timestamp), request: &Request, path: String, user_agent: String) -> Seen {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let payload = body["payload"].as_str().and_then(|text| decoded(text).ok()).unwrap_or_default();
    Seen {
        at,
        clock,
        method: request.method.clone(),
        path,
        kind: request.place.kind(),
        user_agent,
        payload: serde_json::from_slice(&payload).unwrap_or_default(),
        status: None,
        retry_after: None,
        answered: None,
        wait_until: None,
        is_of_names: false,
    }
}

fn sent(answer: Answer, faults: &[Fault], cut: Cut) -> Response {
    let blanks = faults.iter().find_map(|fault| if let Fault::Swollen(blanks) = fault { Some(*blanks) } else { None });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status.try_into().expect("a story gives a status of HTTP");
    for (name, value) in &answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a story gives the name of a header");
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a story gives what a header can hold");
        response.headers_mut().append(name, value);
    }
    *response.body_mut() = match blanks {
        Some(blanks) => swollen(blanks, answer.body),
        None if faults.contains(&Fault::CutMidway) => {
            response.headers_mut().insert("Content-Length", answer.body.len().into());
            half(answer.body, cut)
        }
        None => answer.body.into(),
    };
    response
}

fn swollen(blanks: u64, body: Vec<u8>) -> Body {
    const CHUNK: usize = 1 << 16;
    static BLANKS: [u8; CHUNK] = [b' '; CHUNK];
    let chunks = usize::try_from(blanks).expect("this machine has addresses of 64 bits").div_ceil(CHUNK);
    let blanks = stream::iter(std::iter::repeat_n(Bytes::from_static(&BLANKS), chunks));
    Body::from_stream(blanks.chain(stream::iter([Bytes::from(body)])).map(Ok::<_, Infallible>))
}

fn half(body: Vec<u8>, cut: Cut) -> Body {
    let first = Bytes::copy_from_slice(&body[..body.len() / 2]);
    let then = stream::once(async move {
        tokio::time::sleep(BETWEEN_HALVES).await;
        cut.cut();
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    });
    Body::from_stream(stream::iter([Ok(first)]).chain(then))
}

/// What is written to a connection that is cut closes it.
fn severed(cut: &Cut) -> Response {
    cut.cut();
    Response::new(Body::empty())
}
