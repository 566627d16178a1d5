//! Every layout in which people keep a certificate in Vault: put there as they do, read and renewed by certd, and read
//! back by `bao`, `openssl`, `keytool` and Python's hvac and cryptography. Each prints a line of a table:
//! `tests/run --test layouts -- --nocapture` shows it.

#[path = "../house/mod.rs"]
mod house;
#[path = "../support/mod.rs"]
mod support;

mod ground;
mod kept;
mod keystores;
mod objects;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use certd::domain::key::KeySpec;
use ground::{Ground, Layout, Material, base64, der, in_lines, layout, windows};
use serde_json::json;
use support::tools::openssl;

#[tokio::test]
async fn the_names_of_every_tool() {
    let ground = Ground::new().await;
    let layouts = [
        layout(
            "as pki issue answers",
            |m| {
                json!({
                    "certificate": m.leaf.trim_end(), "private_key": m.traditional.trim_end(),
                    "ca_chain": [m.inner.trim_end(), m.root.trim_end()], "issuing_ca": m.inner.trim_end(),
                    "serial_number": m.serial, "expiration": m.expiration, "private_key_type": "ec",
                })
            },
            ("/certificate", "/private_key"),
        ),
        layout(
            "issuing ca as a list",
            |m| {
                json!({
                    "certificate": m.leaf, "private_key": m.pkcs8, "ca_chain": [m.inner, m.root], "issuing_ca": [m.inner],
                })
            },
            ("/certificate", "/private_key"),
        ),
        layout(
            "issuing ca and no chain",
            |m| json!({ "certificate": m.leaf, "private_key": m.pkcs8, "issuing_ca": m.inner }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "kubernetes",
            |m| json!({ "tls.crt": m.chain(), "tls.key": m.pkcs8, "ca.crt": m.root }),
            ("/tls.crt", "/tls.key"),
        ),
        layout("cert key chain", |m| json!({ "cert": m.leaf, "key": m.pkcs8, "chain": m.inner }), ("/cert", "/key")),
        layout("crt", |m| json!({ "crt": m.chain(), "key": m.pkcs8 }), ("/crt", "/key")),
        layout("crt key chain", |m| json!({ "crt": m.leaf, "key": m.pkcs8, "chain": [m.inner] }), ("/crt", "/key")),
        layout("fullchain", |m| json!({ "fullchain": m.chain(), "key": m.pkcs8 }), ("/fullchain", "/key")),
        layout(
            "certbot",
            |m| json!({ "cert": m.leaf, "chain": m.inner, "fullchain": m.chain(), "privkey": m.pkcs8 }),
            ("/fullchain", "/privkey"),
        ),
        layout(
            "mixed names",
            |m| json!({ "certificate": m.leaf, "key": m.pkcs8, "chain": m.inner, "ca": m.root }),
            ("/certificate", "/key"),
        ),
        layout("pem with key first", |m| json!({ "pem": m.pkcs8.clone() + &m.chain() }), ("/pem", "/pem")),
        layout("pem with key last", |m| json!({ "pem": m.chain() + &m.pkcs8 }), ("/pem", "/pem")),
        layout("pem with key between", |m| json!({ "pem": m.leaf.clone() + &m.pkcs8 + &m.inner }), ("/pem", "/pem")),
        layout("pem and key", |m| json!({ "pem": m.chain(), "key": m.pkcs8 }), ("/pem", "/key")),
        layout("key in the certificate", |m| json!({ "cert": m.pkcs8.clone() + &m.chain() }), ("/cert", "/cert")),
    ];
    ground.renew(&layouts).await;
}

#[tokio::test]
async fn the_encoding_of_a_field() {
    let ground = Ground::new().await;
    let layouts = [
        layout(
            "windows line ends",
            |m| json!({ "certificate": windows(&m.leaf), "private_key": windows(&m.pkcs8), "ca_chain": windows(&m.inner) }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "pem with windows line ends",
            |m| json!({ "pem": windows(&(m.traditional.clone() + &m.chain())) }),
            ("/pem", "/pem"),
        ),
        layout(
            "pem in base64",
            |m| json!({ "tls.crt": base64(&m.chain()), "tls.key": base64(&m.pkcs8), "ca.crt": base64(&m.root) }),
            ("/tls.crt", "/tls.key"),
        ),
        layout(
            "windows pem in base64 in lines",
            |m| json!({ "cert": in_lines(&base64(&windows(&m.chain()))), "key": in_lines(&base64(&m.traditional)) }),
            ("/cert", "/key"),
        ),
        layout(
            "key and chain in base64",
            |m| json!({ "pem": base64(&(m.traditional.clone() + &m.chain())) }),
            ("/pem", "/pem"),
        ),
        layout(
            "der in base64",
            |m| json!({ "certificate": der(&m.leaf), "private_key": der(&m.pkcs8), "ca_chain": [der(&m.inner)] }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "der in base64 in lines with a root",
            |m| {
                json!({
                    "certificate": in_lines(&der(&m.leaf)), "private_key": der(&m.traditional),
                    "ca_chain": [der(&m.inner), der(&m.root)], "issuing_ca": der(&m.inner),
                })
            },
            ("/certificate", "/private_key"),
        ),
        layout(
            "der beside pem",
            |m| json!({ "cert": der(&m.leaf), "key": m.pkcs8, "fullchain": m.chain() }),
            ("/cert", "/key"),
        ),
    ];
    ground.renew(&layouts).await;
}

#[tokio::test]
async fn the_order_and_the_form_of_the_chain() {
    let ground = Ground::new().await;
    let layouts = [
        layout("leaf last", |m| json!({ "cert": m.inner.clone() + &m.leaf, "key": m.pkcs8 }), ("/cert", "/key")),
        layout(
            "root first",
            |m| json!({ "fullchain": (m.root.clone() + &m.inner + &m.leaf), "cert": m.leaf, "key": m.pkcs8 }),
            ("/cert", "/key"),
        ),
        layout(
            "root last",
            |m| json!({ "tls.crt": m.chain() + &m.root, "tls.key": m.pkcs8 }),
            ("/tls.crt", "/tls.key"),
        ),
        layout(
            "chain from the root",
            |m| json!({ "certificate": m.leaf, "private_key": m.pkcs8, "ca_chain": [m.root, m.inner] }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "chain with the leaf",
            |m| json!({ "certificate": m.leaf, "private_key": m.pkcs8, "ca_chain": [m.leaf, m.inner, m.root] }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "chain as one text in a list",
            |m| json!({ "certificate": m.leaf, "private_key": m.pkcs8, "ca_chain": [m.inner.clone() + &m.root] }),
            ("/certificate", "/private_key"),
        ),
        layout(
            "chain as one text",
            |m| json!({ "cert": m.leaf, "key": m.pkcs8, "chain": m.chain().trim_end() }),
            ("/cert", "/key"),
        ),
        layout(
            "all in the list of the certificate",
            |m| json!({ "certificate": [m.leaf, m.inner], "private_key": m.pkcs8 }),
            ("/certificate/0", "/private_key"),
        ),
    ];
    ground.renew(&layouts).await;
}

#[tokio::test]
async fn the_form_of_the_key() {
    let ground = Ground::new().await;
    let with = |name, key, fields| Layout { key, ..layout(name, fields, ("/cert", "/key")) };
    let layouts = [
        with(
            "pkcs1",
            KeySpec::Rsa2048,
            |m| json!({ "cert": m.chain(), "key": m.traditional, "private_key_type": "rsa" }),
        ),
        with("pkcs1 in der", KeySpec::Rsa2048, |m| json!({ "cert": m.chain(), "key": der(&m.traditional) })),
        with("rsa in pkcs8", KeySpec::Rsa2048, |m| json!({ "cert": m.chain(), "key": m.pkcs8 })),
        with("sec1", KeySpec::EcdsaP256, |m| json!({ "cert": m.chain(), "key": m.traditional })),
        with("sec1 in der", KeySpec::EcdsaP256, |m| json!({ "cert": m.chain(), "key": der(&m.traditional) })),
        with("ed25519", KeySpec::Ed25519, |m| json!({ "cert": m.chain(), "key": m.pkcs8 })),
    ];
    ground.renew(&layouts).await;
}

#[tokio::test]
async fn fields_in_an_object_of_their_own() {
    let ground = Ground::new().await;
    let layouts = [
        layout(
            "in an object",
            |m| json!({ "tls": { "certificate": m.chain(), "private_key": m.pkcs8, "note": "<&>", "port": 8443 } }),
            ("/tls/certificate", "/tls/private_key"),
        ),
        layout(
            "in an object that is named as a field",
            |m| json!({ "certificate": { "crt": m.chain(), "key": m.pkcs8 } }),
            ("/certificate/crt", "/certificate/key"),
        ),
        layout(
            "a whole kubernetes secret",
            |m| {
                json!({
                    "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "web" },
                    "data": { "tls.crt": base64(&m.chain()), "tls.key": base64(&m.pkcs8), "z": base64("1") },
                })
            },
            ("/data/tls.crt", "/data/tls.key"),
        ),
        layout(
            "a whole answer of pki issue",
            |m| {
                json!({ "request_id": "x", "lease_duration": 0, "deep": { "data": {
                    "certificate": m.leaf, "private_key": m.traditional, "ca_chain": [m.inner], "issuing_ca": m.inner,
                    "serial_number": m.serial, "expiration": m.expiration.to_string(), "a": [1, { "b": 1.5 }],
                }}})
            },
            ("/deep/data/certificate", "/deep/data/private_key"),
        ),
    ];
    ground.renew(&layouts).await;
}

#[tokio::test]
async fn a_note_that_is_not_of_the_old_certificate_is_somebodys_own() {
    let ground = Ground::new().await;
    let layout = layout(
        "notes",
        |m| json!({ "cert": m.chain(), "key": m.pkcs8, "serial_number": "4711", "expiration": 1, "not_after": "soon" }),
        ("/cert", "/key"),
    );
    ground.renew(&[layout]).await;
}

#[tokio::test]
async fn what_would_be_lost_or_is_not_understood_is_held() {
    let ground = Ground::new().await;
    let (m, other) = (ground.old(&KeySpec::EcdsaP256).await, ground.old(&KeySpec::EcdsaP256).await);
    let encrypted = openssl(&["pkcs8", "-topk8", "-passout", "pass:secret"], &m.pkcs8);
    let pair = |m: &Material| json!({ "certificate": m.chain(), "private_key": m.pkcs8 });
    for (path, data, why) in [
        (
            "two-objects",
            json!({ "web": pair(&m), "web-old": pair(&m) }),
            "certificates in several objects (`web`, `web-old`): name one behind the path, as in `#web`",
        ),
        (
            "two-leaves",
            json!({ "pem": m.pkcs8.clone() + &m.leaf + &other.leaf }),
            "2 certificates that are no CA's: give each a place of its own",
        ),
        (
            "two-keys",
            json!({ "cert": m.pkcs8.clone() + &m.chain(), "key": other.pkcs8 }),
            "it holds several private keys: remove all but that of its certificate",
        ),
        (
            "two-names",
            json!({ "certificate": m.chain(), "private_key": m.pkcs8, "key": other.pkcs8 }),
            "certificates under several names (`certificate`, `key`): remove all but one",
        ),
        (
            "no-room",
            json!({ "cert": der(&m.leaf), "key": der(&m.pkcs8) }),
            "the field `cert`: DER in base64 has room for one certificate and no chain: add an empty field `ca_chain` for it",
        ),
        (
            "encrypted",
            json!({ "cert": m.chain(), "key": encrypted }),
            "a key in a form not read: ENCRYPTED PRIVATE KEY",
        ),
        (
            "encrypted-der",
            json!({ "tls": { "cert": m.chain(), "key": der(&encrypted) } }),
            "in `tls`: base64 of neither one certificate nor a key: a private key of a kind that certd does not read (it reads RSA, ECDSA P-256/384/521, Ed25519)",
        ),
        (
            "escaped",
            json!({ "cert": m.chain().replace('\n', "\\n"), "key": m.pkcs8 }),
            "the field `cert`: the PEM is damaged in line 1: text stands behind the BEGIN mark: give the mark a line of its own",
        ),
        ("a-list", json!({ "cert": m.chain(), "key": [m.pkcs8] }), "the field `key` is a list: make it one text"),
        (
            "an-array",
            json!({ "tls": [pair(&m)] }),
            "it holds other fields and no certificate: empty it, or keep the certificate at another path",
        ),
    ] {
        ground.is_held(path, data, why).await;
    }
}

#[tokio::test]
async fn a_sweep_tells_of_keystores_and_of_every_object_and_passes_over_the_rest() {
    let ground = Ground::new().await;
    let m = ground.old(&KeySpec::EcdsaP256).await;
    let pair = json!({ "cert": m.leaf, "key": m.pkcs8 });
    let jks = BASE64.encode([0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1]);
    for (path, data) in [
        ("keystore", json!({ "alias": "web", "jks": jks })),
        ("two", json!({ "web": pair, "api": { "tls": pair }, "note": {} })),
        ("deep", json!({ "tls": { "crt": base64(&m.leaf) } })),
        ("settings", json!({ "tls": { "port": 8443 }, "token": base64("a token that is long enough") })),
    ] {
        ground.put(path, &data.to_string()).await;
    }
    let seen = ground.house.seen(&["*"], &[]).await;
    let expected = [
        "vault:deep web.example.org v1",
        "vault:keystore not_understood",
        "vault:two#api/tls web.example.org",
        "vault:two#web web.example.org",
    ];
    assert_eq!(seen, expected);
}
