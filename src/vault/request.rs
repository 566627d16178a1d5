//! What an endpoint asks for. rustify would say it by way of a `Uri`, which is parsed three times until it is sent; a sweep
//! makes thousands.

use reqwest::Url;
use rustify::endpoint::Endpoint;
use rustify::errors::ClientError;
use url::Position;

/// Where no request goes: each address takes the target below its own path.
const ANYWHERE: &str = "http://vault/v1";

pub(super) struct Built {
    pub method: http::Method,
    /// Path, with `/v1`, and query. Segments are encoded, so that none can leave its place.
    pub target: String,
    pub body: Vec<u8>,
}

pub(super) fn built<E: Endpoint>(endpoint: &E) -> Result<Built, ClientError> {
    let mut url = Url::parse(ANYWHERE).expect("it is one");
    let path = endpoint.path();
    if let Ok(mut segments) = url.path_segments_mut() {
        // vaultrs begins the paths of logins with a slash, and Vault would redirect from the empty segment.
        segments.extend(path.strip_prefix('/').unwrap_or(&path).split('/'));
    }
    url.set_query(endpoint.query()?.as_deref());
    let target = url[Position::BeforePath..Position::AfterQuery].to_string();
    Ok(Built { method: endpoint.method().into(), target, body: endpoint.body()?.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use rustify_derive::Endpoint;

    use super::*;

    #[derive(Endpoint)]
    #[endpoint(path = "{self.path}", method = "LIST")]
    struct At {
        #[endpoint(skip)]
        path: String,
    }

    #[test]
    fn a_request_goes_where_rustify_would_send_it() {
        for path in ["secret/data/tls/web", "secret/metadata/", "a/b c/\u{fc}?x#y%2f", "pki/cert/1f:a0"] {
            let at = At { path: path.to_string() };
            let (built, theirs) = (built(&at).unwrap(), at.request(ANYWHERE).unwrap());
            assert_eq!(built.target, theirs.uri().path_and_query().unwrap().as_str());
            assert_eq!(&built.method, theirs.method());
            assert!(built.body.is_empty());
        }
        let login = At { path: "/auth/approle/login".to_string() };
        assert_eq!(built(&login).unwrap().target, "/v1/auth/approle/login");
    }
}
