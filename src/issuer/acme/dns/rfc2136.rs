//! Dynamic updates (RFC 2136) that are signed with a shared key (RFC 8945), whose answers are too.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::time::timeout;

use super::exchange::{answers, by_tcp, code_word};
use super::lookup::{Lookup, LookupError, name, shown};
use super::tsig_key::{TsigKey, TsigKeyError};

/// Of a challenge, in seconds: it is of no use for longer.
const TTL: u32 = 60;

/// A server makes an update durable before it answers.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Rfc2136 {
    /// The primary of the zone.
    pub server: SocketAddr,
    /// Else the one that the resolver names.
    pub zone: Option<String>,
    /// As `tsig-keygen` prints it. Read again for each update, so that a new key needs no restart.
    pub key_file: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Rfc2136Error {
    #[error(transparent)]
    Key(#[from] TsigKeyError),
    #[error("could not find out the zone of {owner}: name it in the configuration")]
    Zone { owner: String, source: LookupError },
    #[error("could not reach {server}: see whether it runs, and whether its port is open to this host for TCP")]
    Unreachable { server: SocketAddr, source: std::io::Error },
    #[error("{server} did not answer within {} s: see its log for whether it made the update", DEADLINE.as_secs())]
    Silent { server: SocketAddr },
    #[error("{server} refused to update zone {zone}: {refusal}")]
    Refused { server: SocketAddr, zone: String, refusal: Refusal },
    #[error("an answer in the name of {server} is not proven to be its own: see who else may answer there")]
    NotProven { server: SocketAddr, source: ProtoError },
    #[error("{server} answered something else: see whether it is a DNS server")]
    OtherAnswer { server: SocketAddr },
}

/// Why a server did not do it, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it knows no key {key} of that algorithm (BADKEY): configure the key there, under that very name")]
    UnknownKey { key: String },
    #[error("its key {key} has another secret (BADSIG): give certd the key file of the server")]
    OtherSecret { key: String },
    #[error("its clock and this host's differ by minutes (BADTIME): set both by NTP")]
    Clock,
    #[error("it is not the primary of that zone (NOTAUTH): name its primary and the zone as it is configured there")]
    NotItsZone,
    #[error(
        "key {key} may not change {owner} (REFUSED): let it, in BIND by \
         update-policy {{ grant {key} name {owner} TXT; }}"
    )]
    NotAllowed { key: String, owner: String },
    #[error("{owner} is outside of that zone (NOTZONE): name the zone that holds it, or none")]
    OutsideZone { owner: String },
    #[error("it failed (SERVFAIL): see its log, for instance for a zone file that it may not write")]
    Failed,
    #[error("it makes no updates (NOTIMP): name the primary of the zone")]
    NoUpdates,
    #[error("it answered {0}: see its log")]
    Other(String),
}

impl Rfc2136Error {
    /// Whether the server may have made the update all the same.
    pub(super) fn leaves_open(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::NotProven { .. } | Self::OtherAnswer { .. } => true,
            Self::Key(_) | Self::Zone { .. } | Self::Refused { .. } => false,
        }
    }
}

impl Rfc2136 {
    /// Beside whatever else is there.
    pub(super) async fn present(&self, lookup: &Lookup, owner: &Name, value: &str) -> Result<(), Rfc2136Error> {
        self.update(lookup, text(owner, value)).await
    }

    /// That record alone; nothing where it is not there (RFC 2136, section 2.5.4).
    pub(super) async fn withdraw(&self, lookup: &Lookup, owner: &Name, value: &str) -> Result<(), Rfc2136Error> {
        let mut record = text(owner, value);
        (record.dns_class, record.ttl) = (DNSClass::NONE, 0);
        self.update(lookup, record).await
    }

    async fn update(&self, lookup: &Lookup, record: Record) -> Result<(), Rfc2136Error> {
        let key = TsigKey::read(&self.key_file).await?;
        let owner = record.name.clone();
        let zone = match &self.zone {
            Some(zone) => name(zone.trim_end_matches('.')),
            None => lookup.zone(&owner).await,
        };
        let zone = zone.map_err(|source| Rfc2136Error::Zone { owner: shown(&owner), source })?;
        match timeout(DEADLINE, self.exchange(&key, message(&zone, record))).await {
            Err(_) => Err(Rfc2136Error::Silent { server: self.server }),
            Ok(answer) => match refusal(&answer?, &key, &owner) {
                None => Ok(()),
                Some(refusal) => Err(Rfc2136Error::Refused { server: self.server, zone: shown(&zone), refusal }),
            },
        }
    }

    /// The answer, proven to be the server's where it is not a refusal.
    async fn exchange(&self, key: &TsigKey, mut message: Message) -> Result<Message, Rfc2136Error> {
        let server = self.server;
        let not_proven = |source| Rfc2136Error::NotProven { server, source };
        let verifier = message.finalize(&key.signer(), now()).map_err(not_proven)?;
        let mut verifier = verifier.expect("a message that was signed has an answer to verify");
        let bytes = message.to_vec().map_err(not_proven)?;
        let received = by_tcp(server, &bytes).await.map_err(|source| Rfc2136Error::Unreachable { server, source })?;
        let answer = Message::from_vec(&received).map_err(|error| not_proven(error.into()))?;
        if !answers(&answer, &message) {
            return Err(Rfc2136Error::OtherAnswer { server });
        }
        // A server that does not know the key cannot sign that (RFC 8945, section 5.3.2).
        if answer.response_code == ResponseCode::NoError {
            verifier.verify(&received).map_err(not_proven)?;
        }
        Ok(answer)
    }
}

fn text(owner: &Name, value: &str) -> Record {
    Record::from_rdata(owner.clone(), TTL, RData::TXT(TXT::new(vec![value.to_string()])))
}

/// The sections of an update are those of a question under other names (RFC 2136, section 2.2).
fn message(zone: &Name, record: Record) -> Message {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(zone.clone(), RecordType::SOA));
    message.add_authority(record);
    message
}

/// What the key was found to be says more than the code, which is the same for all of it (RFC 8945, section 5.2).
fn refusal(answer: &Message, key: &TsigKey, owner: &Name) -> Option<Refusal> {
    let (key, owner) = (shown(&key.name), shown(owner));
    let of_the_key = answer.signature.as_ref().and_then(|signature| signature.data.error);
    match (answer.response_code, of_the_key) {
        (ResponseCode::NoError, _) => None,
        (_, Some(TsigError::BadKey)) => Some(Refusal::UnknownKey { key }),
        (_, Some(TsigError::BadSig)) => Some(Refusal::OtherSecret { key }),
        (_, Some(TsigError::BadTime)) => Some(Refusal::Clock),
        (ResponseCode::NotAuth, _) => Some(Refusal::NotItsZone),
        (ResponseCode::Refused, _) => Some(Refusal::NotAllowed { key, owner }),
        (ResponseCode::NotZone, _) => Some(Refusal::OutsideZone { owner }),
        (ResponseCode::ServFail, _) => Some(Refusal::Failed),
        (ResponseCode::NotImp, _) => Some(Refusal::NoUpdates),
        (other, _) => Some(Refusal::Other(code_word(other))),
    }
}

/// In seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::TSIG;

    use super::*;

    fn key() -> TsigKey {
        TsigKey::parse("key certd { algorithm hmac-sha256; secret \"c2VjcmV0IHNlY3JldA==\"; };").unwrap()
    }

    fn refused(code: ResponseCode, of_the_key: Option<TsigError>) -> Option<Refusal> {
        let key = key();
        let mut answer = Message::response(1, OpCode::Update);
        answer.metadata.response_code = code;
        let tsig = TSIG::new(key.algorithm.clone(), 0, 300, Vec::new(), 1, of_the_key, Vec::new());
        answer.set_signature(Box::new(Record::from_rdata(key.name.clone(), 0, tsig)));
        refusal(&answer, &key, &name("_acme-challenge.example.org").unwrap())
    }

    #[test]
    fn each_refusal_has_a_name_of_its_own() {
        let (key, owner) = ("certd".to_string(), "_acme-challenge.example.org".to_string());
        let not_auth = |error| refused(ResponseCode::NotAuth, Some(error));
        assert_eq!(not_auth(TsigError::BadKey), Some(Refusal::UnknownKey { key: key.clone() }));
        assert_eq!(not_auth(TsigError::BadSig), Some(Refusal::OtherSecret { key: key.clone() }));
        assert_eq!(not_auth(TsigError::BadTime), Some(Refusal::Clock));
        assert_eq!(not_auth(TsigError::BadTrunc), Some(Refusal::NotItsZone));
        assert_eq!(refused(ResponseCode::NotAuth, None), Some(Refusal::NotItsZone));
        assert_eq!(refused(ResponseCode::Refused, None), Some(Refusal::NotAllowed { key, owner: owner.clone() }));
        assert_eq!(refused(ResponseCode::NotZone, None), Some(Refusal::OutsideZone { owner }));
        assert_eq!(refused(ResponseCode::ServFail, None), Some(Refusal::Failed));
        assert_eq!(refused(ResponseCode::NotImp, None), Some(Refusal::NoUpdates));
        assert_eq!(refused(ResponseCode::YXDomain, None), Some(Refusal::Other("YXDOMAIN".to_string())));
        assert_eq!(refused(ResponseCode::NoError, None), None);
    }

    #[test]
    fn only_what_may_have_been_done_is_left_open() {
        let server = SocketAddr::from(([192, 0, 2, 1], 53));
        let refused = Rfc2136Error::Refused { server, zone: "example.org".to_string(), refusal: Refusal::Failed };
        assert!(!refused.leaves_open());
        assert!(Rfc2136Error::Silent { server }.leaves_open());
    }
}
