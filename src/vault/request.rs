//! One request, from what an endpoint says of itself. rustify would build it by way of a `Uri`, which is parsed three
//! times until it is sent; a sweep makes thousands.

use reqwest::{Request, Url};
use rustify::endpoint::Endpoint;
use rustify::errors::ClientError;

/// To `endpoint` below `base`, which ends in `/v1`. Segments are encoded, so that none can leave its place.
pub(super) fn built<E: Endpoint>(base: &Url, endpoint: &E) -> Result<Request, ClientError> {
    let mut url = base.clone();
    let path = endpoint.path();
    if let Ok(mut segments) = url.path_segments_mut() {
        // vaultrs begins the paths of logins with a slash, and Vault would redirect from the empty segment.
        segments.extend(path.strip_prefix('/').unwrap_or(&path).split('/'));
    }
    url.set_query(endpoint.query()?.as_deref());
    let mut request = Request::new(endpoint.method().into(), url);
    *request.body_mut() = endpoint.body()?.filter(|body| !body.is_empty()).map(Into::into);
    Ok(request)
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
        let base: Url = "https://vault.example.org/below/v1".parse().unwrap();
        for path in ["secret/data/tls/web", "secret/metadata/", "a/b c/\u{fc}?x#y%2f", "pki/cert/1f:a0"] {
            let at = At { path: path.to_string() };
            let (built, theirs) = (built(&base, &at).unwrap(), at.request(base.as_str()).unwrap());
            assert_eq!(built.url().as_str(), theirs.uri().to_string());
            assert_eq!(built.method(), theirs.method());
            assert!(built.body().is_none());
        }
        let login = At { path: "/auth/approle/login".to_string() };
        assert_eq!(built(&base, &login).unwrap().url().path(), "/below/v1/auth/approle/login");
    }
}
