//! What Vault holds against what is served, and keys that should not be where they are.

use certd::domain::inventory::Sighting;
use serde_json::{Value, json};

use crate::home::{ADOPT, Daemon, Home, declared, rows, short_lived};
use crate::house::{certified, fields};
use crate::leaves::Leaf;
use crate::served::Served;

/// `web`, declared, served by these targets.
pub fn served_by(targets: &[String]) -> String {
    declared("web") + &format!("serves = {targets:?}\n")
}

pub async fn stored(home: &Home, path: &str) -> Value {
    home.house.admin.get(&home.house.kv, path).await.0
}

/// The problems of a secret, and what is said of each.
async fn problems(home: &Home, path: &str) -> Vec<(String, String)> {
    let ran = home.certd(&["check", "--format", "json"]).await;
    let report = ran.json();
    let at = |line: &&Value| line["location"] == home.location(path);
    let line = report["certificates"].as_array().unwrap().iter().find(at).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    line["problems"].as_array().unwrap().iter().map(|p| (text(&p["problem"]), text(&p["message"]))).collect()
}

/// Of the certificate and of its endpoint.
async fn standings(daemon: &Daemon) -> Vec<String> {
    let mut states: Vec<String> =
        daemon.metric("certd_certificate_state", "state").await.into_iter().map(|(state, _)| state).collect();
    states.sort();
    states
}

// Waiting for the daemon must not keep the server from answering.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_not_reloaded_serves_an_older_version_until_it_is() {
    let home = Home::new("").await;
    home.configure(&short_lived("web"));
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let server = Served::at("127.0.0.1:0", &stored(&home, "tls/web").await).await;
    let target = format!("127.0.0.1:{} sni=web.example.org", server.port);
    let config = format!("{}lifetime = \"2d\"\n", served_by(std::slice::from_ref(&target)));
    home.configure(&config);
    assert_eq!(problems(&home, "tls/web").await, []);

    assert_eq!(home.certd(&["renew", "web"]).await.code, 0);
    assert_eq!(home.certd(&["renew", "web"]).await.code, 0);
    let told = rows(&[
        ("not_deployed", &format!("{target} serves another certificate: reload it")),
        ("older_version", &format!("{target} serves version 1")),
    ]);
    assert_eq!(problems(&home, "tls/web").await, told);
    let daemon = home.run().await;
    assert_eq!(standings(&daemon).await, ["drifted", "unmanaged"]);
    let times_served = async || home.certd(&["journal"]).await.out.matches("is to serve it does").count();
    assert_eq!(times_served().await, 0);

    server.present(&stored(&home, "tls/web").await);
    assert_eq!(problems(&home, "tls/web").await, []);
    for _ in 0..2 {
        daemon.reload();
        daemon.until("turn completed");
        assert_eq!(standings(&daemon).await, ["ok", "unmanaged"]);
        assert_eq!(times_served().await, 1);
    }
}

#[tokio::test]
async fn one_address_of_several_that_was_not_reloaded_is_told_by_itself() {
    let home = Home::new(&declared("web")).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let old = stored(&home, "tls/web").await;
    assert_eq!(home.certd(&["renew", "web"]).await.code, 0);
    let new = stored(&home, "tls/web").await;
    let port = Served::at("127.0.0.1:0", &new).await.port;
    for address in ["127.0.0.2", "127.0.0.3"] {
        Served::at(&format!("{address}:{port}"), &new).await;
    }
    Served::at(&format!("127.0.0.4:{port}"), &old).await;
    let addresses = r#"[addresses]
"web.example.org" = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]"#;
    let target = format!("web.example.org:{port}");
    home.configure(&format!("{}{addresses}\n", served_by(std::slice::from_ref(&target))));
    let told = rows(&[
        ("partly_deployed", &format!("1 of 2 serve it, {target} at 127.0.0.4 serves another certificate: reload it")),
        ("older_version", &format!("{target} at 127.0.0.4 serves version 1")),
    ]);
    assert_eq!(problems(&home, "tls/web").await, told);
}

#[tokio::test]
async fn an_adopted_certificate_is_compared_with_what_serves_its_names() {
    let home = Home::new(ADOPT).await;
    let (old, new) = (home.old.secret(Leaf::fresh("web.example.org")), Leaf::fresh("web.example.org"));
    home.house.admin.put(&home.house.kv, "tls/web", old.clone()).await;
    home.put("tls/web", new).await;
    let server = Served::at("127.0.0.1:0", &old).await;
    let target = format!("127.0.0.1:{}", server.port);
    home.configure(&format!(
        "[source.edge.tls]\ntargets = [\"{target} sni=web.example.org\"]\nroots = \"none\"\n{ADOPT}"
    ));
    let place = format!("{target} sni=web.example.org");
    let told = rows(&[
        ("not_deployed", &format!("{place} serves another certificate: reload it")),
        ("older_version", &format!("{place} serves version 1")),
    ]);
    assert_eq!(problems(&home, "tls/web").await, told);

    // Somebody got a certificate for the same name by another way.
    let theirs = home.old.secret(Leaf::fresh("web.example.org"));
    server.present(&theirs);
    let said = problems(&home, "tls/web").await;
    assert_eq!(said[1].0, "foreign");
    assert!(
        said[1].1.starts_with(&format!("{place} serves a certificate that Vault does not keep: serial ")),
        "{said:?}"
    );

    // It is kept, at another path: that is the one that is served.
    home.house.admin.put(&home.house.kv, "tls/other", theirs).await;
    assert_eq!(problems(&home, "tls/other").await, []);
}

#[tokio::test]
async fn the_certificate_with_another_chain_is_told() {
    let home = Home::new(&declared("web")).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let mut secret = stored(&home, "tls/web").await;
    // Its own leaf stands in for the intermediate that somebody else would have there.
    let stranger = home.old.secret(Leaf { is_ca: true, ..Leaf::fresh("ca.example.org") });
    secret["ca_chain"] = json!([stranger["certificate"]]);
    let server = Served::at("127.0.0.1:0", &secret).await;
    let target = format!("127.0.0.1:{} sni=web.example.org", server.port);
    home.configure(&served_by(std::slice::from_ref(&target)));
    let said = format!("{target} serves it with another chain than is stored: 1 intermediates in place of 0");
    assert_eq!(problems(&home, "tls/web").await, rows(&[("chain_differs", &said)]));
}

#[tokio::test]
async fn a_version_that_vault_deletes_before_it_ends_is_told_and_renewed_all_the_same() {
    let home = Home::new("").await;
    let config = format!("{}/config", home.house.kv);
    home.house.admin.admin("POST", &config, json!({ "delete_version_after": "48h", "cas_required": true })).await;
    home.configure(&declared("web"));
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    assert_eq!(home.certd(&["renew", "web"]).await.code, 0);
    let said = problems(&home, "tls/web").await;
    assert_eq!(said[0].0, "deletion_ahead");
    let beginning = "Vault deletes this version on ";
    assert!(said[0].1.starts_with(beginning) && said[0].1.ends_with("set delete_version_after=0s there"), "{said:?}");
    assert_eq!((said.len(), home.version("tls/web").await), (1, 2));
}

#[tokio::test]
async fn one_key_in_production_and_development_or_of_two_owners_is_told_on_both() {
    let home = Home::new("").await;
    let secret = home.old.secret(Leaf::fresh("web.example.org"));
    for path in ["tls/prod/web", "tls/dev/web", "tls/team-a/web", "tls/team-b/web"] {
        home.house.admin.put(&home.house.kv, path, secret.clone()).await;
    }
    let source = |name: &str| {
        format!(
            "[source.{name}.vault_kv]\nvault = \"main\"\npaths = [\"KV/tls/{name}/**\"]\nenvironment = \"{name}\"\n"
        )
    };
    home.configure(&(source("prod") + &source("dev")));
    let said = |path: &str, whose: &str| {
        let message = format!("its key is that of {} too, of {whose}", home.location(path));
        rows(&[("shared_key", &message)])
    };
    assert_eq!(problems(&home, "tls/prod/web").await, said("tls/dev/web", "environment dev"));
    assert_eq!(problems(&home, "tls/dev/web").await, said("tls/prod/web", "environment prod"));

    let rule = |team: &str| {
        let rule = ADOPT.replace("apps", team).replace("KV/tls/**", &format!("KV/tls/{team}/**"));
        format!("{rule}owner = \"{team}\"\n")
    };
    home.configure(&(rule("team-a") + &rule("team-b")));
    assert_eq!(problems(&home, "tls/team-a/web").await, said("tls/team-b/web", "owner team-b"));
    assert_eq!(problems(&home, "tls/team-b/web").await, said("tls/team-a/web", "owner team-a"));
}

#[tokio::test]
async fn a_key_that_outlives_so_many_renewals_is_told() {
    let home = Home::new("").await;
    let source = "[source.apps.vault_kv]\nvault = \"main\"\npaths = [\"KV/tls/**\"]\n";
    let leaf = || Leaf::fresh("web.example.org");
    let mut kept = home.old.secret(leaf());
    home.house.admin.put(&home.house.kv, "tls/web", kept.clone()).await;
    for _ in 0..2 {
        kept = home.old.again(leaf(), &kept);
        home.house.admin.put(&home.house.kv, "tls/web", kept.clone()).await;
    }
    home.put("tls/rotated", leaf()).await;
    home.put("tls/rotated", leaf()).await;
    home.configure(&format!("[check]\nsame_key_renewals = 2\n{source}"));
    let said = "its key is the same through the last 2 renewals: have a new one made";
    assert_eq!(problems(&home, "tls/web").await, rows(&[("key_unchanged", said)]));
    assert_eq!(problems(&home, "tls/rotated").await, []);
    home.configure(&format!("[check]\nsame_key_renewals = 3\n{source}"));
    assert_eq!(problems(&home, "tls/web").await, []);
    home.configure(source);
    assert_eq!(problems(&home, "tls/web").await, []);
}

// Waiting for certd must not keep the server from answering.
#[tokio::test(flavor = "multi_thread")]
async fn what_its_issuer_revoked_is_told_wherever_it_is_and_renewed() {
    let home = Home::new("").await;
    home.configure(&declared("web"));
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let server = Served::at("127.0.0.1:0", &stored(&home, "tls/web").await).await;
    let target = format!("127.0.0.1:{} sni=web.example.org", server.port);
    home.configure(&served_by(std::slice::from_ref(&target)));
    let Sighting::Found(found) = home.house.store("tls/web").read().await else { panic!("it is stored") };
    let serial: Vec<String> =
        found.leaf().serial.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned()).collect();
    let revoke = format!("{}/revoke", home.house.ca.mount);
    home.house.admin.admin("POST", &revoke, json!({ "serial_number": serial.join(":") })).await;

    let told = home.check().await;
    assert_eq!(told, rows(&[(target.as_str(), "critical revoked"), ("tls/web", "critical revoked")]));
    assert_eq!(home.plan().await, rows(&[("web", "renew revoked")]));
    let daemon = home.run().await;
    assert_eq!(home.version("tls/web").await, 2);
    assert_eq!(daemon.metric("certd_renewal_attempts_total", "reason").await, [("revoked".into(), 1.0)]);
    assert_eq!(home.plan().await, rows(&[("web", "keep")]), "once, and no more");
    let stale = "warning not_deployed older_version";
    assert_eq!(home.check().await, rows(&[(target.as_str(), "critical revoked"), ("tls/web", stale)]));
    server.present(&stored(&home, "tls/web").await);
    assert_eq!(home.check().await, rows(&[(target.as_str(), "ok"), ("tls/web", "ok")]));
}

#[tokio::test]
async fn a_served_certificate_that_no_secret_keeps_is_told_with_the_issuer_that_knows_it() {
    let home = Home::new(&declared("web")).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let theirs = fields(&certified(&home.house.issuer, &["web.example.org"]).await);
    let server = Served::at("127.0.0.1:0", &theirs).await;
    let target = format!("127.0.0.1:{} sni=web.example.org", server.port);
    home.configure(&served_by(std::slice::from_ref(&target)));
    let said = problems(&home, "tls/web").await;
    assert_eq!(said[1].0, "foreign");
    let beginning = format!("{target} serves a certificate that Vault does not keep: serial ");
    assert!(said[1].1.starts_with(&beginning) && said[1].1.ends_with(", issued by internal"), "{said:?}");
}

#[tokio::test]
async fn an_issuer_that_does_not_tell_what_it_revoked_is_trouble_and_no_reason() {
    let home = Home::new(&declared("web")).await;
    let policy = format!(
        r#"path "{}/*" {{ capabilities = ["create", "read", "update", "patch"] }}
           path "{}/sign/*" {{ capabilities = ["update"] }}"#,
        home.house.kv, home.house.ca.mount
    );
    home.give_token(&home.house.admin.token(&policy).await);
    let daemon = home.start();
    let said = daemon.until("it is not known which certificates it revoked");
    assert!(said.contains("issuer internal") && said.contains("give certd `list` on"), "{said}");
    daemon.until("turn completed");
    assert_eq!(home.plan().await, rows(&[("web", "keep")]));
}
