//! What people note beside a certificate, as `pki/issue` answers it: serial, end, kind of key.

use super::json;
use crate::domain::cert::{Certificate, KeyType};
use crate::vault::Fields;

type Note = fn(&Certificate) -> Option<String>;

/// A note that is exactly what the old certificate gives becomes what the new one gives. Any other is somebody's own.
pub fn renew(fields: &mut Fields, old: &Certificate, new: &Certificate) {
    let noted: [(&[&str], &[Note]); 4] = [
        (
            &["serial_number", "serial"],
            &[|c| colons(c), |c| Some(colons(c)?.to_uppercase()), |c| Some(c.serial.clone())],
        ),
        (&["expiration", "not_after"], &[|c| Some(c.not_after.0.to_string()), |c| Some(c.not_after.to_string())]),
        (&["not_before"], &[|c| Some(c.not_before.0.to_string()), |c| Some(c.not_before.to_string())]),
        (&["private_key_type"], &[key_type]),
    ];
    for (names, notes) in noted {
        for name in names {
            let Some(value) = fields.get(*name).map(|value| value.get().to_string()) else { continue };
            let renewed = notes.iter().find_map(|note| renewed(&value, note(old)?, note(new)?));
            if let Some(renewed) = renewed {
                fields.insert(name.to_string(), renewed);
            }
        }
    }
}

/// As a text or as a bare number, whichever it was.
fn renewed(value: &str, old: String, new: String) -> Option<Box<serde_json::value::RawValue>> {
    if serde_json::from_str::<String>(value).is_ok_and(|value| value == old) {
        return Some(json(&new));
    }
    (value == old).then(|| new.parse::<i64>().ok()).flatten().map(|number| json(&number))
}

/// As Vault writes serials: `1f:a0`.
fn colons(certificate: &Certificate) -> Option<String> {
    let pairs: Option<Vec<&str>> =
        (0..certificate.serial.len()).step_by(2).map(|at| certificate.serial.get(at..at + 2)).collect();
    pairs.map(|pairs| pairs.join(":"))
}

fn key_type(certificate: &Certificate) -> Option<String> {
    match certificate.key {
        KeyType::Rsa(_) => Some("rsa".to_string()),
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 => Some("ec".to_string()),
        KeyType::Ed25519 => Some("ed25519".to_string()),
        KeyType::Other(_) => None,
    }
}
