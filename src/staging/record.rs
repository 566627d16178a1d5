//! A renewal in flight as it is kept in a Vault: sealed, and bound to its place and version.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::seal::{Bound, SealingKey, SealingKeyError};
use crate::domain::key::PrivateKey;
use crate::domain::name::CertName;
use crate::journal::claims;
use crate::journal::event::InFlight;
use crate::pki;
use crate::pki::bundle::Bundle;
use crate::vault::Fields;

/// Raised when an older certd could not read what is written.
const FORMAT: u64 = 4;

/// One version of the record. All of it is authenticated.
pub(super) struct Record {
    pub instance: String,
    /// The first version that may hold the key.
    pub first: u64,
    /// `None` where the renewal has ended and its key could not be destroyed.
    pub open: Option<InFlight>,
    pub key: Option<PrivateKey>,
}

/// The content of a secret at a staging place.
pub(super) enum Content {
    Record(Box<Record>),
    /// Sealed with another key, for another place or version, or not at all.
    Unopened {
        /// The instance that it names, which may be false: for people alone.
        hint: Option<String>,
    },
}

#[derive(Serialize)]
struct Plain<'a> {
    instance: &'a str,
    first: u64,
    open: Option<&'a InFlight>,
    private_key: &'a str,
}

#[derive(Deserialize)]
struct Opened {
    instance: String,
    first: u64,
    open: Option<InFlight>,
    private_key: String,
}

/// Returns the fields of the secret.
pub(super) fn sealed(
    sealing: &SealingKey,
    bound: Bound<'_>,
    certificate: &CertName,
    (instance, first): (&str, u64),
    (open, key): (Option<&InFlight>, Option<&PrivateKey>),
) -> Result<Fields, SealingKeyError> {
    let private_key = key.map(pki::key::to_pem).unwrap_or_default();
    let plain = Plain { instance, first, open, private_key: &private_key };
    let plain = Zeroizing::new(serde_json::to_vec(&plain).expect("a renewal in flight is JSON"));
    Ok(Fields::from([
        field("what_this_is", "a renewal of certd that is under way, sealed; it is destroyed at its end"),
        field("format", &FORMAT),
        field("certificate", &certificate.0),
        field("instance", instance),
        field("sealed", &sealing.seal(bound, &plain)?),
    ]))
}

/// Reads the fields of a secret. Only the sealed field is believed.
pub(super) fn opened(sealing: &SealingKey, bound: Bound<'_>, fields: &Fields) -> Content {
    let text = |name: &str| fields.get(name).and_then(|json| serde_json::from_str::<String>(json.get()).ok());
    let plain = text("sealed").and_then(|sealed| sealing.open(bound, &sealed));
    match plain.and_then(|plain| serde_json::from_slice::<Opened>(&plain).ok()) {
        Some(Opened { instance, first, open, private_key }) => {
            let private_key = Zeroizing::new(private_key);
            Content::Record(Box::new(Record { instance, first, open, key: key(&private_key) }))
        }
        None => Content::Unopened { hint: text("instance").filter(|hint| claims::is_name(hint)) },
    }
}

/// A record in the layout of format 3, which sealed nothing.
pub(super) struct Unsealed {
    pub instance: String,
    pub first: u64,
    pub key: Option<PrivateKey>,
}

pub(super) fn unsealed(fields: &Fields) -> Option<Unsealed> {
    let json = |name: &str| fields.get(name).map(|value| value.get());
    let private_key: Zeroizing<String> = Zeroizing::new(serde_json::from_str(json("private_key")?).ok()?);
    Some(Unsealed {
        instance: serde_json::from_str(json("instance")?).ok()?,
        first: serde_json::from_str(json("first_version")?).ok()?,
        key: key(&private_key),
    })
}

/// A key that cannot be read certifies nothing, and is as good as lost.
fn key(pem: &str) -> Option<PrivateKey> {
    let key = Bundle::parse(pem.as_bytes()).ok()?.keys.into_iter().next()?;
    pki::key::prove(&key).is_ok().then_some(key)
}

fn field<T: Serialize + ?Sized>(name: &str, value: &T) -> (String, Box<RawValue>) {
    (name.to_string(), serde_json::value::to_raw_value(value).expect("texts and numbers are JSON"))
}
