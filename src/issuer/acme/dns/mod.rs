//! How a name is shown to be ours in DNS (RFC 8555, section 8.4): a text is put where its zone keeps challenges, shown
//! by every server of the zone, and taken away again.

mod acme_dns;
mod exchange;
mod exec;
mod lookup;
mod propagation;
mod rfc2136;
mod secret_file;
mod tsig_key;

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::rr::Name;
use serde::{Deserialize, Serialize};
use tracing::warn;

pub use self::acme_dns::{AcmeDns, AcmeDnsError};
pub use self::exchange::Unanswered;
pub use self::exec::{Exec, ExecError, Verb};
pub use self::lookup::{Authority, Lookup, LookupError};
use self::lookup::{name, shown};
pub use self::propagation::NotShown;
use self::propagation::Watch;
pub use self::rfc2136::{Refusal, Rfc2136, Rfc2136Error};
pub use self::tsig_key::{TsigKey, TsigKeyError};
use crate::domain::text::{printable, with_causes};

/// One character-string (RFC 1035, section 3.3); a challenge has 43.
const LONGEST_VALUE: usize = 255;

/// Answers challenges: where they go, who puts them there, and how long its servers may take to show them.
pub struct Dns01 {
    pub updater: Updater,
    pub lookup: Lookup,
    pub propagation_within: Duration,
}

/// Who changes the zone.
pub enum Updater {
    Rfc2136(Rfc2136),
    Exec(Exec),
    AcmeDns(AcmeDns),
}

/// What a CA wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The identifier without `*.`, such as `www.example.org`.
    pub name: String,
    /// In base64url.
    pub value: String,
}

/// What was put where, and has to be taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presented {
    pub placed: Vec<Placed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Where the CNAMEs of the challenge led to.
    pub owner: String,
    pub value: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error(
        "no challenge can be answered for {}: it is no host name in ASCII; leave it out of the certificate",
        printable(.0)
    )]
    Name(String),
    #[error(
        "the CA's challenge for {} is no base64url text: see whether the directory is that of an ACME CA",
        printable(.0)
    )]
    Value(String),
    #[error("could not find out where the challenge of {} belongs", printable(name))]
    Lookup { name: String, source: LookupError },
    #[error("could not put the challenge at {owner}")]
    Present { owner: String, source: UpdateError },
    #[error("could not take the challenge away from {owner}: remove its TXT record {value} there")]
    Withdraw { owner: String, value: String, source: UpdateError },
    #[error(
        "the challenge is not shown by every server of its zone after {} s: {}: see whether they follow its primary, \
         or wait longer",
        within.as_secs(),
        servers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    NotShown { within: Duration, servers: Vec<NotShown> },
}

#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error(transparent)]
    Rfc2136(#[from] Rfc2136Error),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    AcmeDns(#[from] AcmeDnsError),
}

impl Dns01 {
    /// Puts all of them there, beside what others have there, and waits until every authoritative server shows them.
    /// When it fails, what it put there is gone again. When it is given up before its end, it is not.
    pub async fn present(&self, records: &[Record]) -> Result<Presented, DnsError> {
        let mut places = Vec::new();
        for record in records {
            places.push(self.place(record).await?);
        }
        let watch = self.watch(&places).await?;
        let mut presented = Presented::default();
        let outcome = self.put(&places, &mut presented).await;
        let outcome = match outcome {
            Ok(()) => watch.within(self.propagation_within).await.map_err(|servers| self.not_shown(servers)),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Ok(presented),
            Err(error) => {
                if let Err(left) = self.withdraw(&presented).await {
                    warn!(error = %with_causes(&left), "a challenge that could not be answered is left behind");
                }
                Err(error)
            }
        }
    }

    /// Takes away what was put there and nothing else. One failure does not keep the others there.
    pub async fn withdraw(&self, presented: &Presented) -> Result<(), DnsError> {
        let mut first = Ok(());
        for Placed { owner, value } in &presented.placed {
            first = first.and(self.take_away(owner, value).await);
            crate::pulse::beat();
        }
        first
    }

    async fn take_away(&self, owner: &str, value: &str) -> Result<(), DnsError> {
        let at = name(owner).map_err(|source| self.not_found(owner, source))?;
        let withdrawn = self.updater.withdraw(&self.lookup, &at, value).await;
        withdrawn.map_err(|source| DnsError::Withdraw { owner: shown(&at), value: printable(value), source })
    }

    async fn place(&self, record: &Record) -> Result<Place, DnsError> {
        let Record { name: of, value } = record;
        let is_base64url = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !(1..=LONGEST_VALUE).contains(&value.len()) || !value.chars().all(is_base64url) {
            return Err(DnsError::Value(of.clone()));
        }
        let of = of.trim_end_matches('.');
        let owner = name(&format!("_acme-challenge.{of}")).map_err(|_| DnsError::Name(of.to_string()))?;
        let end = self.lookup.end_of_cnames(&owner).await.map_err(|source| self.not_found(of, source))?;
        Ok(Place { name: of.to_string(), owner, end, value: value.clone() })
    }

    /// Made before anything is changed: servers that cannot be found cannot be asked either.
    async fn watch(&self, places: &[Place]) -> Result<Watch, DnsError> {
        let mut by_owner: BTreeMap<&Name, Vec<&Place>> = BTreeMap::new();
        for place in places {
            by_owner.entry(&place.end).or_default().push(place);
        }
        let mut watch = Watch::default();
        for (owner, places) in by_owner {
            let authorities = self.lookup.authorities_of(owner).await;
            let authorities = authorities.map_err(|source| self.not_found(&places[0].name, source))?;
            watch.add(owner, places.iter().map(|place| place.value.clone()).collect(), &authorities);
        }
        Ok(watch)
    }

    async fn put(&self, places: &[Place], presented: &mut Presented) -> Result<(), DnsError> {
        for place in places {
            let done = self.updater.present(&self.lookup, place).await;
            crate::pulse::beat();
            if done.as_ref().err().is_none_or(UpdateError::leaves_open) {
                presented.placed.push(Placed { owner: shown(&place.end), value: place.value.clone() });
            }
            done.map_err(|source| DnsError::Present { owner: shown(&place.end), source })?;
        }
        Ok(())
    }

    fn not_found(&self, name: &str, source: LookupError) -> DnsError {
        DnsError::Lookup { name: name.to_string(), source }
    }

    fn not_shown(&self, servers: Vec<NotShown>) -> DnsError {
        DnsError::NotShown { within: self.propagation_within, servers }
    }
}

/// Where one value goes.
struct Place {
    /// The identifier.
    name: String,
    /// Where a CA begins to look.
    owner: Name,
    /// Where its CNAMEs lead to.
    end: Name,
    value: String,
}

impl Updater {
    async fn present(&self, lookup: &Lookup, place: &Place) -> Result<(), UpdateError> {
        let Place { name, owner, end, value } = place;
        match self {
            Self::Rfc2136(updater) => Ok(updater.present(lookup, end, value).await?),
            Self::Exec(updater) => Ok(updater.run(Verb::Present, &shown(end), value).await?),
            Self::AcmeDns(updater) => Ok(updater.present(name, owner, end, value).await?),
        }
    }

    async fn withdraw(&self, lookup: &Lookup, owner: &Name, value: &str) -> Result<(), UpdateError> {
        match self {
            Self::Rfc2136(updater) => Ok(updater.withdraw(lookup, owner, value).await?),
            Self::Exec(updater) => Ok(updater.run(Verb::Withdraw, &shown(owner), value).await?),
            // It forgets by itself.
            Self::AcmeDns(_) => Ok(()),
        }
    }
}

impl UpdateError {
    /// Whether the record may be there all the same.
    fn leaves_open(&self) -> bool {
        match self {
            Self::Rfc2136(error) => error.leaves_open(),
            Self::Exec(error) => error.leaves_open(),
            // It is not taken away in any case.
            Self::AcmeDns(_) => false,
        }
    }
}
