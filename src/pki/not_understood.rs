//! Why bytes that others wrote were not understood: a closed set of reasons, with no room for text of those bytes.

use std::fmt;

use super::document::Unfit;
use super::keystore::Kind;
use super::pem::{Damage, Label};

/// The reason in one line. A variant holds certd's own words, counts, labels of a closed set and names of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    #[error("{0}")]
    Said(&'static str),
    #[error("the PEM is damaged in {0}")]
    Pem(Damage),
    #[error("not a {wanted}: {why}")]
    Der { wanted: &'static str, why: &'static str },
    #[error("{bytes} bytes follow the {wanted}")]
    Trailing { wanted: &'static str, bytes: usize },
    #[error("a key in a form not read: {0}")]
    KeyForm(Label),
    #[error("base64 of neither one certificate nor a key: {0}")]
    Base64(Box<NotUnderstood>),
    #[error("{0} certificates that are no CA's: give each a place of its own")]
    SeveralLeaves(usize),
    #[error("it holds {0} certificates that do not belong together")]
    Unrelated(usize),
    #[error("it holds {0} private keys ({names}): give each a keystore of its own", names = Names(.1))]
    SeveralKeys(usize, Vec<FieldName>),
    #[error("a keystore of over {0} bytes")]
    TooLarge(usize),
    #[error("its iteration counts are 0, or over {0} together, which certd refuses as an attack")]
    Iterations(u32),
    #[error("its password is too costly to check now: others have used up what keystores may cost in a minute")]
    TooCostlyNow,
    #[error("it holds more than {most} certificates: split it")]
    TooManyCertificates { most: usize },
    #[error(
        "its {what} is {algorithm}, which certd does not read: make it anew, for example by `openssl pkcs12 -export`"
    )]
    Algorithm { what: &'static str, algorithm: &'static str },
    #[error("the field {0}: {1}")]
    InField(FieldName, Box<NotUnderstood>),
    #[error("the field {0}, a keystore ({1}): {2}")]
    InKeystore(FieldName, Kind, Box<NotUnderstood>),
    #[error("in {0}: {1}")]
    InObject(FieldName, Box<NotUnderstood>),
    #[error("{0} is no object any more")]
    NoObject(FieldName),
    #[error("the field {0} is neither text nor a list of texts")]
    NoText(FieldName),
    #[error("the field {0} is a list: make it one text")]
    List(FieldName),
    #[error("the field {0} was not opened")]
    NotOpened(FieldName),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("the field {field} holds {lacks} but something else, which certd would not overwrite: rename it")]
    OtherThing { field: FieldName, lacks: &'static str },
    #[error("the field {0} holds a private key and no certificate: put key and certificate each into its own field")]
    Swapped(FieldName),
    #[error("the field {0} holds a private key beside certificates of CAs: move the key into a field of its own")]
    KeyAmongCas(FieldName),
    #[error("the field {0} is a keystore in hexadecimal, which certd does not renew: keep it in base64, or remove it")]
    HexKeystore(FieldName),
    #[error("the field {0} within it is a keystore, which certd does not renew there: move it beside the certificate")]
    InnerKeystore(FieldName),
    #[error("certificates under several names ({}): remove all but one", Names(.0))]
    SeveralNames(Vec<FieldName>),
    #[error("certificates in several objects ({}): name one behind the path, as in {first}", Names(.all))]
    SeveralObjects { all: Vec<FieldName>, first: FieldName },
    #[error("it holds other fields and none of {}", Names(.0))]
    OtherFields(Vec<FieldName>),
    #[error("there is no private key beside the certificate: put it into the field {0}")]
    NoKeyBeside(FieldName),
    #[error("another CA signed the new certificate: put that CA's certificate into the field {0}")]
    OtherCa(FieldName),
    #[error("there is no password for it: add a field {text}, or {path} with the path of a secret of the same mount")]
    NoPassword { text: FieldName, path: FieldName },
    #[error("its password must be in a secret below {below}, which is not where the field {named_by} says")]
    PasswordElsewhere { below: FieldName, named_by: FieldName },
    #[error("its password is not where the field {0} says")]
    PasswordGone(FieldName),
    #[error("its password is not in the field that {0} names")]
    PasswordUnnamed(FieldName),
    #[error("its password was not read from where the field {0} says")]
    PasswordUnread(FieldName),
}

impl NotUnderstood {
    /// Takes no text but that of the program itself.
    pub fn new(why: &'static str) -> Self {
        Self::Said(why)
    }

    /// Whether it could be read for more work than one place may cost.
    pub fn is_of_cost(&self) -> bool {
        match self {
            Self::Iterations(_) | Self::TooCostlyNow | Self::TooManyCertificates { .. } => true,
            Self::InField(_, why) | Self::InObject(_, why) | Self::InKeystore(_, _, why) => why.is_of_cost(),
            _ => false,
        }
    }

    /// Whether the same bytes may be understood another time.
    pub fn is_of_this_moment(&self) -> bool {
        match self {
            Self::TooCostlyNow | Self::NotOpened(_) => true,
            Self::InField(_, why) | Self::InObject(_, why) | Self::InKeystore(_, _, why) => why.is_of_this_moment(),
            _ => false,
        }
    }

    /// The same, told of a field.
    pub fn in_field(self, name: &str) -> Self {
        Self::InField(FieldName::of(name), Box::new(self))
    }
}

/// The name of a field, of an object or of an entry of a keystore, as it may be shown. A long name, or one that could be
/// a piece of a key, is kept out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(Option<String>);

/// In bytes: names that people give are shorter, and a line of a key is longer.
const LONGEST_NAME: usize = 63;

/// As many letters of base64 hold 12 bytes of a key.
const RUN_OF_KEY: usize = 16;

impl FieldName {
    pub fn of(name: &str) -> Self {
        let is_plain = |c: char| c.is_alphanumeric() || "_-./ %#:".contains(c);
        let could_be_key = |run: &str| run.len() >= RUN_OF_KEY && run.contains(|c: char| c.is_ascii_digit());
        let is_shown = !name.is_empty()
            && name.len() <= LONGEST_NAME
            && name.chars().all(is_plain)
            && !name.split(|c: char| !(c.is_ascii_alphanumeric() || c == '/')).any(could_be_key);
        Self(is_shown.then(|| name.to_string()))
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "`{name}`"),
            None => f.write_str("(a name that is not shown)"),
        }
    }
}

struct Names<'a>(&'a [FieldName]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(nth, name)| write!(f, "{}{name}", if nth > 0 { ", " } else { "" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_unless_it_could_be_a_piece_of_a_key() {
        for name in [
            "tls.crt",
            "ca_chain",
            "keystore_password_path",
            "site-2",
            "data/pair",
            "clientKeystorePassword",
            "Schlüssel",
        ] {
            assert_eq!(FieldName::of(name).to_string(), format!("`{name}`"));
        }
        let key = "MC4CAQAwBQYDK2VwBCIEIKj2";
        let long = "a-".repeat(32);
        for name in
            ["", key, &format!("x {key}"), "00112233445566778899aabb", &long, "a\u{1b}[2J", "-----BEGIN X-----\n"]
        {
            assert_eq!(FieldName::of(name).to_string(), "(a name that is not shown)", "{name:?}");
        }
    }
}
