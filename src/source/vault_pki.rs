//! The CAs of a Vault's PKI mounts, what they issued that still lives, and their revocation lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::Observed;
use super::side_by_side::side_by_side;
use crate::domain::cert::{Certificate, Chain, Fingerprint, Trust};
use crate::domain::inventory::{Found, Location, Observation, Obstacle, ObstacleKind, PkiObject, Sighting};
use crate::domain::issued::{Issued, settled};
use crate::domain::name::SourceName;
use crate::domain::time::Timestamp;
use crate::pki::bundle::{self, Bundle};
use crate::pki::{NotUnderstood, crl, interned};
use crate::vault::{PkiCertificate, PkiIssuer, Vault, VaultError};

pub struct VaultPkiSource {
    pub name: SourceName,
    pub environment: Option<String>,
    pub vault: Arc<Vault>,
    pub mounts: Vec<String>,
    /// Requests in flight, at least one.
    pub concurrency: usize,
    pub known: KnownCertificates,
}

/// What was read once, by mount and serial number, until the mount no longer lists it: an issued certificate never
/// changes, except that it is revoked.
#[derive(Default)]
pub struct KnownCertificates(Mutex<BTreeMap<String, Known>>);

type Known = BTreeMap<String, Life>;

#[derive(Clone)]
enum Life {
    /// Its certificate is of no further use, and a CA that is never tidied has very many.
    Ended,
    Lives {
        certificate: Arc<Certificate>,
        revoked_at: Option<Timestamp>,
    },
}

/// Of one mount: each place with what was seen there, and what could not be listed.
#[derive(Default)]
struct Seen {
    sightings: Vec<(Location, Sighting)>,
    failures: Vec<Obstacle>,
}

impl VaultPkiSource {
    pub async fn observe(&self, now: Timestamp) -> Observed {
        let mut observed = Observed::default();
        for mount in &self.mounts {
            let Seen { sightings, failures } = self.look(mount.trim_matches('/'), now).await;
            let observation = |(location, sighting)| Observation {
                location,
                source: self.name.clone(),
                environment: self.environment.clone(),
                observed_at: now,
                sighting,
                took: None,
            };
            observed.observations.extend(sightings.into_iter().map(observation));
            observed.failures.extend(failures);
        }
        observed
    }

    async fn look(&self, mount: &str, now: Timestamp) -> Seen {
        let reader = Reader { vault: self.vault.clone(), mount: mount.into() };
        if let Err(error) = reader.vault.insist_on_pki(mount).await {
            return Seen { failures: vec![reader.unlisted(&error, "")], ..Seen::default() };
        }
        let mut seen = Seen::default();
        let issuers = self.issuers(&reader, &mut seen).await;
        self.issued(&reader, now, &issuers, &mut seen).await;
        seen
    }

    /// With their revocation lists. Returns the fingerprints of their certificates.
    async fn issuers(&self, reader: &Reader, seen: &mut Seen) -> BTreeSet<Fingerprint> {
        reader.vault.pace().await;
        let issuers = match reader.vault.pki_issuers(&reader.mount).await {
            Ok(issuers) => issuers,
            Err(error) => {
                seen.failures.push(reader.unlisted(&error, "/issuers"));
                return BTreeSet::new();
            }
        };
        if issuers.is_empty() {
            seen.sightings.push((reader.at(PkiObject::Mount), Sighting::Absent));
        }
        let reader = reader.clone();
        let look = move |issuer: PkiIssuer| {
            let reader = reader.clone();
            async move { (reader.issuer(&issuer).await, Vec::new()) }
        };
        let sightings = side_by_side(self.concurrency, issuers, look).await;
        let fingerprints = sightings.iter().filter_map(|(_, it)| it.leaf()).map(|leaf| leaf.fingerprint).collect();
        seen.sightings.extend(sightings);
        fingerprints
    }

    /// What was issued and still lives. An issuer's own certificate, which its mount lists too, was seen before.
    async fn issued(&self, reader: &Reader, now: Timestamp, issuers: &BTreeSet<Fingerprint>, seen: &mut Seen) {
        reader.vault.pace().await;
        let serials = match reader.vault.pki_serials(&reader.mount).await {
            Ok(serials) => serials,
            Err(error) => return seen.failures.push(reader.unlisted(&error, "/certs")),
        };
        reader.vault.pace().await;
        // Who may not list these is told by each certificate for itself.
        let revoked = reader.vault.pki_revoked(&reader.mount).await.ok();
        let (mut known, unread) = self.known.sort_out(&reader.mount, serials, revoked.as_ref());
        let look = {
            let reader = reader.clone();
            move |serial: String| {
                let reader = reader.clone();
                async move { (vec![(reader.certificate(&serial, now).await, serial)], Vec::new()) }
            }
        };
        for (read, serial) in side_by_side(self.concurrency, unread, look).await {
            match read {
                Ok(Some(life)) => {
                    known.insert(serial, life);
                }
                // It was tidied away since it was listed.
                Ok(None) => {
                    known.remove(&serial);
                }
                Err(obstacle) => {
                    known.remove(&serial);
                    seen.sightings.push((reader.at(PkiObject::Certificate(serial)), Sighting::Unknown(obstacle)));
                }
            }
        }
        known.values_mut().for_each(|life| life.end(now));
        tell(reader, &known, issuers, seen);
        self.known.keep(&reader.mount, known);
    }
}

/// Adds the certificates that live, each with whether anybody waits for its renewal; to those of issuers only
/// that they were revoked.
fn tell(reader: &Reader, known: &Known, issuers: &BTreeSet<Fingerprint>, seen: &mut Seen) {
    let living: Vec<_> = known.iter().filter_map(|(serial, life)| Some((serial, life.lives()?))).collect();
    let issued: Vec<_> =
        living.iter().map(|(_, (certificate, revoked_at))| Issued { certificate, revoked_at: *revoked_at }).collect();
    for ((serial, (certificate, revoked_at)), is_settled) in living.iter().zip(settled(&issued)) {
        if issuers.contains(&certificate.fingerprint) {
            let of_issuer = seen.sightings.iter_mut().filter_map(|(_, sighting)| match sighting {
                Sighting::Found(found) if found.leaf().fingerprint == certificate.fingerprint => Some(found),
                Sighting::Found(_) | Sighting::Crl(_) | Sighting::Absent => None,
                Sighting::Deleted(_) | Sighting::Unknown(_) => None,
            });
            of_issuer.for_each(|found| found.revoked_at = *revoked_at);
            continue;
        }
        let chain = Chain { leaf: Arc::clone(certificate), intermediates: Vec::new() };
        let found = Found { revoked_at: *revoked_at, is_settled, ..only_seen(chain) };
        seen.sightings.push((reader.at(PkiObject::Certificate((*serial).clone())), Sighting::Found(Box::new(found))));
    }
}

fn only_seen(chain: Chain) -> Found {
    Found {
        chain,
        trust: Trust::NotJudged,
        stored_key: None,
        version: None,
        deleted_at: None,
        revoked_at: None,
        is_settled: false,
        handshake: None,
        paths: Default::default(),
        unwritable: None,
    }
}

impl Life {
    fn lives(&self) -> Option<(&Arc<Certificate>, Option<Timestamp>)> {
        match self {
            Self::Lives { certificate, revoked_at } => Some((certificate, *revoked_at)),
            Self::Ended => None,
        }
    }

    fn end(&mut self, now: Timestamp) {
        if self.lives().is_some_and(|(certificate, _)| now > certificate.not_after) {
            *self = Self::Ended;
        }
    }

    /// Whether there is nothing new to learn of it. Without a list, only the certificate itself says that it was revoked.
    fn is_current(&self, serial: &str, revoked: Option<&BTreeSet<String>>) -> bool {
        match self {
            Self::Ended | Self::Lives { revoked_at: Some(_), .. } => true,
            Self::Lives { revoked_at: None, .. } => revoked.is_some_and(|revoked| !revoked.contains(serial)),
        }
    }
}

impl KnownCertificates {
    /// What is known of those that are listed, and the serial numbers that are to be read.
    fn sort_out(
        &self,
        mount: &str,
        listed: BTreeSet<String>,
        revoked: Option<&BTreeSet<String>>,
    ) -> (Known, Vec<String>) {
        let mut known = self.of_mounts().remove(mount).unwrap_or_default();
        known.retain(|serial, _| listed.contains(serial));
        let is_current = |serial: &String| known.get(serial).is_some_and(|life| life.is_current(serial, revoked));
        let unread = listed.into_iter().filter(|serial| !is_current(serial)).collect();
        (known, unread)
    }

    fn keep(&self, mount: &str, known: Known) {
        self.of_mounts().insert(mount.to_string(), known);
    }

    fn of_mounts(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the objects of one mount.
#[derive(Clone)]
struct Reader {
    vault: Arc<Vault>,
    mount: Arc<str>,
}

impl Reader {
    /// The CA certificate with its chain, and the list of what it revoked.
    async fn issuer(&self, issuer: &PkiIssuer) -> Vec<(Location, Sighting)> {
        self.vault.pace().await;
        let place = self.at(PkiObject::Issuer(issuer.label.clone()));
        let text = match self.vault.pki_issuer(&self.mount, &issuer.id).await {
            Ok(Some(text)) => text,
            Ok(None) => return Vec::new(),
            Err(error) => return vec![(place.clone(), Sighting::Unknown(unread(&place, &error)))],
        };
        let ders = match Bundle::parse(text.as_bytes()) {
            Ok(bundle) => bundle.certificates,
            Err(why) => return vec![(place.clone(), Sighting::Unknown(not_understood(&place, &why)))],
        };
        let sighting = match ca_chain(&ders) {
            Ok(chain) => Sighting::Found(Box::new(only_seen(chain))),
            Err(why) => Sighting::Unknown(not_understood(&place, &why)),
        };
        let list = match (issuer.has_key, ders.first()) {
            (true, Some(ca)) => self.crl(issuer, ca).await,
            (false, _) | (true, None) => None,
        };
        [(place, sighting)].into_iter().chain(list).collect()
    }

    async fn crl(&self, issuer: &PkiIssuer, ca: &[u8]) -> Option<(Location, Sighting)> {
        self.vault.pace().await;
        let place = self.at(PkiObject::Crl(issuer.label.clone()));
        let sighting = match self.vault.pki_crl(&self.mount, &issuer.id).await {
            Ok(Some(text)) => match crl::from_pem(&text, ca) {
                Ok(list) => Sighting::Crl(Box::new(list)),
                Err(why) => Sighting::Unknown(not_understood(&place, &why)),
            },
            Ok(None) => return None,
            Err(error) => Sighting::Unknown(unread(&place, &error)),
        };
        Some((place, sighting))
    }

    async fn certificate(&self, serial: &str, now: Timestamp) -> Result<Option<Life>, Obstacle> {
        self.vault.pace().await;
        let place = || self.at(PkiObject::Certificate(serial.to_string()));
        let read = self.vault.pki_certificate(&self.mount, serial).await;
        let Some(PkiCertificate { pem, revoked_at }) = read.map_err(|error| unread(&place(), &error))? else {
            return Ok(None);
        };
        let certificate = only_certificate(&pem).map_err(|why| not_understood(&place(), &why))?;
        let mut life = Life::Lives { certificate, revoked_at };
        life.end(now);
        Ok(Some(life))
    }

    fn at(&self, object: PkiObject) -> Location {
        Location::Pki { vault: self.vault.name.clone(), mount: self.mount.to_string(), object }
    }

    fn unlisted(&self, error: &VaultError, below: &str) -> Obstacle {
        error.obstacle(&format!("list {}{below}", self.at(PkiObject::Mount)))
    }
}

/// The issuer's own certificate comes first and once more within its chain.
fn ca_chain(ders: &[Vec<u8>]) -> Result<Chain, NotUnderstood> {
    let mut distinct: Vec<&Vec<u8>> = Vec::new();
    for der in ders {
        if !distinct.contains(&der) {
            distinct.push(der);
        }
    }
    bundle::chain_as_given(&distinct)
}

fn only_certificate(pem: &str) -> Result<Arc<Certificate>, NotUnderstood> {
    let bundle = Bundle::parse(pem.as_bytes())?;
    let der = bundle.certificates.first();
    interned::certificate(der.ok_or_else(|| NotUnderstood::new("there is no certificate in it"))?)
}

fn unread(place: &Location, error: &VaultError) -> Obstacle {
    error.obstacle(&format!("read {place}"))
}

fn not_understood(place: &Location, why: &NotUnderstood) -> Obstacle {
    Obstacle::new(ObstacleKind::NotUnderstood, format!("could not understand {place}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::{NOW, SECOND, leaf};

    fn lives(revoked_at: Option<Timestamp>) -> Life {
        Life::Lives { certificate: Arc::new(leaf(&["a"])), revoked_at }
    }

    fn set(serials: &[&str]) -> BTreeSet<String> {
        serials.iter().map(|serial| serial.to_string()).collect()
    }

    #[test]
    fn only_what_is_new_or_newly_revoked_is_read_again_and_what_is_no_longer_listed_is_forgotten() {
        let known = KnownCertificates::default();
        let life =
            [("1", lives(None)), ("2", lives(None)), ("3", lives(Some(NOW))), ("4", Life::Ended), ("5", lives(None))];
        let keep = || known.keep("pki", life.iter().map(|(serial, life)| (serial.to_string(), life.clone())).collect());
        let listed = || set(&["1", "2", "3", "4", "6"]);
        keep();
        let (kept, unread) = known.sort_out("pki", listed(), Some(&set(&["2", "3", "4"])));
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["1", "2", "3", "4"]);
        assert_eq!(unread, ["2", "6"]);
        keep();
        // Nobody says what was revoked since, so whatever may have been is read.
        assert_eq!(known.sort_out("pki", listed(), None).1, ["1", "2", "6"]);
        assert_eq!(known.sort_out("other", set(&["1"]), Some(&set(&[]))).1, ["1"]);
    }

    #[test]
    fn a_certificate_lives_through_its_last_second() {
        let end = leaf(&["a"]).not_after;
        let lives_at = |now| {
            let mut life = lives(None);
            life.end(now);
            life.lives().is_some()
        };
        assert_eq!([end.minus(SECOND), end, end.plus(SECOND)].map(lives_at), [true, true, false]);
    }
}
