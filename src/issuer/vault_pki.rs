//! A PKI mount of a Vault: certd's own CSR goes to `pki/sign`, so the key never leaves certd.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{IssuerError, Order};
use crate::domain::time::Timestamp;
use crate::pki::bundle::Bundle;
use crate::pki::{NotUnderstood, pem, read};
use crate::vault::inspect::PkiRole;
use crate::vault::{SignOrder, Signed, Vault, VaultError};

/// For so long a role is taken to be as it was read: about a turn, so that no order reads it for itself, and a
/// change is noticed by the next one.
const ROLE_HOLDS: Duration = Duration::from_secs(60);

pub struct VaultPki {
    pub vault: Arc<Vault>,
    pub mount: String,
    pub role: String,
    /// When the role was last found to lease nothing, or not to be certd's to read.
    passed_at: Mutex<Option<Timestamp>>,
}

impl VaultPki {
    pub fn new(vault: Arc<Vault>, mount: impl Into<String>, role: impl Into<String>) -> Self {
        Self { vault, mount: mount.into(), role: role.into(), passed_at: Mutex::default() }
    }

    /// DER, leaf first, without a self-signed root.
    pub async fn sign(&self, order: &Order) -> Result<Vec<Vec<u8>>, IssuerError> {
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
            Err(error) => return Err(in_words(doing(), error)),
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
        chain(&signed).map_err(|why| IssuerError::Unanswered { doing: doing(), source: Box::new(why) })
    }

    /// DER of what a chain from this mount must lead to: its self-signed roots, else the issuing CA.
    pub async fn anchors(&self) -> Result<Vec<Vec<u8>>, IssuerError> {
        let doing = || format!("read the CA chain of {}", self.place());
        let text = self.vault.pki_ca_chain(&self.mount).await.map_err(|error| in_words(doing(), error))?;
        anchors(&text).map_err(|why| IssuerError::Unanswered { doing: doing(), source: Box::new(why) })
    }

    fn place(&self) -> String {
        format!("the PKI mount `{}` of vault `{}`", self.mount, self.vault.name)
    }
}

fn in_words(doing: String, error: VaultError) -> IssuerError {
    match error {
        VaultError::Leased { .. } => IssuerError::SignedInVain(error.to_string()),
        VaultError::Path(_) => IssuerError::Stopped(error.to_string()),
        _ if error.is_decided() => IssuerError::Refused { message: with_hint(error.to_string()), retry_after: None },
        _ => IssuerError::Unanswered { doing, source: Box::new(error) },
    }
}

/// Vault's role has `require_cn` set by default, and certd asks for no common name unless told to.
fn with_hint(words: String) -> String {
    match words.contains("common_name field is required") {
        true => format!("{words} — set require_cn=false on the role, or common_name in the certificate"),
        false => words,
    }
}

fn chain(signed: &Signed) -> Result<Vec<Vec<u8>>, NotUnderstood> {
    let mut bundle = Bundle::parse(signed.certificate.as_bytes())?;
    let Some(leaf) = bundle.certificates.first().cloned() else {
        return Err(NotUnderstood("the answer holds no certificate".to_string()));
    };
    for text in signed.issuing_ca.iter().chain(&signed.ca_chain) {
        bundle.add(Bundle::parse(text.as_bytes())?);
    }
    let chains = bundle.chains()?;
    let kept = chains.into_iter().find(|kept| kept.ders.first() == Some(&leaf));
    let kept =
        kept.ok_or_else(|| NotUnderstood("the answer's chain does not begin with its certificate".to_string()))?;
    let above = kept.ders.iter().skip(1).zip(&kept.chain.intermediates);
    let intermediates = above.filter(|(_, certificate)| !certificate.is_self_issued()).map(|(der, _)| der.clone());
    Ok(std::iter::once(leaf).chain(intermediates).collect())
}

fn anchors(text: &str) -> Result<Vec<Vec<u8>>, NotUnderstood> {
    let mut ders = Bundle::parse(text.as_bytes())?.certificates;
    let Some(issuing) = ders.first().cloned() else {
        return Err(NotUnderstood("it holds no certificate: the mount has no CA yet".to_string()));
    };
    ders.retain(|der| read::certificate(der).is_ok_and(|certificate| certificate.is_self_issued()));
    if ders.is_empty() { Ok(vec![issuing]) } else { Ok(ders) }
}
