//! What the server answers, and problem documents (RFC 7807, RFC 8555 section 6.7).

use serde_json::{Value, json};

pub const JSON: &str = "application/json";
pub const PROBLEM: &str = "application/problem+json";
pub const CHAIN: &str = "application/pem-certificate-chain";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What was asked for, or why it is refused.
pub type Outcome = Result<Answer, Answer>;

impl Answer {
    pub fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }.with("Content-Type", kind)
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, JSON, body.to_string())
    }

    /// With the status that the document itself gives.
    pub fn problem(problem: &Value) -> Self {
        let status = problem["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
        Self::new(status, PROBLEM, problem.to_string())
    }

    /// As a proxy answers in front of a CA that is down.
    pub fn html(status: u16) -> Self {
        let page = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n");
        Self::new(status, "text/html", page)
    }

    /// In the place of one that has the same name.
    pub fn with(self, name: &str, value: &str) -> Self {
        let mut answer = self.without(name);
        answer.headers.push((name.to_string(), value.to_string()));
        answer
    }

    /// Beside others of the same name.
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// `kind` is a type of RFC 8555, or a whole URI.
pub fn problem(status: u16, kind: &str, detail: &str) -> Value {
    let uri = match kind.contains(':') {
        true => kind.to_string(),
        false => format!("urn:ietf:params:acme:error:{kind}"),
    };
    json!({ "type": uri, "status": status, "detail": detail })
}

pub fn refused(status: u16, kind: &str, detail: &str) -> Answer {
    Answer::problem(&problem(status, kind, detail))
}

pub fn malformed(detail: &str) -> Answer {
    refused(400, "malformed", detail)
}

pub fn not_found(what: &str) -> Answer {
    refused(404, "malformed", &format!("there is no such {what}"))
}

pub fn unauthorized(status: u16, detail: &str) -> Answer {
    refused(status, "unauthorized", detail)
}
