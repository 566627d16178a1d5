//! Certificates that nobody listed.

use certd::domain::cert::{Certificate, KeyType};
use certd::domain::inventory::Sighting;
use serde_json::json;
use serde_json::value::RawValue;

use crate::home::{ADOPT, Home, declared, rows};
use crate::leaves::{Leaf, OldCa};

async fn leaf(home: &Home, path: &str) -> Certificate {
    match home.house.store(path).read().await {
        Sighting::Found(found) => {
            assert!(!found.key_differs() && found.stored_key.is_some());
            found.leaf().clone()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_due_certificate_under_a_path_is_found_renewed_written_back_and_its_metrics_change() {
    let home = Home::new(ADOPT).await;
    let names = ["web.example.org", "www.example.org"].map(String::from).to_vec();
    home.put("tls/prod/web", Leaf { names: names.clone(), ..Leaf::due("") }).await;
    let mut fields = home.fields("tls/prod/web").await;
    let odd = r#"{"x":1.0e3,"list":[1,null,"\u00fc"],"big":12345678901234567890}"#;
    fields.insert("odd".into(), RawValue::from_string(odd.into()).unwrap());
    fields.insert("owner".into(), RawValue::from_string("\"team payments\"".into()).unwrap());
    let path = format!("{}/tls/prod/web", home.house.kv);
    assert_eq!(home.house.vault.kv_write(&path, fields, 1).await.unwrap(), 2);
    let before = (home.fields("tls/prod/web").await, leaf(&home, "tls/prod/web").await);

    // Paused, so that the page shows how things stood before.
    assert_eq!(home.certd(&["pause", "--until", "1h"]).await.code, 0);
    let daemon = home.run().await;
    let name = home.location("tls/prod/web");
    let not_after = "certd_certificate_not_after_timestamp_seconds";
    assert_eq!(daemon.metric(not_after, "location").await, [(name.clone(), before.1.not_after.0 as f64)]);
    assert_eq!(daemon.metric("certd_certificate_state", "state").await, [("held".into(), 1.0)]);
    assert_eq!(daemon.metric("certd_certificate_problem", "problem").await, [("expiring".into(), 1.0)]);
    assert_eq!(daemon.metric("certd_renewal_attempts_total", "result").await, []);

    assert_eq!(home.certd(&["resume"]).await.code, 0);
    let said = daemon.until("renewed, stored and read back");
    assert!(said.contains(&name), "{said}");
    daemon.until("turn completed");

    let after = (home.fields("tls/prod/web").await, leaf(&home, "tls/prod/web").await);
    assert_eq!(home.version("tls/prod/web").await, 3);
    assert_eq!(after.0.keys().collect::<Vec<_>>(), before.0.keys().collect::<Vec<_>>());
    for field in ["odd", "owner"] {
        assert_eq!(after.0[field].get(), before.0[field].get());
    }
    assert_eq!((&after.1.names, after.1.key), (&before.1.names, KeyType::EcdsaP384));
    assert_ne!(after.1.public_key, before.1.public_key);
    assert_eq!(after.1.issuer_cn.as_deref(), Some("certd test root"));

    assert_eq!(daemon.metric(not_after, "location").await, [(name, after.1.not_after.0 as f64)]);
    assert_eq!(daemon.metric("certd_certificate_state", "state").await, [("ok".into(), 1.0)]);
    assert_eq!(daemon.metric("certd_certificate_problem", "problem").await, []);
    let page = daemon.page().await;
    for line in [
        "certd_renewal_attempts_total{issuer=\"internal\",reason=\"due\",result=\"renewed\"} 1",
        // The token may do no other thing at the CA.
        "certd_vault_requests_total{vault=\"main\",operation=\"sign\",code=\"200\"} 1",
        "certd_vault_cas_conflicts_total{vault=\"main\"} 0",
    ] {
        assert!(page.lines().any(|said| said == line), "{line}\nis not in\n{page}");
    }
    assert_eq!(home.signed().await, 1);
    assert!(daemon.stop().success());
}

#[tokio::test]
async fn a_place_that_certd_would_not_write_is_told_long_before_it_is_due_and_no_ca_hears_of_it() {
    let home = Home::new(ADOPT).await;
    let mut secret = home.old.secret(Leaf::fresh("web.example.org"));
    secret["ca_chain"] = json!(["https://ca.example.org"]);
    home.house.admin.put(&home.house.kv, "tls/prod/web", secret.clone()).await;
    let why =
        "the field `ca_chain` holds no certificate but something else, which certd would not overwrite: rename it";
    let checked = home.certd(&["check", "--format", "json"]).await.json();
    let told = json!({
        "problem": "unwritable", "severity": "warning", "message": format!("certd would not renew it here: {why}"),
    });
    assert_eq!(checked["certificates"][0]["problems"], json!([told]), "{checked}");
    assert_eq!(home.plan().await, rows(&[("tls/prod/web", "hold unwritable")]));
    // Not even where a person insists.
    let run = home.certd(&["renew", "--force", &home.location("tls/prod/web")]).await;
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!((home.signed().await, home.version("tls/prod/web").await), (0, 1));
    assert_eq!(home.house.admin.get(&home.house.kv, "tls/prod/web").await, (secret, 1));
}

#[tokio::test]
async fn what_is_foreign_or_abandoned_is_reported_and_no_ca_hears_of_it() {
    let home = Home::new(ADOPT).await;
    let (kv, admin) = (&home.house.kv, &home.house.admin);
    home.put("tls/name", Leaf::due("web.example.com")).await;
    admin.put(kv, "tls/root", OldCa::new().secret(Leaf::due("web.example.org"))).await;
    let (mut other_key, mut no_key) = (home.old.secret(Leaf::due("a.example.org")), json!({}));
    no_key["certificate"] = other_key["certificate"].clone();
    other_key["private_key"] = home.old.secret(Leaf::due("b.example.org"))["private_key"].clone();
    admin.put(kv, "tls/other-key", other_key).await;
    admin.put(kv, "tls/no-key", no_key).await;
    home.put("tls/ca", Leaf { is_ca: true, ..Leaf::due("web.example.org") }).await;
    home.put("tls/abandoned", Leaf::abandoned("web.example.org")).await;
    home.put("tls/expired", Leaf::expired("web.example.org")).await;
    home.put("tls/ours", Leaf::fresh("web.example.org")).await;

    let daemon = home.run().await;
    let checked = home.check().await;
    let problems = |path: &str| checked.iter().find(|(at, _)| at == path).unwrap().1.clone();
    for path in ["tls/name", "tls/root", "tls/other-key", "tls/no-key", "tls/ca"] {
        assert!(problems(path).split(' ').any(|word| word == "foreign"), "{path}: {}", problems(path));
    }
    for path in ["tls/abandoned", "tls/expired"] {
        assert_eq!(problems(path), "critical expired abandoned");
    }
    assert_eq!(home.plan().await, rows(&[("tls/ours", "keep")]));
    assert_eq!(home.signed().await, 0);
    let asked = daemon.metric("certd_vault_requests_total", "operation").await;
    assert!(asked.iter().all(|(operation, _)| operation != "sign" && operation != "write"), "{asked:?}");
}

#[tokio::test]
async fn a_secret_that_was_deleted_is_never_recreated() {
    let home = Home::new(ADOPT).await;
    home.put("tls/web", Leaf::fresh("web.example.org")).await;
    let daemon = home.run().await;
    assert_eq!(daemon.metric("certd_certificate_state", "state").await, [("ok".into(), 1.0)]);
    home.delete("tls/web").await;
    let web = home.location("tls/web");
    let renewed = home.certd(&["renew", &web]).await;
    assert_eq!((renewed.code, renewed.out), (2, format!("{web}: certd manages no such certificate\n")));
    assert_eq!((home.version("tls/web").await, home.signed().await), (1, 0));
    assert_eq!(daemon.metric("certd_certificate_state", "state").await, []);
}

#[tokio::test]
async fn each_object_of_a_secret_is_adopted_and_two_are_renewed_in_one_turn() {
    let home = Home::new(ADOPT).await;
    let of = |name: &str| home.old.secret(Leaf::due(name));
    let fresh = home.old.secret(Leaf::fresh("fresh.example.org"));
    let secret = json!({
        "web": of("web.example.org"), "api": { "tls": of("api.example.org") }, "fresh": fresh,
        "foreign": of("web.example.com"), "note": 0.10,
    });
    home.house.admin.put(&home.house.kv, "tls/all", secret).await;
    let keep = [("tls/all#fresh", "keep")];
    let due = [("tls/all#api/tls", "renew due"), keep[0], ("tls/all#web", "renew due")];
    assert_eq!(home.plan().await, rows(&due));
    let before = home.fields("tls/all").await;

    let daemon = home.run().await;
    assert_eq!((home.version("tls/all").await, home.signed().await), (3, 2));
    assert_eq!(home.plan().await, rows(&[("tls/all#api/tls", "keep"), keep[0], ("tls/all#web", "keep")]));
    let after = home.fields("tls/all").await;
    for field in ["fresh", "foreign", "note"] {
        assert_eq!(after[field].get(), before[field].get());
    }
    let foreign = home.check().await.into_iter().find(|(at, _)| at == "tls/all#foreign").unwrap().1;
    assert!(foreign.contains("foreign"), "{foreign}");
    let page = daemon.page().await;
    assert!(page.contains("certd_vault_cas_conflicts_total{vault=\"main\"} 0"), "{page}");

    // Who wrote it is noted for each by itself.
    let web = format!("{}/tls/all#web", home.house.kv);
    let history = home.certd(&["history", &web, "--format", "json"]).await.json();
    let by: Vec<_> = history["versions"].as_array().unwrap().iter().map(|row| row["by"].clone()).collect();
    assert!(by.contains(&json!("certd")) && by.last() == Some(&json!(null)), "{history}");

    // One alone, by its name; what becomes of another object is not its affair.
    let web = home.location("tls/all#web");
    let renewed = home.certd(&["renew", &web, "--force"]).await;
    assert_eq!(renewed.code, 0, "{renewed:?}");
    assert_eq!((home.version("tls/all").await, home.signed().await), (4, 3));
    let last = home.fields("tls/all").await;
    assert_eq!(last["api"].get(), after["api"].get());
    assert_ne!(last["web"].get(), after["web"].get());
    assert!(daemon.stop().success());
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_holds_each_of_its_objects_under_its_name() {
    let home = Home::new(ADOPT).await;
    let of = |name: &str| home.old.secret(Leaf::fresh(name));
    let secret = json!({ "web": of("web.example.org"), "api": of("api.example.org") });
    home.house.admin.put(&home.house.kv, "tls/all", secret).await;
    let daemon = home.run().await;
    let states = |daemon: &'static str| (daemon.to_string(), 1.0);
    assert_eq!(daemon.metric("certd_certificate_state", "state").await, [states("ok"), states("ok")]);
    let cert = "certd_certificate_state";
    let names = daemon.metric(cert, "cert").await;
    let mount = format!("{}/data/tls/*", home.house.kv);
    let list = format!("{}/metadata/tls/*", home.house.kv);
    let policy =
        format!("path \"{mount}\" {{ capabilities = [\"deny\"] }}\npath \"{list}\" {{ capabilities = [\"list\"] }}");
    home.give_token(&home.house.admin.token(&policy).await);
    daemon.reload();
    daemon.until("turn completed");
    assert_eq!(daemon.metric(cert, "cert").await, names, "the same series");
    assert_eq!(daemon.metric(cert, "state").await, [states("unknown"), states("unknown")]);
    assert!(daemon.stop().success());
}

#[tokio::test]
async fn two_rules_on_one_secret_are_held_and_a_declared_certificate_beats_them() {
    let second = ADOPT.replace("\"apps\"", "\"all\"").replace("KV/tls/**", "KV/tls/*");
    let home = Home::new(&format!("{ADOPT}{second}{}", declared("mine"))).await;
    home.put("tls/mine", Leaf::due("mine.example.org")).await;
    home.put("tls/both", Leaf::due("both.example.org")).await;
    home.put("tls/deep/one", Leaf::due("one.example.org")).await;
    let planned = rows(&[("mine", "renew key_type_changed"), ("tls/both", "hold two_rules")]);
    assert_eq!(home.plan().await, [planned, rows(&[("tls/deep/one", "renew due")])].concat());
    let renewed = home.certd(&["renew"]).await;
    assert_eq!(renewed.code, 1, "one of them is held: {renewed:?}");
    assert!(renewed.out.ends_with("\n3 managed, 2 were due\n"), "{renewed:?}");
    let explained = home.certd(&["explain", &home.location("tls/both")]).await;
    assert!(explained.out.contains("hold: two rules adopt it: apps, all\n"), "{explained:?}");
    assert_eq!(home.signed().await, 2);
    let versions = [home.version("tls/mine").await, home.version("tls/both").await, home.version("tls/deep/one").await];
    assert_eq!(versions, [2, 1, 2]);
}

#[tokio::test]
async fn a_secret_with_several_certificates_is_held_and_keeps_no_other_from_being_renewed() {
    let home = Home::new(ADOPT).await;
    let (one, two) = (home.old.secret(Leaf::due("one.example.org")), home.old.secret(Leaf::due("two.example.org")));
    let both = |field: &str| format!("{}{}", one[field].as_str().unwrap(), two[field].as_str().unwrap());
    let secret = json!({ "certificate": both("certificate"), "private_key": both("private_key") });
    home.house.admin.put(&home.house.kv, "tls/both", secret).await;
    home.put("tls/web", Leaf::due("web.example.org")).await;
    let planned = rows(&[("tls/both", "hold several_certificates"), ("tls/web", "renew due")]);
    assert_eq!(home.plan().await, planned);
    assert_eq!(home.certd(&["renew"]).await.code, 1, "one of them is held");
    assert_eq!((home.version("tls/both").await, home.version("tls/web").await, home.signed().await), (1, 2, 1));
}

#[tokio::test]
async fn each_rule_judges_by_its_own_roots() {
    let others = ADOPT.replace("\"apps\"", "\"others\"").replace("KV/tls/**", "KV/other/**");
    let others = others.replace("roots.pem", "other.pem");
    let home = Home::new(&format!("{others}{}", ADOPT.replace("KV/tls/**", "KV/tls/*"))).await;
    std::fs::write(home.path("other.pem"), OldCa::new().pem).unwrap();
    home.give_token(&home.house.admin.root_token);
    home.put("tls/web", Leaf::due("web.example.org")).await;
    let daemon = home.run().await;
    assert_eq!(home.version("tls/web").await, 2);
    assert_eq!(daemon.metric("certd_certificate_problem", "problem").await, []);
    assert_eq!(daemon.metric("certd_certificate_state", "state").await, [("ok".into(), 1.0)]);
}

#[tokio::test]
async fn of_two_hundred_exactly_the_five_that_are_due_are_written() {
    let home = Home::new(ADOPT).await;
    for i in 0..200 {
        let leaf = if i % 40 == 7 { Leaf::due } else { Leaf::fresh };
        home.put(&format!("tls/app-{i:03}"), leaf(&format!("app-{i:03}.example.org"))).await;
    }
    let daemon = home.run().await;
    let mut written = Vec::new();
    for i in 0..200 {
        if home.version(&format!("tls/app-{i:03}")).await != 1 {
            written.push(i);
        }
    }
    assert_eq!(written, [7, 47, 87, 127, 167]);
    assert_eq!(home.signed().await, 5);
    let standings = daemon.metric("certd_certificate_state", "state").await;
    assert_eq!(standings.iter().filter(|(state, _)| state == "ok").count(), 200);
    assert_eq!(daemon.metric("certd_renewal_attempts_total", "result").await, [("renewed".into(), 5.0)]);
}

/// Vault takes names in one text, separated by commas: this one would be two of them, and one not the rule's.
#[tokio::test]
async fn a_name_with_a_comma_in_it_is_foreign_and_no_ca_is_asked() {
    let home = Home::new(ADOPT).await;
    home.put("tls/web", Leaf::due("localhost,x.example.org")).await;
    let before = home.fields("tls/web").await;
    home.certd(&["renew"]).await;
    assert_eq!(home.plan().await, []);
    assert_eq!(home.check().await[0].1.split(' ').next_back(), Some("foreign"));
    assert_eq!((home.signed().await, home.version("tls/web").await), (0, 1));
    assert_eq!(home.fields("tls/web").await["certificate"].get(), before["certificate"].get());
}
