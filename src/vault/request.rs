//! What an endpoint asks for. rustify would say it by way of a `Uri`, which is parsed three times until it is sent; a sweep
//! makes thousands.

use reqwest::Url;
use rustify::endpoint::Endpoint;
use rustify::errors::ClientError;
use serde_json::Value;
use url::Position;
use zeroize::Zeroizing;

/// Where no request goes: each address takes the target below its own path.
const ANYWHERE: &str = "http://vault/v1";

pub(super) struct Built {
    pub method: http::Method,
    /// Path, with `/v1`, and query. Segments are encoded, so that none can leave its place.
    pub target: String,
    pub body: Vec<u8>,
}

pub(super) fn built<E: Endpoint>(endpoint: &E) -> Result<Built, ClientError> {
    let path = endpoint.path();
    // vaultrs begins the paths of logins with a slash, and Vault would redirect from the empty segment.
    let path = path.strip_prefix('/').unwrap_or(&path);
    // A query with nothing in it is none.
    let target = match endpoint.query()?.filter(|query| !query.is_empty()) {
        None if is_plain(path) => format!("/v1/{path}"),
        query => encoded(path, query.as_deref()),
    };
    Ok(Built { method: endpoint.method().into(), target, body: endpoint.body()?.unwrap_or_default() })
}

/// Returns every text of a body in JSON, whatever field it is in.
pub(super) fn texts(body: &[u8]) -> Vec<Zeroizing<String>> {
    let mut texts = Vec::new();
    if let Ok(value) = serde_json::from_slice(body) {
        collect(value, &mut texts);
    }
    texts
}

fn collect(value: Value, texts: &mut Vec<Zeroizing<String>>) {
    match value {
        Value::String(text) => texts.push(Zeroizing::new(text)),
        Value::Array(values) => values.into_iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.into_iter().for_each(|(_, value)| collect(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Nothing in it would be encoded or resolved: nearly every path there is.
fn is_plain(path: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/');
    path.bytes().all(is_unreserved) && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn encoded(path: &str, query: Option<&str>) -> String {
    let mut url = Url::parse(ANYWHERE).expect("it is one");
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.extend(path.split('/'));
    }
    url.set_query(query);
    url[Position::BeforePath..Position::AfterQuery].to_string()
}

#[cfg(test)]
mod tests {
    use rustify_derive::Endpoint;
    use vaultrs::api::kv2::requests::ReadSecretRequest;

    use super::*;

    #[derive(Endpoint)]
    #[endpoint(path = "{self.path}", method = "LIST")]
    struct At {
        #[endpoint(skip)]
        path: String,
    }

    #[test]
    fn a_request_goes_where_rustify_would_send_it() {
        for path in
            ["secret/data/tls/web", "secret/metadata/", "a/./b", "a//b_~.-", "a/b c/\u{fc}?x#y%2f", "pki/cert/1f:a0"]
        {
            let at = At { path: path.to_string() };
            let (built, theirs) = (built(&at).unwrap(), at.request(ANYWHERE).unwrap());
            assert_eq!(built.target, theirs.uri().path_and_query().unwrap().as_str());
            assert_eq!(&built.method, theirs.method());
            assert!(built.body.is_empty());
        }
        let of_no_version = ReadSecretRequest { mount: "secret".into(), path: "tls/web".into(), version: None };
        assert_eq!(built(&of_no_version).unwrap().target, "/v1/secret/data/tls/web");
        let of_one = ReadSecretRequest { version: Some(3), ..of_no_version };
        assert_eq!(built(&of_one).unwrap().target, "/v1/secret/data/tls/web?version=3");
        let login = At { path: "/auth/approle/login".to_string() };
        assert_eq!(built(&login).unwrap().target, "/v1/auth/approle/login");
    }
}
