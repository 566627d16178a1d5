//! The ground under the Vault stories: the server is real, each test has a place of its own, and nothing is left.

mod support;

use std::{io::ErrorKind, net::TcpStream};

use serde_json::{Value, json};
use support::vault::{own_server, server};

#[tokio::test]
async fn a_write_with_the_wrong_version_is_refused_in_the_words_we_rely_on() {
    let vault = server().await;
    let mount = vault.kv("cas").await;
    assert_eq!(vault.put(&mount, "tls/web", json!({ "cert": "a" })).await, 1);

    let stale = json!({ "options": { "cas": 0 }, "data": { "cert": "b" } });
    let (status, answer) = vault.call(&vault.root_token, "POST", &format!("{mount}/data/tls/web"), stale).await;

    let words = "check-and-set parameter did not match the current version";
    assert_eq!((status, &answer["errors"][0]), (400, &json!(words)));
    assert_eq!(vault.get(&mount, "tls/web").await, (json!({ "cert": "a" }), 1));
}

#[tokio::test]
async fn two_tests_that_ask_for_the_same_mount_get_two() {
    let vault = server().await;
    let (one, other) = (vault.kv("secret").await, vault.kv("secret").await);
    vault.put(&one, "tls/web", json!({ "cert": "a" })).await;

    let (status, answer) = vault.call(&vault.root_token, "GET", &format!("{other}/data/tls/web"), Value::Null).await;

    assert_eq!((status, &answer["errors"]), (404, &json!([])));
}

#[tokio::test]
async fn the_role_signs_for_example_org_and_for_nobody_else() {
    let vault = server().await;
    let pki = vault.pki().await;
    let issue = format!("{}/issue/{}", pki.mount, pki.role);

    let ours =
        vault.admin("POST", &issue, json!({ "alt_names": "www.example.org,*.example.org", "key_type": "ec" })).await;
    let theirs = json!({ "common_name": "www.example.com", "key_type": "ec" });
    let (status, _) = vault.call(&vault.root_token, "POST", &issue, theirs).await;

    assert_eq!(ours["data"]["issuing_ca"], json!(pki.ca_pem));
    assert_eq!((&ours["lease_id"], status), (&json!(""), 400));
}

#[tokio::test]
async fn a_token_can_do_what_its_policy_says_and_no_more() {
    let vault = server().await;
    let mount = vault.kv("policy").await;
    vault.put(&mount, "tls/web", json!({ "cert": "a" })).await;
    let token = vault.token(&format!(r#"path "{mount}/data/tls/*" {{ capabilities = ["read"] }}"#)).await;
    let path = format!("{mount}/data/tls/web");

    let (read, _) = vault.call(&token, "GET", &path, Value::Null).await;
    let (write, answer) = vault.call(&token, "POST", &path, json!({ "data": {} })).await;

    assert_eq!((read, write), (200, 403));
    assert!(answer["errors"][0].as_str().unwrap().contains("permission denied"), "{answer}");
}

#[tokio::test]
async fn a_server_of_ones_own_can_be_sealed_and_ends_with_its_handle() {
    let (vault, server) = own_server().await;
    vault.admin("POST", "sys/seal", Value::Null).await;
    let (status, _) = vault.call(&vault.root_token, "GET", "secret/data/x", Value::Null).await;
    assert_eq!(status, 503);

    let place = vault.address.trim_start_matches("http://").to_owned();
    drop(server);

    assert_eq!(TcpStream::connect(&place).map(drop).map_err(|e| e.kind()), Err(ErrorKind::ConnectionRefused));
}
