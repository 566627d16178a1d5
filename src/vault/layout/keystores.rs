//! The fields of a place that hold keystores, in base64, and where their passwords are.

use std::collections::BTreeMap;

use super::form::{self, Base64Text};
use super::json;
use crate::domain::renewal::CertifiedKey;
use crate::pki::bundle::Kept;
use crate::pki::keystore::effort::Effort;
use crate::pki::keystore::{Keystore, Kind, Password, Passwords};
use crate::pki::{FieldName, NotUnderstood};
use crate::vault::Fields;

/// What people call a password, behind the name of its keystore or else behind one of `STORES`. Names are compared
/// without case and without `_`, `-` and `.`.
const PASSWORDS: [&str; 3] = ["password", "passphrase", "pass"];
const STORES: [&str; 7] = ["keystore", "pkcs12", "p12", "pfx", "jks", "store", ""];

/// The field of the password in a secret that a path names without one.
const USUAL_FIELD: &str = "password";

/// One field with a keystore.
#[derive(Clone, Debug)]
pub struct KeystoreField {
    pub name: String,
    kind: Kind,
    password: Option<Where>,
    /// Of the key, where a field of its own names one.
    key_password: Option<Where>,
    /// `Err` says why it is not open.
    opened: Result<(Box<Keystore>, Base64Text), NotUnderstood>,
}

#[derive(Clone, Debug)]
enum Where {
    Here(Password),
    Elsewhere(Elsewhere),
}

/// A password in a field of another secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elsewhere {
    /// The field that names it.
    pub named_by: String,
    /// Mount and path, without `data/`.
    pub path: String,
    pub field: String,
}

/// What was found elsewhere, or why nothing was.
pub type Found = BTreeMap<Elsewhere, Result<Password, NotUnderstood>>;

/// An object of a secret and those around it.
pub struct Around<'a> {
    pub fields: &'a Fields,
    pub outer: Option<&'a Around<'a>>,
}

impl KeystoreField {
    /// Those directly in this object.
    pub fn find(around: &Around) -> Vec<Self> {
        let fields = around.fields.iter();
        let keystores = fields.filter_map(|(name, value)| Some((name, form::keystore(value.get())?)));
        keystores.map(|(name, kind)| Self::new(name, kind, around)).collect()
    }

    fn new(name: &str, kind: Kind, around: &Around) -> Self {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let own = [plain(name), plain(stem)];
        let stores = || own.iter().map(String::as_str).chain(STORES);
        let first = |middle: &str, stores: &mut dyn Iterator<Item = &str>| {
            let names = stores.flat_map(|store| PASSWORDS.map(|password| format!("{store}{middle}{password}")));
            names.into_iter().find_map(|name| around.password(&name))
        };
        let opened = Err(NotUnderstood::NotOpened(FieldName::of(name)));
        let key_password = first("key", &mut stores());
        Self { name: name.to_string(), kind, password: first("", &mut stores()), key_password, opened }
    }

    /// What must be read before it can be opened.
    pub fn elsewhere(&self) -> impl Iterator<Item = &Elsewhere> {
        [&self.password, &self.key_password].into_iter().flatten().filter_map(|at| match at {
            Where::Here(_) => None,
            Where::Elsewhere(place) => Some(place),
        })
    }

    pub fn open(&mut self, fields: &Fields, found: &Found, effort: &mut Effort) {
        self.opened = self.opening(fields, found, effort).map_err(|why| self.tell(why));
    }

    /// Why it is not open.
    pub fn obstacle(&self) -> Option<&NotUnderstood> {
        self.opened.as_ref().err()
    }

    fn opening(
        &self,
        fields: &Fields,
        found: &Found,
        effort: &mut Effort,
    ) -> Result<(Box<Keystore>, Base64Text), NotUnderstood> {
        let text: Option<String> = fields.get(&self.name).and_then(|value| serde_json::from_str(value.get()).ok());
        let (form, bytes) =
            text.and_then(|text| Base64Text::of(&text)).ok_or_else(|| NotUnderstood::new("it is no base64"))?;
        let store = self.password.as_ref().ok_or_else(|| {
            let [text, path] = ["password", "password_path"].map(|end| FieldName::of(&format!("{}_{end}", self.name)));
            NotUnderstood::NoPassword { text, path }
        })?;
        let key = self.key_password.as_ref().map(|at| at.resolved(found)).transpose()?;
        let passwords = Passwords { store: store.resolved(found)?, key };
        Ok((Box::new(Keystore::open(&bytes, &passwords, effort)?), form))
    }

    /// `None` for one without a private key, which only says whom to trust.
    pub fn kept(&self) -> Result<Option<Kept>, NotUnderstood> {
        let (keystore, _) = self.opened.as_ref().map_err(Clone::clone)?;
        match keystore.has_key() {
            true => keystore.kept().map(Some).map_err(|why| self.tell(why)),
            false => Ok(None),
        }
    }

    /// Whom one without a private key trusts.
    pub fn trusted(&self) -> Result<Vec<Kept>, NotUnderstood> {
        let (keystore, _) = self.opened.as_ref().map_err(Clone::clone)?;
        keystore.bundle().chains().map_err(|why| self.tell(why))
    }

    /// Beside `kept`, which is what the place as a whole holds.
    pub fn insist_writable(&self, kept: &Kept) -> Result<(), NotUnderstood> {
        let Some(own) = self.kept()? else { return Ok(()) };
        let (keystore, _) = self.opened.as_ref().map_err(Clone::clone)?;
        keystore.insist_writable().map_err(|why| self.tell(why))?;
        match own.chain.leaf.fingerprint == kept.chain.leaf.fingerprint {
            true => Ok(()),
            false => Err(self.tell(NotUnderstood::new(
                "another certificate than beside it: remove the one of them that is not in use",
            ))),
        }
    }

    pub fn apply(&self, fields: &mut Fields, certified: &CertifiedKey) -> Result<(), NotUnderstood> {
        let (keystore, form) = self.opened.as_ref().map_err(Clone::clone)?;
        if keystore.has_key() {
            let renewed = keystore.renewed(certified).map_err(|why| self.tell(why))?;
            fields.insert(self.name.clone(), json(&form.write(&renewed)));
        }
        Ok(())
    }

    fn tell(&self, why: NotUnderstood) -> NotUnderstood {
        NotUnderstood::InKeystore(FieldName::of(&self.name), self.kind, Box::new(why))
    }
}

impl Where {
    fn resolved(&self, found: &Found) -> Result<Password, NotUnderstood> {
        match self {
            Self::Here(password) => Ok(password.clone()),
            Self::Elsewhere(place) => found
                .get(place)
                .cloned()
                .unwrap_or_else(|| Err(NotUnderstood::PasswordUnread(FieldName::of(&place.named_by)))),
        }
    }
}

impl Around<'_> {
    /// The innermost field of this plain name, or of this name with `path` behind it.
    fn password(&self, name: &str) -> Option<Where> {
        let field = |wanted: &str| {
            let (field, value) = self.fields.iter().find(|(field, _)| plain(field) == wanted)?;
            Some((field.clone(), serde_json::from_str::<String>(value.get()).ok()?))
        };
        let here = || Some(Where::Here(Password(field(name)?.1.into())));
        let elsewhere = || {
            let (named_by, text) = field(&format!("{name}path"))?;
            let (path, field) = text.split_once('#').unwrap_or((&text, USUAL_FIELD));
            Some(Where::Elsewhere(Elsewhere { named_by, path: path.to_string(), field: field.to_string() }))
        };
        here().or_else(elsewhere).or_else(|| self.outer?.password(name))
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | '.')).flat_map(char::to_lowercase).collect()
}
