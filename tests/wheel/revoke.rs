//! `certd revoke`: what is served is not revoked, and what is revoked is read back.

use serde_json::Value;

use crate::drift::{served_by, stored};
use crate::home::{ADOPT, Daemon, Home, Ran, declared, rows};
use crate::served::Served;

/// With the right that `certd vault policy --revoke` adds.
async fn allow(home: &Home) {
    let mine = std::fs::read_to_string(home.path("token")).unwrap();
    let looked = home.house.admin.call(mine.trim(), "GET", "auth/token/lookup-self", Value::Null).await.1;
    let name = looked["data"]["policies"].as_array().unwrap().iter().find(|name| **name != "default").unwrap();
    let path = format!("sys/policies/acl/{}", name.as_str().unwrap());
    let before =
        home.house.admin.admin("GET", &path, Value::Null).await["data"]["policy"].as_str().unwrap().to_string();
    let more = format!("{before}\npath \"{}/revoke\" {{ capabilities = [\"update\"] }}", home.house.ca.mount);
    home.house.admin.admin("PUT", &path, serde_json::json!({ "policy": more })).await;
}

async fn revoked(home: &Home) -> Vec<String> {
    let list = format!("{}/certs/revoked", home.house.ca.mount);
    let (_, answer) = home.house.admin.call(&home.house.admin.root_token, "LIST", &list, Value::Null).await;
    let keys = answer["data"]["keys"].as_array().cloned().unwrap_or_default();
    keys.iter().map(|serial| serial.as_str().unwrap().replace(':', "")).collect()
}

/// Of what is kept for `web`, as certd shows it.
async fn serial(home: &Home) -> String {
    let checked = home.certd(&["check", "--format", "json"]).await.json();
    let all = checked["certificates"].as_array().unwrap().clone();
    let web = all.iter().find(|line| line["location"] == home.location("tls/web")).unwrap();
    web["leaf"]["serial"].as_str().unwrap().to_string()
}

async fn renewed_and_served() -> (Home, Served) {
    let home = Home::new(&declared("web")).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let server = Served::at("127.0.0.1:0", &stored(&home, "tls/web").await).await;
    home.configure(&served_by(&[format!("127.0.0.1:{} sni=web.example.org", server.port)]));
    (home, server)
}

fn says(ran: &Ran, code: i32, words: &[&str]) {
    assert!(ran.code == code && words.iter().all(|words| ran.out.contains(words)), "{words:?}: {ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_still_serves_is_revoked_only_once_it_serves_another() {
    let (home, server) = renewed_and_served().await;
    allow(&home).await;
    let old = serial(&home).await;
    let in_the_way = format!("nothing was revoked: 127.0.0.1:{} sni=web.example.org still serves it", server.port);
    for what in ["web", &home.location("tls/web"), &old] {
        says(&home.certd(&["revoke", what]).await, 1, &[&in_the_way, "insist with --force"]);
    }
    assert_eq!(revoked(&home).await, [""; 0]);

    assert_eq!(home.certd(&["renew", "web"]).await.code, 0);
    server.present(&stored(&home, "tls/web").await);
    says(
        &home.certd(&["revoke", &old, "--reason", "superseded"]).await,
        0,
        &[
            &format!("{old} was revoked by internal on 20"),
            "it took no reason, so that superseded is in certd's journal alone",
        ],
    );
    assert_eq!(revoked(&home).await, std::slice::from_ref(&old));
    says(&home.certd(&["revoke", &old.to_uppercase()]).await, 0, &["was revoked by internal on 20", "already"]);
    assert_eq!(home.plan().await, rows(&[("web", "keep")]), "another than what is kept");
    says(
        &home.certd(&["journal"]).await,
        0,
        &[&format!("asked internal to revoke {old} (superseded)"), &format!("internal has revoked {old}")],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_insist_and_what_is_kept_is_then_replaced_by_the_certd_that_runs() {
    let (home, server) = renewed_and_served().await;
    let old = serial(&home).await;
    let daemon: Daemon = home.run().await;
    let forced = ["revoke", "web", "--force", "--reason", "key-compromise"];
    let denied = home.certd(&forced).await;
    let nothing = format!("nothing was revoked: internal did not revoke {old}: ");
    says(&denied, 2, &[&nothing, "certd vault policy --revoke"]);
    allow(&home).await;
    says(
        &home.certd(&forced).await,
        0,
        &[&format!("{old} was revoked by internal"), "certd replaces it where web is kept"],
    );
    daemon.until("revoked issuer=internal");
    assert_eq!(revoked(&home).await, std::slice::from_ref(&old));
    says(&home.certd(&["renew", "--due", "web"]).await, 0, &["renewed by internal"]);
    assert_ne!(serial(&home).await, old);
    let told = home.certd(&["journal", "--certificate", "web"]).await;
    says(&told, 0, &["(key_compromise), although it is served or may be", "began to renew (revoked)"]);
    drop(server);
}

#[tokio::test]
async fn what_cannot_be_looked_at_may_serve_it() {
    let home = Home::new(&declared("web")).await;
    allow(&home).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    home.configure(&served_by(&["127.0.0.1:1 sni=web.example.org".to_string()]));
    let old = serial(&home).await;
    let unseen = "127.0.0.1:1 sni=web.example.org may serve it and could not be looked at";
    says(&home.certd(&["revoke", "web"]).await, 1, &[unseen]);
    assert_eq!(revoked(&home).await, [""; 0]);
    says(&home.certd(&["revoke", "web", "--force"]).await, 0, &[&old]);
    assert_eq!(revoked(&home).await, [old]);
}

#[tokio::test]
async fn what_no_issuer_has_in_its_register_is_not_revoked() {
    let home = Home::new(&declared("web")).await;
    says(&home.certd(&["revoke", "web"]).await, 1, &["there is no certificate at", "name its serial number"]);
    says(
        &home.certd(&["revoke", "wbe"]).await,
        1,
        &["certd sees nothing of this name, and it is no serial number: wbe"],
    );
    says(&home.certd(&["revoke", "de:ad"]).await, 1, &["no issuer of the configuration has serial dead"]);
    let refused = home.certd(&["revoke", "web", "--reason", "whim"]).await;
    assert!(refused.code == 3 && refused.err.contains("one of: unspecified, key_compromise"), "{refused:?}");
}

#[tokio::test]
async fn the_right_to_revoke_is_in_no_policy_that_was_not_asked_for_it() {
    let home = Home::new(&declared("web")).await;
    let rule = format!("path \"{}/revoke\"", home.house.ca.mount);
    assert!(!home.certd(&["vault", "policy"]).await.out.contains(&rule));
    let asked = home.certd(&["vault", "policy", "--revoke"]).await;
    says(&asked, 0, &[&rule, "issuer internal revokes"]);
}

#[tokio::test]
async fn every_other_place_of_what_was_revoked_is_told() {
    let home = Home::new(&format!("{}{ADOPT}", declared("web"))).await;
    allow(&home).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let copied: serde_json::Map<String, Value> = home
        .fields("tls/web")
        .await
        .iter()
        .map(|(name, field)| (name.clone(), serde_json::from_str(field.get()).unwrap()))
        .collect();
    home.house.admin.put(&home.house.kv, "tls/other/copy", Value::Object(copied)).await;
    let old = serial(&home).await;
    let left = format!("; it is still at, and certd does not replace it there: {}", home.location("tls/other/copy"));
    let next = "; certd replaces it where web is kept, in its next turn";
    says(&home.certd(&["revoke", "web", "--why", "OPS-8"]).await, 0, &[&old, next, &left]);
}
