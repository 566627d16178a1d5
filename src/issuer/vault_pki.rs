//! A PKI mount of a Vault: certd's own CSR goes to `pki/sign`, so the key never leaves certd.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::{IssuerError, Order, Recovered, Registered};
use crate::domain::cert::KeyDigest;
use crate::domain::text::{printable, with_causes};
use crate::domain::time::Timestamp;
use crate::pki::bundle::Bundle;
use crate::pki::{NotUnderstood, pem, read};
use crate::vault::inspect::PkiRole;
use crate::vault::{SignOrder, Signed, Vault, VaultError};

/// For so long a role is taken to be as it was read: about a turn, so that no order reads it for itself, and a
/// change is noticed by the next one.
const ROLE_HOLDS: Duration = Duration::from_secs(60);

/// As in a sweep.
const CONCURRENCY: usize = 16;

pub struct VaultPki {
    pub vault: Arc<Vault>,
    pub mount: String,
    pub role: String,
    /// When the role was last found to lease nothing, or not to be certd's to read.
    passed_at: Mutex<Option<Timestamp>>,
    /// Serial numbers of certificates that were looked at for a lost answer, and were none.
    others: Mutex<BTreeSet<String>>,
}

impl VaultPki {
    pub fn new(vault: Arc<Vault>, mount: impl Into<String>, role: impl Into<String>) -> Self {
        Self { vault, mount: mount.into(), role: role.into(), passed_at: Mutex::default(), others: Mutex::default() }
    }

    /// DER, leaf first, without a self-signed root.
    pub async fn sign(&self, order: &Order) -> Result<Vec<Vec<u8>>, IssuerError> {
        if let Some(name) = order.names.iter().find(|name| !name.is_well_formed()) {
            let message = format!("not a name that may be asked for: {}", printable(&name.to_string()));
            return Err(IssuerError::Refused { message, retry_after: None });
        }
        self.refuse_leases(order.now).await?;
        let signed = self.ask(order).await;
        if signed.is_err() {
            self.set_passed_at(None);
        }
        signed
    }

    /// A certificate with a lease is revoked with the token that asked for it. Whoever may not read the role
    /// learns of it only by what was signed.
    async fn refuse_leases(&self, now: Timestamp) -> Result<(), IssuerError> {
        let passed_at = *self.passed_at.lock().expect("nothing panics with it");
        if passed_at.is_some_and(|at| at <= now && now < at.plus(ROLE_HOLDS)) {
            return Ok(());
        }
        let doing = || format!("read role `{}` of {}", self.role, self.place());
        match self.vault.pki_role(&self.mount, &self.role).await {
            Ok(Some(PkiRole { generate_lease: true, .. })) => return Err(IssuerError::Stopped(self.leases())),
            // That there is no such role is Vault's to say.
            Ok(_) | Err(VaultError::Denied { .. }) => {}
            // Nothing was asked of it yet.
            Err(error) => return Err(not_asked(in_words(doing(), error))),
        }
        self.set_passed_at(Some(now));
        Ok(())
    }

    fn set_passed_at(&self, at: Option<Timestamp>) {
        *self.passed_at.lock().expect("nothing panics with it") = at;
    }

    fn leases(&self) -> String {
        format!(
            "nothing was signed: role `{}` of {} ties certificates to the life of certd's token; set \
             generate_lease=false on it",
            self.role,
            self.place()
        )
    }

    async fn ask(&self, order: &Order) -> Result<Vec<Vec<u8>>, IssuerError> {
        let asked = SignOrder {
            mount: &self.mount,
            role: &self.role,
            csr: &pem::csr(&order.csr),
            common_name: order.common_name.as_deref(),
            names: &order.names,
            ttl: order.lifetime,
        };
        let doing = || format!("have a certificate signed by role `{}` of {}", self.role, self.place());
        let signed = self.vault.pki_sign(asked).await.map_err(|error| in_words(doing(), error))?;
        chain(&signed).map_err(|why| not_understood(doing(), why, true))
    }

    /// Looks through all that the mount keeps, by a read that shows what was signed before it. What was read once and
    /// is of another key is not read again.
    pub async fn recover(&self, key: KeyDigest) -> Recovered {
        match self.look_for(key).await {
            Ok(Some(chain)) => Recovered::Issued(chain),
            Ok(None) => match self.vault.pki_role(&self.mount, &self.role).await {
                Ok(Some(PkiRole { no_store: true, .. })) => Recovered::NoRecord,
                Ok(_) | Err(_) => Recovered::NotIssued,
            },
            Err(error) => Recovered::Unknown(with_causes(&error)),
        }
    }

    async fn look_for(&self, key: KeyDigest) -> Result<Option<Vec<Vec<u8>>>, IssuerError> {
        let doing = || format!("look for a certificate among what was issued by {}", self.place());
        let failed = |error| in_words(doing(), error);
        self.vault.catch_up(Instant::now()).await.map_err(failed)?;
        let all = self.vault.pki_serials(&self.mount).await.map_err(failed)?;
        let unread: Vec<String> = {
            let others = self.others.lock().expect("nothing panics with it");
            all.into_iter().filter(|serial| !others.contains(serial)).collect()
        };
        let read = async |serial: String| (self.vault.pki_certificate(&self.mount, &serial).await, serial);
        let mut reads = stream::iter(unread).map(read).buffer_unordered(CONCURRENCY);
        while let Some((kept, serial)) = reads.next().await {
            crate::pulse::beat();
            // One that is gone again was tidied up, and is none that was just signed.
            let Some(kept) = kept.map_err(failed)? else { continue };
            if kept.revoked_at.is_none() && is_of(key, &kept.pem) {
                let signed = Signed { certificate: kept.pem, issuing_ca: None, ca_chain: self.chains().await? };
                return chain(&signed).map(Some).map_err(|why| not_understood(doing(), why, true));
            }
            self.others.lock().expect("nothing panics with it").insert(serial);
        }
        Ok(None)
    }

    pub async fn registered(&self, serial: &str) -> Result<Option<Registered>, IssuerError> {
        let doing = || format!("look for serial {serial} in {}", self.place());
        let failed = |error| not_asked(in_words(doing(), error));
        self.vault.catch_up(Instant::now()).await.map_err(failed)?;
        let Some(kept) = self.vault.pki_certificate(&self.mount, serial).await.map_err(failed)? else {
            return Ok(None);
        };
        let ders = Bundle::parse(kept.pem.as_bytes()).map_err(|why| not_understood(doing(), why, false))?.certificates;
        let Some(der) = ders.first() else { return Ok(None) };
        let leaf = read::certificate(der).map_err(|why| not_understood(doing(), why, false))?;
        Ok(Some(Registered { leaf, der: der.clone(), revoked_at: kept.revoked_at }))
    }

    /// An answer that was lost is of no account: what the mount shows afterwards is.
    pub async fn revoke(&self, serial: &str) -> Result<Timestamp, IssuerError> {
        let asked = self.vault.pki_revoke(&self.mount, serial).await;
        match (self.registered(serial).await, asked) {
            (Ok(Some(Registered { revoked_at: Some(at), .. })), _) => Ok(at),
            // What was refused and is not shown afterwards was not done.
            (Ok(_), Err(error @ VaultError::Denied { .. })) => {
                Err(not_asked(in_words(format!("have {serial} revoked by {}", self.place()), error)))
            }
            (_, Err(error)) => Err(in_words(format!("have {serial} revoked by {}", self.place()), error)),
            (Err(error), Ok(())) => Err(error),
            (Ok(_), Ok(())) => {
                let why = format!("{} said that it revoked {serial}, and does not show it: look there", self.place());
                Err(IssuerError::Stopped(why))
            }
        }
    }

    /// The CA certificates of every issuer of the mount: the one that signed is among them.
    async fn chains(&self) -> Result<Vec<String>, IssuerError> {
        let failed = |error| in_words(format!("read the issuers of {}", self.place()), error);
        let mut chains = Vec::new();
        for issuer in self.vault.pki_issuers(&self.mount).await.map_err(failed)? {
            chains.extend(self.vault.pki_issuer(&self.mount, &issuer.id).await.map_err(failed)?);
        }
        Ok(chains)
    }

    /// DER of what a chain from this mount must lead to: its self-signed roots, else the issuing CA.
    pub async fn anchors(&self) -> Result<Vec<Vec<u8>>, IssuerError> {
        let doing = || format!("read the CA chain of {}", self.place());
        let text = self.vault.pki_ca_chain(&self.mount).await.map_err(|error| in_words(doing(), error))?;
        anchors(&text).map_err(|why| not_understood(doing(), why, false))
    }

    fn place(&self) -> String {
        format!("the PKI mount `{}` of vault `{}`", self.mount, self.vault.name)
    }
}

fn in_words(doing: String, error: VaultError) -> IssuerError {
    let retry_after = error.retry_after().map(|asked| asked.wait);
    match error {
        VaultError::Leased { .. } => IssuerError::SignedInVain(error.to_string()),
        VaultError::Path(_) => IssuerError::Stopped(error.to_string()),
        _ if error.is_decided() => IssuerError::Refused { message: with_hint(error.to_string()), retry_after },
        _ => IssuerError::Unanswered { doing, may_be_done: error.may_be_done(), retry_after, source: Box::new(error) },
    }
}

fn not_asked(error: IssuerError) -> IssuerError {
    match error {
        IssuerError::Unanswered { doing, retry_after, source, .. } => {
            IssuerError::Unanswered { doing, may_be_done: false, retry_after, source }
        }
        other @ (IssuerError::Refused { .. } | IssuerError::Limited { .. }) => other,
        other @ (IssuerError::Pending { .. } | IssuerError::Unprepared(_)) => other,
        other @ (IssuerError::Stopped(_) | IssuerError::SignedInVain(_)) => other,
    }
}

fn not_understood(doing: String, why: NotUnderstood, may_be_done: bool) -> IssuerError {
    IssuerError::Unanswered { doing, may_be_done, retry_after: None, source: Box::new(why) }
}

/// Vault's role has `require_cn` set by default, and certd asks for no common name unless told to.
fn with_hint(words: String) -> String {
    match words.contains("common_name field is required") {
        true => format!("{words} — set require_cn=false on the role, or common_name in the certificate"),
        false => words,
    }
}

fn is_of(key: KeyDigest, pem: &str) -> bool {
    let ders = Bundle::parse(pem.as_bytes()).map(|bundle| bundle.certificates).unwrap_or_default();
    ders.first().and_then(|der| read::certificate(der).ok()).is_some_and(|leaf| leaf.public_key == key)
}

fn chain(signed: &Signed) -> Result<Vec<Vec<u8>>, NotUnderstood> {
    let mut bundle = Bundle::parse(signed.certificate.as_bytes())?;
    let Some(leaf) = bundle.certificates.first().cloned() else {
        return Err(NotUnderstood::new("the answer holds no certificate"));
    };
    for text in signed.issuing_ca.iter().chain(&signed.ca_chain) {
        bundle.add(Bundle::parse(text.as_bytes())?);
    }
    let chains = bundle.chains()?;
    let kept = chains.into_iter().find(|kept| kept.ders.first() == Some(&leaf));
    let kept = kept.ok_or_else(|| NotUnderstood::new("the answer's chain does not begin with its certificate"))?;
    let above = kept.ders.iter().skip(1).zip(&kept.chain.intermediates);
    let intermediates = above.filter(|(_, certificate)| !certificate.is_self_issued()).map(|(der, _)| der.clone());
    Ok(std::iter::once(leaf).chain(intermediates).collect())
}

fn anchors(text: &str) -> Result<Vec<Vec<u8>>, NotUnderstood> {
    let mut ders = Bundle::parse(text.as_bytes())?.certificates;
    let Some(issuing) = ders.first().cloned() else {
        return Err(NotUnderstood::new("it holds no certificate: the mount has no CA yet"));
    };
    ders.retain(|der| read::certificate(der).is_ok_and(|certificate| certificate.is_self_issued()));
    if ders.is_empty() { Ok(vec![issuing]) } else { Ok(ders) }
}
