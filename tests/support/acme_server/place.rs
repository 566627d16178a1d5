//! The resources of the server and their paths.

use super::script::Kind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Directory,
    NewNonce,
    NewAccount,
    Account(usize),
    KeyChange,
    NewOrder,
    Order(usize),
    Authorization(usize),
    /// Of an authorization, by its place there.
    Challenge(usize, usize),
    /// Of an order.
    Finalize(usize),
    Certificate {
        serial: String,
        alternate: bool,
    },
    Revoke,
    RenewalInfo(String),
    Elsewhere,
}

impl Place {
    pub fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let number = |text: &str| text.parse().ok();
        let found = match parts[..] {
            ["directory"] => Some(Self::Directory),
            ["new-nonce"] => Some(Self::NewNonce),
            ["new-account"] => Some(Self::NewAccount),
            ["account", id] => number(id).map(Self::Account),
            ["key-change"] => Some(Self::KeyChange),
            ["new-order"] => Some(Self::NewOrder),
            ["order", id] => number(id).map(Self::Order),
            ["order", id, "finalize"] => number(id).map(Self::Finalize),
            ["authorization", id] => number(id).map(Self::Authorization),
            ["challenge", id, nth] => number(id).zip(number(nth)).map(|(id, nth)| Self::Challenge(id, nth)),
            ["certificate", serial] => Some(Self::Certificate { serial: serial.to_string(), alternate: false }),
            ["certificate", serial, "alternate"] => {
                Some(Self::Certificate { serial: serial.to_string(), alternate: true })
            }
            ["revoke"] => Some(Self::Revoke),
            ["renewal-info", id] => Some(Self::RenewalInfo(id.to_string())),
            _ => None,
        };
        found.unwrap_or(Self::Elsewhere)
    }

    pub fn path(&self) -> String {
        match self {
            Self::Directory => "/directory".to_string(),
            Self::NewNonce => "/new-nonce".to_string(),
            Self::NewAccount => "/new-account".to_string(),
            Self::Account(id) => format!("/account/{id}"),
            Self::KeyChange => "/key-change".to_string(),
            Self::NewOrder => "/new-order".to_string(),
            Self::Order(id) => format!("/order/{id}"),
            Self::Finalize(id) => format!("/order/{id}/finalize"),
            Self::Authorization(id) => format!("/authorization/{id}"),
            Self::Challenge(id, nth) => format!("/challenge/{id}/{nth}"),
            Self::Certificate { serial, alternate: false } => format!("/certificate/{serial}"),
            Self::Certificate { serial, alternate: true } => format!("/certificate/{serial}/alternate"),
            Self::Revoke => "/revoke".to_string(),
            Self::RenewalInfo(id) => format!("/renewal-info/{id}"),
            Self::Elsewhere => "/".to_string(),
        }
    }

    pub const fn kind(&self) -> Kind {
        match self {
            Self::Directory => Kind::Directory,
            Self::NewNonce => Kind::NewNonce,
            Self::NewAccount => Kind::NewAccount,
            Self::Account(_) => Kind::Account,
            Self::KeyChange => Kind::KeyChange,
            Self::NewOrder => Kind::NewOrder,
            Self::Order(_) => Kind::Order,
            Self::Authorization(_) => Kind::Authorization,
            Self::Challenge(..) => Kind::Challenge,
            Self::Finalize(_) => Kind::Finalize,
            Self::Certificate { .. } => Kind::Certificate,
            Self::Revoke => Kind::Revoke,
            Self::RenewalInfo(_) => Kind::RenewalInfo,
            Self::Elsewhere => Kind::Elsewhere,
        }
    }
}
