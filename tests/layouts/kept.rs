//! What others keep beside a certificate, in its fields and around them: it stays byte for byte, further copies follow, and
//! where that is not well defined the place is held as soon as it is seen.

use std::sync::LazyLock;

use base64::Engine;
use certd::domain::inventory::Sighting;
use certd::domain::key::KeySpec;
use certd::domain::plan::Basis;
use certd::store::StoreError;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::ground::{Ground, Material, base64, der, layout, windows};

/// A CA that has nothing to do with the certificate, such as that of clients.
static STRANGER: LazyLock<String> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "client CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem().replace("\r\n", "\n")
});

const DH: &str = "-----BEGIN DH PARAMETERS-----\nMAYCAQ8CAQI=\n-----END DH PARAMETERS-----\n";
const PGP: &str =
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\nlQIGBA==\n-----END PGP PRIVATE KEY BLOCK-----\n";
const CRL: &str = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";

fn all_kinds(m: &Material) -> String {
    ["# kept by team web\n", &m.leaf, DH, &m.inner, "\nthe root:\n", &m.root, &STRANGER, PGP, &m.traditional, CRL]
        .concat()
}

#[tokio::test]
async fn whatever_stands_beside_the_blocks_of_a_field_stays() {
    let ground = Ground::new().await;
    let layouts = [
        layout("every kind of block in one field", |m| json!({ "pem": all_kinds(m) }), ("/pem", "/pem")),
        layout(
            "every kind of block with windows line ends",
            |m| json!({ "pem": windows(&all_kinds(m)) }),
            ("/pem", "/pem"),
        ),
        layout(
            "every kind of block in base64",
            |m| json!({ "cert": base64(&all_kinds(m)), "key": base64(&(m.traditional.clone() + DH)) }),
            ("/cert", "/key"),
        ),
        layout(
            "text beside pem",
            |m| {
                json!({
                    "cert": "# web\n".to_string() + &m.leaf + "# end", "key": "the key:\n".to_string() + &m.pkcs8,
                    "chain": "# intermediates\n".to_string() + &m.inner,
                })
            },
            ("/cert", "/key"),
        ),
        layout(
            "further cas in the chain",
            |m| json!({ "cert": m.leaf, "key": m.pkcs8, "chain": STRANGER.clone() + &m.inner + &m.root }),
            ("/cert", "/key"),
        ),
        layout(
            "further texts in the list of the chain",
            |m| {
                json!({
                    "certificate": m.leaf, "private_key": m.pkcs8,
                    "ca_chain": [m.inner, STRANGER.clone(), "https://ca.example.org", m.root],
                })
            },
            ("/certificate", "/private_key"),
        ),
        layout(
            "a client ca as the anchor",
            |m| json!({ "tls.crt": m.chain(), "tls.key": m.pkcs8, "ca.crt": STRANGER.clone() }),
            ("/tls.crt", "/tls.key"),
        ),
    ];
    ground.renew(&layouts).await;
}

#[tokio::test]
async fn every_further_copy_in_the_secret_follows() {
    let ground = Ground::new().await;
    let layouts = [
        layout(
            "a combined copy",
            |m| json!({ "cert": m.chain(), "key": m.pkcs8, "combined.pem": m.traditional.clone() + DH + &m.chain() }),
            ("/cert", "/key"),
        ),
        layout(
            "a copy in base64",
            |m| {
                json!({
                    "cert": m.chain(), "key": m.pkcs8, "cert_b64": base64(&m.chain()), "key_b64": base64(&m.traditional),
                    "cert_der": der(&m.leaf), "z": [m.leaf, "other"],
                })
            },
            ("/cert", "/key"),
        ),
        layout(
            "certbot beside kubernetes",
            |m| {
                json!({
                    "tls.crt": m.chain(), "tls.key": m.pkcs8,
                    "cert": m.leaf, "chain": m.inner, "fullchain": m.chain(), "privkey": m.traditional,
                })
            },
            ("/tls.crt", "/tls.key"),
        ),
        layout(
            "a copy in an object",
            |m| {
                json!({
                    "certificate": m.leaf, "private_key": m.pkcs8, "ca_chain": [m.inner],
                    "haproxy": {
                        "bundle": m.chain() + &m.traditional, "expiration": m.expiration, "port": 8443,
                        "deep": [{ "serial": m.serial, "pem": m.leaf }, 7],
                    },
                })
            },
            ("/certificate", "/private_key"),
        ),
    ];
    ground.renew(&layouts).await;
}

#[tokio::test]
async fn notes_of_every_form_follow_and_one_of_an_unknown_name_does_not() {
    let ground = Ground::new().await;
    let notes = |m: &Material| {
        json!({
            "certificate": m.leaf, "private_key": m.pkcs8, "ca_chain": [m.inner], "serial_number": m.serial,
            "expiration": m.expiration, "serial": m.serial.to_uppercase(), "expiry": m.expiration.to_string(),
            "valid_until": m.expiration * 1_000, "owner_serial": m.serial,
            "not_after": certd::domain::time::Timestamp(m.expiration).to_string(),
        })
    };
    let (old, new) = (ground.old(&KeySpec::EcdsaP256).await, ground.certified(KeySpec::EcdsaP256).await);
    let was = notes(&old);
    ground.put("notes", &was.to_string()).await;
    let store = ground.house.store("notes");
    store.write(&new, &basis(&store.read().await)).await.unwrap();
    let mut expected = notes(&ground.new_material(&new, &KeySpec::EcdsaP256));
    expected["owner_serial"] = was["owner_serial"].clone();
    assert_eq!(ground.read("notes").await, expected);
}

fn basis(seen: &Sighting) -> Basis {
    match seen {
        Sighting::Found(found) => Basis { version: found.version, fingerprint: Some(found.leaf().fingerprint) },
        other => panic!("nothing found: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_the_certificates_is_held_as_soon_as_it_is_seen() {
    let ground = Ground::new().await;
    let (m, other) = (ground.old(&KeySpec::EcdsaP256).await, ground.old(&KeySpec::EcdsaP256).await);
    let pair = |more: Value| {
        let mut fields = json!({ "cert": m.chain(), "key": m.pkcs8 });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    let one_line = m.pkcs8.replace('\n', " ");
    let config = format!("tls:\n  key: \"{}\"", m.traditional.replace('\n', "\\n"));
    let copy =
        "it holds this certificate or its key a second time, in a form that certd cannot replace: remove that copy";
    let other_thing = |field: &str, lacks: &str| {
        format!("the field `{field}` holds {lacks} but something else, which certd would not overwrite: rename it")
    };
    let marks = "a PEM block does not begin and end on lines of its own: put each mark on a line of its own";
    let keystore = "308209a102010330820967".to_string() + &"00".repeat(60);
    let inner_keystore = |field: &str| {
        format!(
            "the field `{field}` within it is a keystore, which certd does not renew there: move it beside the certificate"
        )
    };
    for (path, data, why) in [
        ("api-key", json!({ "cert": m.chain(), "key": "API-KEY-123" }), other_thing("key", "no private key")),
        ("mainnet", pair(json!({ "chain": "mainnet" })), other_thing("chain", "no certificate")),
        (
            "urls",
            json!({ "certificate": m.chain(), "private_key": m.pkcs8, "ca_chain": ["https://ca.example.org"] }),
            other_thing("ca_chain", "no certificate"),
        ),
        (
            "swapped",
            json!({ "cert": m.pkcs8, "key": m.chain() }),
            "the field `cert` holds a private key and no certificate: put key and certificate each into its own field"
                .to_string(),
        ),
        (
            "swapped-full",
            json!({ "cert": m.pkcs8, "key": m.pkcs8, "fullchain": m.chain() }),
            "the field `cert` holds a private key and no certificate: put key and certificate each into its own field"
                .to_string(),
        ),
        (
            "key-in-chain",
            pair(json!({ "chain": m.inner.clone() + &m.pkcs8 })),
            "the field `chain` holds a private key beside certificates of CAs: move the key into a field of its own"
                .to_string(),
        ),
        (
            "second-key",
            json!({ "pem": m.chain() + &m.pkcs8 + &other.pkcs8 }),
            "it holds several private keys: remove all but that of its certificate".to_string(),
        ),
        (
            "second-leaf",
            json!({ "pem": m.chain() + &m.pkcs8 + &other.leaf }),
            "2 certificates that are no CA's: give each a place of its own".to_string(),
        ),
        (
            "other-names",
            pair(json!({ "fullchain": other.chain(), "privkey": other.pkcs8 })),
            "certificates under several names (`cert`, `fullchain`, `privkey`): remove all but one".to_string(),
        ),
        (
            "hex-keystore",
            pair(json!({ "p12": keystore })),
            "the field `p12` is a keystore in hexadecimal, which certd does not renew: keep it in base64, or remove it"
                .to_string(),
        ),
        ("inner-keystore", pair(json!({ "java": { "p12": base64_of(&keystore) } })), inner_keystore("p12")),
        ("listed-keystore", pair(json!({ "stores": [base64_of(&keystore)] })), inner_keystore("stores")),
        ("one-line", pair(json!({ "flat": one_line })), format!("the field `flat`: {copy}")),
        ("config", pair(json!({ "config.yaml": config })), format!("the field `config.yaml`: {copy}")),
        ("hex", pair(json!({ "h": openssl_hex(&m.leaf) })), format!("the field `h`: {copy}")),
        (
            "trusted",
            pair(json!({ "note": m.leaf.replace("CERTIFICATE", "TRUSTED CERTIFICATE") })),
            format!("the field `note`: {copy}"),
        ),
        ("glued", json!({ "pem": m.pkcs8.trim_end().to_string() + &m.chain() }), format!("the field `pem`: {marks}")),
    ] {
        ground.is_held(path, data, &why).await;
        let store = ground.house.store(path);
        let seen = store.read().await;
        let Sighting::Found(found) = &seen else { panic!("{path}: {seen:?}") };
        assert_eq!(found.unwritable.as_deref(), Some(why.as_str()), "{path}");
        let rehearsed = store.rehearse().await.unwrap_err();
        assert!(matches!(&rehearsed, StoreError::Held(held) if held.ends_with(&why)), "{path}: {rehearsed}");
    }
    let sound = json!({ "cert": m.chain(), "key": m.pkcs8 });
    ground.put("sound", &sound.to_string()).await;
    let seen = ground.house.store("sound").read().await;
    assert!(matches!(seen, Sighting::Found(found) if found.unwritable.is_none()));
}

/// Of what these hexadecimal digits stand for.
fn base64_of(digits: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn openssl_hex(pem: &str) -> String {
    let der = crate::support::tools::openssl_bytes(&["x509", "-outform", "DER"], pem.as_bytes());
    der.iter().map(|byte| format!("{byte:02x}")).collect()
}
