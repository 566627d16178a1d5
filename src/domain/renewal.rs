//! One renewal: what is asked for, and what may be stored of what a CA answered.

use std::fmt;
use std::time::Duration;

use super::cert::{Certificate, Chain, Fingerprint, KeyDigest, Trust};
use super::key::{KeySpec, PrivateKey};
use super::name::{CertName, San};
use super::plan::Reason;
use super::policy::RenewalPolicy;
use super::time::Timestamp;

/// What a certificate must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub names: Vec<San>,
    /// Asked for only where the certificate that is replaced has one; else the subject is left to the CA.
    pub common_name: Option<String>,
    pub key: KeySpec,
    /// `None` leaves it to the issuer.
    pub lifetime: Option<Duration>,
    pub renewal: RenewalPolicy,
}

/// A chain as an issuer signed it: parsed, and its DER, leaf first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub chain: Chain,
    pub ders: Vec<Vec<u8>>,
    pub trust: Trust,
}

/// The certificate that a renewal was planned on and replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub fingerprint: Fingerprint,
    pub not_after: Timestamp,
    pub lifetime: Duration,
    pub extended_key_usage: Option<Vec<String>>,
}

impl From<&Certificate> for Replaced {
    fn from(leaf: &Certificate) -> Self {
        Self {
            fingerprint: leaf.fingerprint,
            not_after: leaf.not_after,
            lifetime: leaf.lifetime(),
            extended_key_usage: leaf.extended_key_usage.clone(),
        }
    }
}

/// One renewal that is under way.
#[derive(Debug)]
pub struct Request {
    pub certificate: CertName,
    pub spec: Spec,
    pub key: PrivateKey,
    pub reason: Reason,
    pub replaces: Option<Replaced>,
}

/// A private key and the chain that certifies it. Only [`Request::accept`] makes one, so whatever
/// reaches a store has passed its checks.
#[derive(Debug)]
pub struct CertifiedKey {
    key: PrivateKey,
    signed: Signed,
}

impl CertifiedKey {
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    pub fn chain(&self) -> &Chain {
        &self.signed.chain
    }

    /// DER, leaf first.
    pub fn ders(&self) -> &[Vec<u8>] {
        &self.signed.ders
    }
}

/// Why a signed chain was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    OtherKey { certified: KeyDigest },
    MissingName(San),
    UnaskedName(San),
    LostUsage(String),
    Untrusted(String),
    NotYetValid(Timestamp),
    AlreadyDue(Timestamp),
    TooShort { got: Duration, asked: Duration },
    EndsBeforeTheOld { old: Timestamp, new: Timestamp },
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKey { certified } => write!(f, "it certifies another key: {certified}"),
            Self::MissingName(name) => write!(f, "a requested name is missing: {name}"),
            Self::UnaskedName(name) => write!(f, "it holds a name that was not asked for: {name}"),
            Self::LostUsage(usage) => write!(f, "the old certificate had an extended key usage that it lacks: {usage}"),
            Self::Untrusted(why) => write!(f, "it does not verify to the configured roots: {why}"),
            Self::NotYetValid(from) => write!(f, "it is not valid before {from}"),
            Self::AlreadyDue(due) => write!(f, "it would be due at once, since {due}"),
            Self::TooShort { got, asked } => {
                write!(f, "its lifetime is {} s where {} s were asked for", got.as_secs(), asked.as_secs())
            }
            Self::EndsBeforeTheOld { old, new } => write!(f, "it ends on {new}, before the old one on {old}"),
        }
    }
}

/// Clocks of a CA and of this host may differ by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

impl Request {
    pub fn accept(self, now: Timestamp, signed: Signed) -> Result<CertifiedKey, Rejection> {
        self.judge(now, &signed)?;
        Ok(CertifiedKey { key: self.key, signed })
    }

    fn judge(&self, now: Timestamp, signed: &Signed) -> Result<(), Rejection> {
        let leaf = &signed.chain.leaf;
        if leaf.public_key != self.key.public {
            return Err(Rejection::OtherKey { certified: leaf.public_key });
        }
        self.judge_names(leaf)?;
        self.judge_usages(leaf)?;
        if let Trust::Unverified(why) = &signed.trust {
            return Err(Rejection::Untrusted(why.clone()));
        }
        self.judge_validity(now, leaf)
    }

    fn judge_names(&self, leaf: &Certificate) -> Result<(), Rejection> {
        if let Some(missing) = self.spec.names.iter().find(|name| !leaf.names.contains(name)) {
            return Err(Rejection::MissingName(missing.clone()));
        }
        match leaf.names.iter().find(|name| !self.spec.names.contains(name)) {
            Some(unasked) => Err(Rejection::UnaskedName(unasked.clone())),
            None => Ok(()),
        }
    }

    fn judge_usages(&self, leaf: &Certificate) -> Result<(), Rejection> {
        let (Some(new), Some(replaced)) = (&leaf.extended_key_usage, &self.replaces) else { return Ok(()) };
        let old = replaced.extended_key_usage.iter().flatten();
        match old.into_iter().find(|usage| !new.contains(usage)) {
            Some(lost) => Err(Rejection::LostUsage(lost.clone())),
            None => Ok(()),
        }
    }

    fn judge_validity(&self, now: Timestamp, leaf: &Certificate) -> Result<(), Rejection> {
        if leaf.not_before > now.plus(CLOCK_SKEW) {
            return Err(Rejection::NotYetValid(leaf.not_before));
        }
        if let Some(asked) = self.spec.lifetime.filter(|asked| leaf.lifetime() < *asked / 2) {
            return Err(Rejection::TooShort { got: leaf.lifetime(), asked });
        }
        let due = self.spec.renewal.due_at(leaf);
        if due <= now {
            return Err(Rejection::AlreadyDue(due));
        }
        match &self.replaces {
            Some(old) if self.reason == Reason::Due && leaf.not_after < old.not_after => {
                Err(Rejection::EndsBeforeTheOld { old: old.not_after, new: leaf.not_after })
            }
            _ => Ok(()),
        }
    }
}
