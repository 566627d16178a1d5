//! One renewal: what is asked for, and what may be stored of what a CA answered.

use std::fmt;
use std::time::Duration;

use super::cert::{Certificate, Chain, Fingerprint, KeyDigest, Trust, Validity};
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
    /// When the leaf and the CA that signed it are both valid.
    pub usable: Validity,
    pub lifetime: Duration,
    pub extended_key_usage: Option<Vec<String>>,
}

impl From<&Chain> for Replaced {
    fn from(chain: &Chain) -> Self {
        Self {
            fingerprint: chain.leaf.fingerprint,
            usable: chain.usable(),
            lifetime: chain.leaf.lifetime(),
            extended_key_usage: chain.leaf.extended_key_usage.clone(),
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
    /// The issuer gives what it signs a lifetime of its own, and cannot be asked for another.
    pub lifetime_is_given: bool,
    /// Endpoints are to present it to TLS clients.
    pub is_served: bool,
}

/// A private key and the chain that certifies it. Only [`Request::accept`] makes one, so whatever
/// reaches a store has passed its checks.
#[derive(Clone, Debug)]
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
    OtherKey {
        certified: KeyDigest,
    },
    MissingName(San),
    UnaskedName(San),
    LostUsage(String),
    NoServerAuth,
    Untrusted(String),
    NotYetValid(Timestamp),
    AlreadyDue(Timestamp),
    TooShort {
        got: Duration,
        asked: Duration,
    },
    EndsBeforeTheOld {
        old: Timestamp,
        new: Timestamp,
    },
    /// The leaf, or the CA that signed it, is not valid any more.
    Ended(Timestamp),
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
            Self::Ended(on) => write!(f, "it, or the CA that signed it, ended on {on}"),
            Self::NoServerAuth => f.write_str("its extended key usage lacks serverAuth, and `serves` names endpoints"),
        }
    }
}

/// Clocks of a CA and of this host may differ by this much.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

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
        self.judge_validity(now, &signed.chain)
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
        if self.is_served && !leaf.serves_tls() {
            return Err(Rejection::NoServerAuth);
        }
        let (Some(new), Some(replaced)) = (&leaf.extended_key_usage, &self.replaces) else { return Ok(()) };
        let old = replaced.extended_key_usage.iter().flatten();
        match old.into_iter().find(|usage| !new.contains(usage)) {
            Some(lost) => Err(Rejection::LostUsage(lost.clone())),
            None => Ok(()),
        }
    }

    fn judge_validity(&self, now: Timestamp, chain: &Chain) -> Result<(), Rejection> {
        let (leaf, usable) = (&chain.leaf, chain.usable());
        if usable.from > now.plus(CLOCK_SKEW) {
            return Err(Rejection::NotYetValid(usable.from));
        }
        if usable.until <= now {
            return Err(Rejection::Ended(usable.until));
        }
        // A short certificate is better than none.
        let Some(old) = self.replaces.as_ref().filter(|old| self.still_works(old, now)) else { return Ok(()) };
        let asked = self.spec.lifetime.filter(|_| !self.lifetime_is_given);
        if let Some(asked) = asked.filter(|asked| leaf.lifetime() < *asked / 2) {
            return Err(Rejection::TooShort { got: leaf.lifetime(), asked });
        }
        let due = self.spec.renewal.due_of(chain);
        if due <= now {
            return Err(Rejection::AlreadyDue(due));
        }
        match self.reason == Reason::Due && usable.until < old.usable.until && !self.shortens(old) {
            true => Err(Rejection::EndsBeforeTheOld { old: old.usable.until, new: usable.until }),
            false => Ok(()),
        }
    }

    /// Whether clients take the old certificate, so that one of little use must not replace it.
    fn still_works(&self, old: &Replaced, now: Timestamp) -> bool {
        let is_valid = old.usable.from <= now && now <= old.usable.until;
        let is_refused =
            matches!(self.reason, Reason::KeyMismatch | Reason::Revoked | Reason::Untrusted | Reason::NotYetValid);
        is_valid && !is_refused
    }

    /// An operator who asks for much less than before wants an earlier end. Less by a little is a CA
    /// that backdates, not a change of mind.
    fn shortens(&self, old: &Replaced) -> bool {
        self.lifetime_is_given || self.spec.lifetime.is_some_and(|asked| asked < old.lifetime / 2)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::policy::{Share, Threshold};
    use crate::domain::sample::{DAY, NOW, SECOND, chain, intermediate, leaf, private_key, sans, spec};

    const NAME: &str = "a.example.org";

    fn request() -> Request {
        Request {
            certificate: NAME.into(),
            spec: spec(&[NAME]),
            key: private_key(),
            reason: Reason::Due,
            replaces: None,
            lifetime_is_given: false,
            is_served: false,
        }
    }

    fn replacing(old: &Certificate) -> Request {
        Request { replaces: Some(Replaced::from(&chain(old.clone()))), ..request() }
    }

    /// In place of one that works for ten days more.
    fn replacing_a_working_one() -> Request {
        replacing(&Certificate { not_after: NOW.plus(10 * DAY), ..leaf(&[NAME]) })
    }

    fn fresh() -> Certificate {
        Certificate { not_before: NOW, not_after: NOW.plus(90 * DAY), ..leaf(&[NAME]) }
    }

    fn lasting(lifetime: Duration) -> Certificate {
        Certificate { not_after: NOW.plus(lifetime), ..fresh() }
    }

    fn signed(leaf: Certificate) -> Signed {
        Signed { chain: chain(leaf), ders: vec![vec![0x30]], trust: Trust::Verified }
    }

    fn rejection(request: Request, leaf: Certificate) -> Option<Rejection> {
        request.accept(NOW, signed(leaf)).err()
    }

    #[test]
    fn what_is_accepted_is_kept_whole() {
        let certified = request().accept(NOW, signed(fresh())).unwrap();
        assert_eq!(certified.chain(), &chain(fresh()));
        assert_eq!(certified.ders(), [[0x30]]);
        assert_eq!(certified.key().public, private_key().public);
    }

    #[test]
    fn a_certificate_of_another_key_is_refused_whatever_else_it_is() {
        let other = Certificate { public_key: KeyDigest([2; 32]), ..leaf(&["b.example.org"]) };
        assert_eq!(rejection(request(), other), Some(Rejection::OtherKey { certified: KeyDigest([2; 32]) }));
    }

    #[test]
    fn exactly_the_requested_names_in_any_order() {
        let wants = |wanted: &[&str], got: &[&str]| {
            let request = Request { spec: spec(wanted), ..request() };
            rejection(request, Certificate { names: sans(got), ..fresh() })
        };
        let san = |name: &str| crate::domain::name::San::from_text(name);
        assert_eq!(wants(&["a.b", "c.d"], &["c.d", "a.b"]), None);
        assert_eq!(wants(&["a.b", "c.d"], &["a.b"]), Some(Rejection::MissingName(san("c.d"))));
        assert_eq!(wants(&["a.b"], &["a.b", "c.d"]), Some(Rejection::UnaskedName(san("c.d"))));
        assert_eq!(wants(&["www.a.b"], &["*.a.b"]), Some(Rejection::MissingName(san("www.a.b"))));
    }

    #[test]
    fn no_extended_key_usage_may_be_lost() {
        let usages = |usages: &[&str]| Some(usages.iter().map(|usage| usage.to_string()).collect::<Vec<_>>());
        let after = |old: Option<Vec<String>>, new: Option<Vec<String>>| {
            let old = Certificate { extended_key_usage: old, ..leaf(&[NAME]) };
            rejection(replacing(&old), Certificate { extended_key_usage: new, ..fresh() })
        };
        let lost = Some(Rejection::LostUsage("clientAuth".into()));
        assert_eq!(after(usages(&["serverAuth", "clientAuth"]), usages(&["serverAuth"])), lost);
        assert_eq!(after(usages(&["serverAuth"]), usages(&["clientAuth", "serverAuth"])), None);
        assert_eq!(after(usages(&["serverAuth"]), None), None, "no extension allows every usage");
        assert_eq!(rejection(request(), Certificate { extended_key_usage: usages(&[]), ..fresh() }), None);
    }

    #[test]
    fn a_chain_that_leads_to_no_configured_root_is_refused() {
        let trusted = |trust| request().accept(NOW, Signed { trust, ..signed(fresh()) }).err();
        assert_eq!(trusted(Trust::Unverified("no path".into())), Some(Rejection::Untrusted("no path".into())));
        assert_eq!(trusted(Trust::NotJudged), None);
    }

    #[test]
    fn clocks_may_differ_by_a_minute_and_no_second_more() {
        let from = |skew: u64| {
            rejection(request(), Certificate { not_before: NOW.plus(Duration::from_secs(skew)), ..fresh() })
        };
        assert_eq!(from(59), None);
        assert_eq!(from(60), None);
        assert_eq!(from(61), Some(Rejection::NotYetValid(NOW.plus(Duration::from_secs(61)))));
    }

    #[test]
    fn at_least_half_of_the_lifetime_that_was_asked_for() {
        let asked = 80 * DAY;
        let asking = |got| {
            let spec = Spec { lifetime: Some(asked), ..spec(&[NAME]) };
            rejection(Request { spec, ..replacing_a_working_one() }, lasting(got))
        };
        assert_eq!(asking(40 * DAY + SECOND), None);
        assert_eq!(asking(40 * DAY), None);
        let got = 40 * DAY - SECOND;
        assert_eq!(asking(got), Some(Rejection::TooShort { got, asked }));
    }

    #[test]
    fn where_no_lifetime_can_be_asked_for_it_is_no_measure_and_may_end_before_the_old_one() {
        let old = Certificate { not_after: NOW.plus(133 * DAY), ..leaf(&[NAME]) };
        let asking = |lifetime_is_given| {
            let spec = Spec { lifetime: Some(400 * DAY), ..spec(&[NAME]) };
            rejection(Request { spec, lifetime_is_given, ..replacing(&old) }, fresh())
        };
        assert_eq!(asking(true), None);
        assert_eq!(asking(false), Some(Rejection::TooShort { got: 90 * DAY, asked: 400 * DAY }));
        let spec = || Spec { lifetime: None, ..spec(&[NAME]) };
        let given =
            |lifetime_is_given| rejection(Request { spec: spec(), lifetime_is_given, ..replacing(&old) }, fresh());
        let new = NOW.plus(90 * DAY);
        assert_eq!(given(true), None);
        assert_eq!(given(false), Some(Rejection::EndsBeforeTheOld { old: old.not_after, new }));
    }

    /// cert-manager#7741: a fresh certificate that is already due is refused once, instead of
    /// being stored and renewed for ever.
    #[test]
    fn a_fresh_certificate_that_is_already_due_is_rejected_and_no_loop() {
        let renewal = RenewalPolicy(Some(Threshold::Left(30 * DAY)));
        let policy = |lifetime| {
            let spec = Spec { renewal, ..spec(&[NAME]) };
            rejection(Request { spec, ..replacing_a_working_one() }, lasting(lifetime))
        };
        assert_eq!(policy(30 * DAY - SECOND), Some(Rejection::AlreadyDue(NOW.minus(SECOND))));
        assert_eq!(policy(30 * DAY), Some(Rejection::AlreadyDue(NOW)));
        assert_eq!(policy(30 * DAY + SECOND), None);
    }

    #[test]
    fn an_expired_or_empty_validity_is_refused() {
        assert_eq!(rejection(request(), lasting(Duration::ZERO)), Some(Rejection::Ended(NOW)));
        let ended = NOW.minus(SECOND);
        let old = Certificate { not_before: NOW.minus(90 * DAY), not_after: ended, ..fresh() };
        assert_eq!(rejection(request(), old), Some(Rejection::Ended(ended)));
        assert_eq!(rejection(request(), lasting(SECOND)), None);
    }

    #[test]
    fn a_short_certificate_is_better_than_one_that_no_client_takes() {
        let asked = Spec { lifetime: Some(80 * DAY), ..spec(&[NAME]) };
        let in_place_of = |reason, old: Option<&Certificate>| {
            let replaces = old.map(|old| Replaced::from(&chain(old.clone())));
            let request = Request { spec: asked.clone(), reason, replaces, ..request() };
            rejection(request, lasting(DAY))
        };
        let works = Certificate { not_after: NOW.plus(SECOND), ..leaf(&[NAME]) };
        let ended = Certificate { not_after: NOW.minus(SECOND), ..leaf(&[NAME]) };
        let refused = Some(Rejection::TooShort { got: DAY, asked: 80 * DAY });
        assert_eq!(in_place_of(Reason::Missing, None), None);
        assert_eq!(in_place_of(Reason::Due, Some(&ended)), None);
        assert_eq!(in_place_of(Reason::Due, Some(&works)), refused);
        for reason in [Reason::Revoked, Reason::KeyMismatch, Reason::Untrusted, Reason::NotYetValid] {
            assert_eq!(in_place_of(reason, Some(&works)), None, "{reason:?}");
        }
    }

    #[test]
    fn a_chain_is_refused_for_the_ca_that_signed_its_leaf() {
        let by = |from, until| {
            let ca = Certificate { not_before: from, not_after: until, ..intermediate() };
            let chain = Chain { leaf: Arc::new(fresh()), intermediates: vec![Arc::new(ca)] };
            replacing_a_working_one().accept(NOW, Signed { chain, ..signed(fresh()) }).err()
        };
        let hour = DAY / 24;
        assert_eq!(by(NOW.minus(DAY), NOW.plus(3_650 * DAY)), None);
        assert_eq!(by(NOW.plus(hour), NOW.plus(3_650 * DAY)), Some(Rejection::NotYetValid(NOW.plus(hour))));
        assert_eq!(by(NOW.minus(DAY), NOW.minus(SECOND)), Some(Rejection::Ended(NOW.minus(SECOND))));
        assert_eq!(by(NOW.minus(DAY), NOW.plus(hour)), Some(Rejection::AlreadyDue(NOW.plus(hour).minus(30 * DAY))));
    }

    #[test]
    fn what_endpoints_are_to_serve_must_be_for_servers() {
        let served = |usages: Option<&[&str]>| {
            let extended_key_usage = usages.map(|all| all.iter().map(|usage| usage.to_string()).collect());
            let leaf = Certificate { extended_key_usage, ..fresh() };
            [true, false].map(|is_served| rejection(Request { is_served, ..request() }, leaf.clone()))
        };
        assert_eq!(served(Some(&["clientAuth"])), [Some(Rejection::NoServerAuth), None]);
        assert_eq!(served(Some(&["clientAuth", "serverAuth"])), [None, None]);
        assert_eq!(served(Some(&["anyExtendedKeyUsage"])), [None, None]);
        assert_eq!(served(None), [None, None], "no extension allows every usage");
    }

    #[test]
    fn what_was_renewed_for_its_age_must_not_end_before_the_old_one() {
        let renewal = RenewalPolicy(Some(Threshold::Share(Share::percent(10))));
        let old = Certificate { not_after: NOW.plus(8 * DAY), ..leaf(&[NAME]) };
        let renewing = |reason, new| {
            let request = Request { spec: Spec { renewal, ..spec(&[NAME]) }, reason, ..replacing(&old) };
            rejection(request, lasting(new))
        };
        assert_eq!(renewing(Reason::Due, 8 * DAY + SECOND), None);
        assert_eq!(renewing(Reason::Due, 8 * DAY), None);
        let earlier = 8 * DAY - SECOND;
        let rejected = Rejection::EndsBeforeTheOld { old: old.not_after, new: NOW.plus(earlier) };
        assert_eq!(renewing(Reason::Due, earlier), Some(rejected));
        for reason in Reason::ALL.into_iter().filter(|reason| *reason != Reason::Due) {
            assert_eq!(renewing(reason, earlier), None, "{reason:?} is no matter of age");
        }
    }

    #[test]
    fn a_lifetime_that_an_operator_shortened_may_end_before_the_old_one() {
        let old = Certificate { not_after: NOW.plus(25 * DAY), ..leaf(&[NAME]) };
        let asking = |asked, got| {
            let request = Request { spec: Spec { lifetime: asked, ..spec(&[NAME]) }, ..replacing(&old) };
            rejection(request, lasting(got))
        };
        assert_eq!(asking(Some(6 * DAY), 6 * DAY), None);
        let new = NOW.plus(24 * DAY);
        let rejected = Some(Rejection::EndsBeforeTheOld { old: old.not_after, new });
        let half = old.lifetime() / 2;
        assert_eq!(asking(Some(half - SECOND), 24 * DAY), None);
        assert_eq!(asking(Some(half), 24 * DAY), rejected, "unchanged, or nearly");
        assert_eq!(asking(None, 24 * DAY), rejected, "a CA that shortens on its own is not obeyed");
    }

    #[test]
    fn no_debug_text_shows_a_key() {
        assert!(format!("{:?}", request()).contains("key: PrivateKey(…)"));
        assert!(format!("{:?}", request().accept(NOW, signed(fresh())).unwrap()).contains("key: PrivateKey(…)"));
    }
}
