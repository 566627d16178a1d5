//! The token nears its end: `/readyz` says so before anything fails, unless somebody keeps it alive.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::home::{Home, declared};

async fn token(home: &Home, asked: Value) -> String {
    let made = home.house.admin.admin("POST", "auth/token/create", asked).await;
    made["auth"]["client_token"].as_str().unwrap().to_string()
}

async fn renew(home: &Home, token: &str, increment: &str) {
    let asked = json!({ "token": token, "increment": increment });
    home.house.admin.admin("POST", "auth/token/renew", asked).await;
}

/// A turn, as if it were time for one.
async fn turn(home: &Home) {
    home.certd(&["renew", "--due", "web"]).await;
}

#[tokio::test]
async fn a_token_that_nobody_renewed_in_time_is_a_readiness_failure_until_somebody_does() {
    let home = Home::new(&declared("web")).await;
    let daemon = home.run().await;
    assert_eq!(daemon.ready().await, (200, "ready\n".to_string()));

    let old = token(&home, json!({ "policies": ["root"], "ttl": "1h", "no_parent": true })).await;
    home.give_token(&old);
    renew(&home, &old, "100s").await;
    turn(&home).await;
    let expiry = daemon.metric("certd_vault_token_expiry_timestamp_seconds", "vault").await;
    let (status, why) = daemon.ready().await;
    assert_eq!((status, why.lines().count()), (503, 1), "{why}");
    let end = why.strip_prefix("the token for vault main ends on ").and_then(|rest| rest.split_once(' '));
    let (end, rest) = end.unwrap_or_else(|| panic!("{why}"));
    assert_eq!(rest, "and is not renewed: renew or replace it\n");
    let end = end.parse::<jiff::Timestamp>().unwrap().as_second();
    let left = end - jiff::Timestamp::now().as_second();
    assert!((80..=100).contains(&left) && (expiry[0].1 - end as f64).abs() <= 2.0, "{why} {expiry:?}");

    renew(&home, &old, "1h").await;
    turn(&home).await;
    assert_eq!(daemon.ready().await, (200, "ready\n".to_string()));
}

#[tokio::test]
async fn a_token_that_has_ended_is_a_readiness_failure_and_a_new_one_is_seen_without_a_turn() {
    let home = Home::new(&declared("web")).await;
    let good = std::fs::read_to_string(home.path("token")).unwrap();
    home.give_token(&token(&home, json!({ "policies": ["root"], "ttl": "8s", "no_parent": true })).await);
    let daemon = home.run().await;
    daemon.until_ready(503, "the token for vault main has ended: replace it\n").await;
    home.give_token(&good);
    daemon.until_ready(200, "ready\n").await;
}

#[tokio::test]
async fn a_token_that_certd_renews_itself_is_no_failure() {
    let home = Home::new(&declared("web")).await;
    let admin = &home.house.admin;
    let auth = format!("approle-{}", home.house.kv);
    admin.admin("POST", &format!("sys/auth/{auth}"), json!({ "type": "approle" })).await;
    let all = json!({ "policy": "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"list\"] }" });
    admin.admin("PUT", "sys/policies/acl/all", all).await;
    let role = json!({ "token_policies": ["all"], "token_ttl": "6s", "token_max_ttl": "1h" });
    admin.admin("POST", &format!("auth/{auth}/role/certd"), role).await;
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let role_id = admin.admin("GET", &format!("auth/{auth}/role/certd/role-id"), Value::Null).await;
    let secret_id = admin.admin("POST", &format!("auth/{auth}/role/certd/secret-id"), json!({})).await;
    std::fs::write(home.path("role-id"), text(&role_id["data"]["role_id"])).unwrap();
    std::fs::write(home.path("secret-id"), text(&secret_id["data"]["secret_id"])).unwrap();
    let config = std::fs::read_to_string(home.path("certd.toml")).unwrap();
    let way =
        format!("auth.approle = {{ role_id_file = \"role-id\", secret_id_file = \"secret-id\", mount = \"{auth}\" }}");
    std::fs::write(home.path("certd.toml"), config.replace("token_file = \"token\"", &way)).unwrap();
    let daemon = home.run().await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        assert_eq!(daemon.ready().await, (200, "ready\n".to_string()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
