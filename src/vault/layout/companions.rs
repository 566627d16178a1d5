//! What people note beside a certificate, as `pki/issue` answers it: serial, validity, fingerprint, kind of key.

use super::json;
use crate::domain::cert::{Certificate, KeyType};
use crate::domain::time::Timestamp;
use crate::vault::Fields;

const SERIALS: [&str; 4] = ["serial_number", "serial", "serialNumber", "certificate_serial"];
const ENDS: [&str; 13] = [
    "expiration",
    "expiration_date",
    "expires",
    "expires_at",
    "expires_on",
    "expiry",
    "expiry_date",
    "not_after",
    "notAfter",
    "not_valid_after",
    "valid_until",
    "valid_to",
    "validTo",
];
const BEGINS: [&str; 5] = ["not_before", "notBefore", "not_valid_before", "valid_from", "validFrom"];
const FINGERPRINTS: [&str; 7] = [
    "fingerprint",
    "fingerprint_sha256",
    "sha256_fingerprint",
    "sha256",
    "fingerprintSha256",
    "certificate_fingerprint",
    "thumbprint_sha256",
];
const KEY_TYPES: [&str; 2] = ["private_key_type", "key_type"];

/// What openssl 3 and openssl 1 print before a digest.
const DIGESTS: [&str; 2] = ["sha256 Fingerprint=", "SHA256 Fingerprint="];

/// All texts that a certificate gives for one note.
type Forms = fn(&Certificate) -> Vec<String>;

/// A note that is exactly what the old certificate gives becomes what the new one gives. Any other is somebody's own.
pub fn renew(fields: &mut Fields, old: &Certificate, new: &Certificate) {
    let noted: [(&[&str], Forms); 5] = [
        (&SERIALS, |c| as_openssl_prints(octets(&c.serial), &["serial="])),
        (&ENDS, |c| as_openssl_prints(instants(c.not_after), &["notAfter="])),
        (&BEGINS, |c| as_openssl_prints(instants(c.not_before), &["notBefore="])),
        (&FINGERPRINTS, |c| as_openssl_prints(octets(&c.fingerprint.to_string()), &DIGESTS)),
        (&KEY_TYPES, |c| key_type(c).into_iter().map(str::to_string).collect()),
    ];
    for (names, forms) in noted {
        for name in names {
            let Some(value) = fields.get(*name).map(|value| value.get().to_string()) else { continue };
            let mut pairs = forms(old).into_iter().zip(forms(new));
            if let Some(renewed) = pairs.find_map(|(old, new)| renewed(&value, &old, &new)) {
                fields.insert((*name).to_string(), renewed);
            }
        }
    }
}

/// As a text or as a bare number, whichever it was.
fn renewed(value: &str, old: &str, new: &str) -> Option<Box<serde_json::value::RawValue>> {
    if serde_json::from_str::<String>(value).is_ok_and(|value| value == old) {
        return Some(json(new));
    }
    (value == old).then(|| new.parse::<i64>().ok()).flatten().map(|number| json(&number))
}

/// Adds each form with the words that `openssl x509` prints before it.
fn as_openssl_prints(forms: Vec<String>, prefixes: &[&str]) -> Vec<String> {
    let prefixed = prefixes.iter().flat_map(|prefix| forms.iter().map(move |form| format!("{prefix}{form}")));
    let prefixed: Vec<String> = prefixed.collect();
    forms.into_iter().chain(prefixed).collect()
}

/// Each form that tools give to hexadecimal: `1f:a0` as Vault, `1F:A0` as openssl, `1fa0`, `1FA0`.
fn octets(hexadecimal: &str) -> Vec<String> {
    let pairs: Vec<&str> = (0..hexadecimal.len()).step_by(2).filter_map(|at| hexadecimal.get(at..at + 2)).collect();
    let colons = pairs.join(":");
    vec![colons.to_uppercase(), colons, hexadecimal.to_uppercase(), hexadecimal.to_string()]
}

/// In seconds and milliseconds since 1970, as RFC 3339, as its date, and as `openssl x509 -enddate` prints it.
fn instants(at: Timestamp) -> Vec<String> {
    let full = at.to_string();
    let date = full.split('T').next().unwrap_or(&full).to_string();
    let civil = jiff::Timestamp::from_second(at.0).ok().map(|at| at.strftime("%b %e %H:%M:%S %Y GMT").to_string());
    let zoned = full.replace('Z', "+00:00");
    vec![at.0.to_string(), at.0.saturating_mul(1_000).to_string(), civil.unwrap_or_default(), zoned, full, date]
}

fn key_type(certificate: &Certificate) -> Option<&'static str> {
    match certificate.key {
        KeyType::Rsa(_) => Some("rsa"),
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 => Some("ec"),
        KeyType::Ed25519 => Some("ed25519"),
        KeyType::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::leaf;

    #[test]
    fn a_note_in_the_words_of_openssl_keeps_them() {
        let (old, new) = (
            Certificate { serial: "1fa0".into(), ..leaf(&["a"]) },
            Certificate { serial: "2b01".into(), ..leaf(&["a"]) },
        );
        let mut fields = Fields::new();
        for (name, value) in [("serial", "serial=1FA0"), ("serial_number", "serial=4711"), ("serialNumber", "1f:a0")] {
            fields.insert(name.to_string(), json(&value));
        }
        renew(&mut fields, &old, &new);
        let value = |name: &str| serde_json::from_str::<String>(fields[name].get()).unwrap();
        assert_eq!(
            [value("serial"), value("serial_number"), value("serialNumber")],
            ["serial=2B01", "serial=4711", "2b:01"]
        );
    }
}
