//! Who is at the other end of the socket: the account by the kernel, the command and the reason by what it says.

use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;
use url::form_urlencoded;

use crate::audit::peer;
use crate::domain::actor::{Actor, Said};

/// Carries [`Said`] in the form of a query, which is ASCII whatever the reason holds.
pub const SAID: &str = "certd-said";

/// The process that connected (`SO_PEERCRED`).
#[derive(Clone, Debug)]
pub struct Peer(Option<(u32, Option<i32>)>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|credentials| (credentials.uid(), credentials.pid())))
    }
}

/// The actor of a request.
pub struct By(pub Actor);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = (StatusCode, String);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let said = parts.headers.get(SAID).map(|value| from_header(value.as_bytes())).unwrap_or_default();
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().and_then(|ConnectInfo(Peer(peer))| *peer);
        let Some((uid, pid)) = peer else {
            return Err((StatusCode::FORBIDDEN, "the kernel does not tell who asks".to_string()));
        };
        Ok(Self(peer::other_process(uid, pid, &said)))
    }
}

/// Returns the value of the header.
pub fn to_header(said: &Said) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("command", &said.command);
    for (name, text) in [("sudo", &said.sudo), ("reason", &said.reason)] {
        if let Some(text) = text {
            query.append_pair(name, text);
        }
    }
    query.finish()
}

fn from_header(value: &[u8]) -> Said {
    let mut said = Said::default();
    for (name, text) in form_urlencoded::parse(value) {
        match name.as_ref() {
            "command" => said.command = text.into_owned(),
            "sudo" => said.sudo = Some(text.into_owned()),
            "reason" => said.reason = Some(text.into_owned()),
            _ => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_says_comes_through_whatever_is_in_it() {
        for reason in [None, Some("Schlüssel verloren & neu=1\r\nX: y".to_string())] {
            let sudo = reason.as_ref().map(|_| "ada (uid 1000)".to_string());
            let said = Said { command: "certd renew 'a b' --force".to_string(), sudo, reason };
            let header = to_header(&said);
            assert!(header.is_ascii() && !header.contains(['\r', '\n']), "{header}");
            assert_eq!(from_header(header.as_bytes()), said);
        }
        assert_eq!(from_header(b"other=1"), Said::default());
    }
}
