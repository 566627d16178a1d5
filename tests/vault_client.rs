//! The Vault client against a real server, and against loopback servers that are not Vault.

mod house;
mod support;

use std::time::Duration;

use certd::domain::inventory::ObstacleKind;
use certd::vault::{Settings, TokenFrom, Vault, VaultError};
use house::{House, client, now};
use serde_json::json;
use support::scripted::{answer, json_answer, that_answers};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

#[tokio::test]
async fn a_write_that_comes_second_is_a_conflict_and_is_counted() {
    let house = House::new().await;
    let path = format!("{}/web", house.kv);
    house.admin.put(&house.kv, "web", json!({ "a": "theirs" })).await;
    let refused = house.vault.kv_write(&path, Default::default(), 0).await.unwrap_err();
    assert!(matches!(refused, VaultError::CasMismatch { .. }), "{refused}");
    let status = house.vault.status();
    assert_eq!(status.cas_conflicts, 1);
    assert_eq!(status.requests, [("mount", 200, 1), ("write", 400, 1)]);
}

#[tokio::test]
async fn a_dead_token_and_a_missing_mount_say_what_to_do() {
    let house = House::new().await;
    let dead = client(&house.admin.address, "s.dead").kv_read(&format!("{}/x", house.kv)).await.unwrap_err();
    assert_eq!(dead.obstacle("read it").obstacle, ObstacleKind::Denied);
    let nowhere = house.vault.kv_read("nowhere/x").await.unwrap_err().to_string();
    assert!(nowhere.contains("hint: check that nowhere/x lies in a mount"), "{nowhere}");
    let no_kv = house.vault.kv_read(&format!("{}/x", house.ca.mount)).await.unwrap_err();
    assert!(matches!(&no_kv, VaultError::NoMount { words, .. } if words == "it is pki version 1"), "{no_kv}");
}

#[tokio::test]
async fn a_path_that_would_reach_another_is_refused() {
    let house = House::new().await;
    for path in ["secret/../sys/seal", "secret//x", "secret/./x", "", "secret/a\nb"] {
        let refused = house.vault.kv_read(path).await.unwrap_err();
        assert!(matches!(refused, VaultError::Path(_)), "{path:?}: {refused}");
    }
    assert_eq!(house.vault.status().requests, []);
    for path in ["a b", "ü%2e?x=1#y", "…"] {
        house.vault.kv_write(&format!("{}/{path}", house.kv), Default::default(), 0).await.unwrap();
    }
    let mut listed = house.vault.kv_list(&house.kv).await.unwrap();
    listed.sort();
    assert_eq!(listed, ["a b", "ü%2e?x=1#y", "…"]);
}

#[tokio::test]
async fn the_end_of_the_token_is_looked_up() {
    let house = House::new().await;
    assert_eq!(house.vault.token_lookup(now()).await.unwrap(), None);
    let token = house.admin.token("path \"x\" { capabilities = [\"read\"] }").await;
    let vault = client(&house.admin.address, &token);
    let (from, expiry) = (now(), vault.token_lookup(now()).await.unwrap());
    let left = from.until(expiry.unwrap());
    assert!((3590..=3600).contains(&left.as_secs()), "{left:?}");
    assert_eq!(vault.status().token_expiry, expiry);
}

#[tokio::test]
async fn a_read_after_a_write_is_answered_by_what_was_written() {
    let (address, mut asked) = that_answers(|request| match request.split(' ').next() {
        Some("post") => json_answer("\r\nX-Vault-Index: a-state", r#"{"data":{"version":2}}"#),
        _ if request.contains("/mounts/") => {
            let mount = r#"{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}"#;
            json_answer("\r\nX-Vault-Index: an-older-state", mount)
        }
        _ => json_answer("\r\nX-Vault-Index: an-older-state", r#"{"data":{"data":{},"metadata":{"version":2}}}"#),
    })
    .await;
    let vault = client(&address, "t");
    vault.kv_read("secret/x").await.unwrap();
    assert_eq!(vault.kv_write("secret/x", Default::default(), 1).await.unwrap(), 2);
    vault.kv_read("secret/x").await.unwrap();
    vault.kv_read("secret/x").await.unwrap();
    let mut indexes = Vec::new();
    while let Ok(request) = asked.try_recv() {
        let header = |name: &str| request.lines().find_map(|line| line.strip_prefix(name).map(str::to_string));
        indexes.push((header("x-vault-index: "), header("x-vault-inconsistent: ")));
    }
    let written = (Some("a-state".to_string()), Some("forward-active-node".to_string()));
    assert_eq!(indexes, [(None, None), (None, None), (None, None), written.clone(), written]);
}

#[tokio::test]
async fn what_is_not_vault_is_never_taken_for_an_absent_secret() {
    for (status, kind, body) in [
        ("404 Not Found", "text/html", "<html>no such page</html>"),
        ("404 Not Found", "application/json", "{\"message\":\"not found\"}"),
        ("404 Not Found", "application/json", ""),
        ("200 OK", "text/html", "<html>welcome</html>"),
        ("200 OK", "application/json", "{}"),
        ("502 Bad Gateway", "text/html", "<html>bad gateway</html>"),
    ] {
        let (address, _requests) = that_answers(move |_| answer(status, kind, body)).await;
        let error = client(&address, "t").kv_read("secret/x").await.unwrap_err();
        assert!(matches!(error, VaultError::NotVault { .. }), "{status} {body}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off_and_a_slow_one_is_a_timeout() {
    let body = format!("{{\"data\":\"{}\"}}", "x".repeat(17 * 1024 * 1024));
    let (address, _requests) = that_answers(move |_| json_answer("", &body)).await;
    let large = client(&address, "t").kv_read("secret/x").await.unwrap_err();
    assert_eq!(large.obstacle("read it").obstacle, ObstacleKind::TooLarge);

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let settings = Settings {
        name: "main".into(),
        addresses: vec![address.parse().unwrap()],
        server_name: None,
        roots: None,
        namespace: None,
        token: TokenFrom::Given(Zeroizing::new("t".to_string())),
        deadline: Duration::from_millis(100),
    };
    let slow = Vault::new(settings).unwrap().kv_read("secret/x").await.unwrap_err().obstacle("read it");
    assert_eq!(slow.obstacle, ObstacleKind::Timeout);
    drop(silent);
    let gone = client(&address, "t").kv_read("secret/x").await.unwrap_err().obstacle("read it");
    assert_eq!(gone.obstacle, ObstacleKind::Unreachable);
    assert!(gone.message.ends_with("Connection refused (os error 111)"), "{}", gone.message);
}
