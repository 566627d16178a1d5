//! What a story wants of the server: how it is at all times, and what goes wrong with which request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

use super::answer::{Answer, problem, refused};

pub const DAY: i64 = 86_400;

/// How the server is; a story may change it while it runs.
pub struct Script {
    /// HTTP without TLS, from the start on.
    pub plain: bool,
    /// Of the dice for `bad_nonces`, from the start on.
    pub seed: u64,
    /// How probable it is that a good nonce is refused, from 0 to 1.
    pub bad_nonces: f64,
    /// MAC keys by their identifier; where there are any, a new account needs one of them.
    pub external_accounts: BTreeMap<String, Vec<u8>>,
    /// Where they can be read; a new account has to agree to them.
    pub terms: Option<String>,
    /// None are in the directory, and a profile in an order is passed over, where this is empty.
    pub profiles: Vec<Profile>,
    /// Whether the directory has it, and whether it is answered.
    pub renewal_info: bool,
    pub echo_replaces: bool,
    /// The problem and its words by which an order is refused that says what it replaces.
    pub refuse_replaces: Option<(&'static str, &'static str)>,
    /// Whether a new order finds the valid authorizations of before.
    pub reuse_authorizations: bool,
    /// Names that no order may hold.
    pub rejected: Vec<String>,
    /// In seconds from the moment of signing; a profile's lifetime comes before it.
    pub validity: (i64, i64),
    /// For each certificate that has none of its own; else the last third of its life.
    pub window: Option<Window>,
    /// Of the renewal information, as the header has it.
    pub renewal_retry_after: Option<String>,
    pub explanation: Option<String>,
    /// Whether there is a second chain, to another root.
    pub alternates: bool,
    /// Asked outside of the server's runtime: it may block.
    pub judge: Judge,
}

pub type Judge = Arc<dyn Fn(&Validation) -> Verdict + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    pub description: String,
    /// In seconds, from an hour ago on.
    pub lifetime: i64,
}

/// As RFC 9773 suggests it; nothing keeps it from ending before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Window {
    /// In seconds from now.
    pub fn from_now(start: i64, end: i64) -> Self {
        let at = |seconds: i64| Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap();
        Self { start: at(start), end: at(end) }
    }
}

/// A challenge that a client says it is ready for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// `http-01`, `dns-01`, `tls-alpn-01` or `dns-persist-01`.
    pub kind: &'static str,
    /// Without the `*.` of a wildcard.
    pub identifier: String,
    pub wildcard: bool,
    pub token: String,
    /// RFC 8555 section 8.1.
    pub key_authorization: String,
    pub account: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Valid,
    Invalid(Value),
    /// Valid after it was looked at so often.
    Later(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Directory,
    NewNonce,
    NewAccount,
    Account,
    KeyChange,
    NewOrder,
    Order,
    Authorization,
    Challenge,
    Finalize,
    Certificate,
    Revoke,
    RenewalInfo,
    /// What no ACME client has a reason to ask for.
    Elsewhere,
}

/// Which requests of a kind, counted from 1 and from the moment when the fault was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nth {
    Only(usize),
    From(usize),
    Every,
}

impl Nth {
    pub const fn holds(self, count: usize) -> bool {
        match self {
            Self::Only(nth) => count == nth,
            Self::From(nth) => count >= nth,
            Self::Every => true,
        }
    }
}

/// Several may meet one request: what keeps it from being carried out comes first.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// In place of carrying it out.
    Answer(Answer),
    /// It is not carried out, and nobody says so.
    Hang,
    /// It is not carried out, and the connection is cut.
    CutBefore,
    /// It is not carried out, for its nonce is said to be bad.
    BadNonce,
    /// It is carried out, and the connection is cut in place of an answer.
    CutAfter,
    /// It is carried out, and the connection is cut in the middle of the answer's body.
    CutMidway,
    /// It is carried out, and so many blanks come before the body of the answer.
    Swollen(u64),
    /// It is carried out, and its answer has this header.
    With(&'static str, String),
    /// It is carried out, and its answer lacks this header.
    Without(&'static str),
    /// Of a finalize: the order is in `processing` for so many looks at it.
    Processing(usize),
    /// Of a finalize: the order is in `processing` for ever.
    Stuck,
    /// Of a finalize: the order becomes `invalid` with this problem.
    Invalid(Value),
    /// Of a finalize: the order is valid, and tells where its certificate is only after so many looks at it.
    Late(usize),
    /// Of a finalize: what is wrong with the certificate.
    Flawed(Flaw),
}

impl Fault {
    /// `retry_after` is any text that a header can hold.
    pub fn busy(status: u16, retry_after: Option<&str>) -> Self {
        let answer = refused(status, if status == 429 { "rateLimited" } else { "serverInternal" }, "come back later");
        Self::Answer(match retry_after {
            Some(text) => answer.with("Retry-After", text),
            None => answer,
        })
    }

    /// A limit of the CA, in these words, for two hours.
    pub fn limited(detail: &str) -> Self {
        Self::Answer(refused(429, "rateLimited", detail).with("Retry-After", "7200"))
    }

    pub fn html(status: u16) -> Self {
        Self::Answer(Answer::html(status))
    }

    pub fn problem(problem: &Value) -> Self {
        Self::Answer(Answer::problem(problem))
    }

    pub fn refusal(kind: &str, detail: &str) -> Self {
        Self::Answer(refusal(kind, detail))
    }
}

/// A problem of RFC 8555, with the status that CAs give it.
pub fn refusal(kind: &str, detail: &str) -> Answer {
    let status = match kind {
        "userActionRequired" | "externalAccountRequired" | "orderNotReady" | "unauthorized" => 403,
        "rateLimited" => 429,
        "alreadyReplaced" => 409,
        "serverInternal" => 500,
        _ => 400,
    };
    let answer = Answer::problem(&problem(status, kind, detail));
    match kind {
        "userActionRequired" => answer.and("Link", "<https://ca.example/terms>;rel=\"terms-of-service\""),
        _ => answer,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is for a key that nobody asked for.
    OtherKey,
    /// Of the names, the last is missing; for the only one, another stands there.
    MissingName,
    /// The intermediate in the chain is another CA's.
    ForeignChain,
    Expired,
    /// It ends within two minutes.
    Due,
    NotYetValid,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            plain: false,
            seed: 1,
            bad_nonces: 0.0,
            external_accounts: BTreeMap::new(),
            terms: None,
            profiles: Vec::new(),
            renewal_info: true,
            echo_replaces: true,
            refuse_replaces: None,
            reuse_authorizations: false,
            rejected: Vec::new(),
            validity: (-3_600, 90 * DAY - 3_600),
            window: None,
            renewal_retry_after: Some("21600".to_string()),
            explanation: None,
            alternates: true,
            judge: Arc::new(|_| Verdict::Valid),
        }
    }
}

/// The moment so many seconds from now, in the three forms of RFC 9110 section 5.6.7.
pub fn retry_dates(seconds: u64) -> [String; 3] {
    let at = SystemTime::now() + Duration::from_secs(seconds);
    let stamp = Timestamp::try_from(at).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
    [
        httpdate::fmt_http_date(at),
        stamp.strftime("%A, %d-%b-%y %H:%M:%S GMT").to_string(),
        stamp.strftime("%a %b %e %H:%M:%S %Y").to_string(),
    ]
}
