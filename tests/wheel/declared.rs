//! Certificates with a table of their own, kept in Vault.

use certd::domain::inventory::Sighting;
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::home::{ADOPT, Home, declared, rows, short_lived};
use crate::leaves::Leaf;

async fn names(home: &Home, path: &str) -> Vec<String> {
    match home.house.store(path).read().await {
        Sighting::Found(found) => found.leaf().names.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_certificate_is_issued_once_and_again_when_its_names_change() {
    let home = Home::new(&declared("web")).await;
    assert_eq!(home.plan().await, rows(&[("web", "renew missing")]));
    let renewed = home.certd(&["renew"]).await;
    assert!(renewed.out.starts_with("web: renewed by internal, ends on "), "{renewed:?}");
    assert_eq!(names(&home, "tls/web").await, ["web.example.org"]);

    let renewed = home.certd(&["renew"]).await;
    assert_eq!(renewed.out, "1 managed, 0 were due\n", "{renewed:?}");
    assert_eq!((home.version("tls/web").await, home.signed().await), (1, 1));

    home.configure(&declared("web").replace("[\"web", "[\"new.example.org\", \"web"));
    assert_eq!(home.plan().await, rows(&[("web", "renew names_changed")]));
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    assert_eq!(names(&home, "tls/web").await, ["new.example.org", "web.example.org"]);
    assert_eq!((home.version("tls/web").await, home.signed().await), (2, 2));
}

#[tokio::test]
async fn one_object_of_a_secret_may_be_declared_while_a_rule_keeps_the_others() {
    let home = Home::new(&format!("{ADOPT}{}", declared("web").replace("tls/web", "tls/all#web"))).await;
    let secret = json!({
        "web": home.old.secret(Leaf::due("web.example.org")), "api": home.old.secret(Leaf::fresh("api.example.org")),
    });
    home.house.admin.put(&home.house.kv, "tls/all", secret).await;
    let before = home.fields("tls/all").await;
    assert_eq!(home.plan().await, rows(&[("tls/all#api", "keep"), ("web", "renew key_type_changed")]));
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    assert_eq!(home.plan().await, rows(&[("tls/all#api", "keep"), ("web", "keep")]));
    let after = home.fields("tls/all").await;
    assert_eq!(after["api"].get(), before["api"].get());
    assert_eq!((home.version("tls/all").await, home.signed().await), (2, 1));

    // An object that is not there is not made, and no CA is asked.
    home.configure(&declared("web").replace("tls/web", "tls/all#none"));
    let renewed = home.certd(&["renew"]).await;
    assert!(renewed.out.contains("there is no such object in it"), "{renewed:?}");
    assert_eq!((home.version("tls/all").await, home.signed().await), (2, 1));
}

#[tokio::test]
async fn a_person_may_renew_at_any_time_by_a_running_certd_or_without_one() {
    let home = Home::new(&format!("{}{}", short_lived("web"), declared("api"))).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let renewed = home.certd(&["renew", "web"]).await;
    assert!(renewed.code == 0 && renewed.out.starts_with("web: renewed by internal"), "{renewed:?}");
    assert_eq!(home.version("tls/web").await, 2);

    let daemon = home.run().await;
    let renewed = home.certd(&["renew", "web"]).await;
    assert!(renewed.code == 0 && renewed.out.starts_with("web: renewed by internal"), "{renewed:?}");
    let kept = home.certd(&["renew", "--due", "web"]).await;
    assert!(kept.code == 0 && kept.out.starts_with("web: keep, due on "), "{kept:?}");
    assert_eq!((home.version("tls/web").await, home.version("tls/api").await), (3, 1));
    assert_eq!(daemon.metric("certd_renewal_attempts_total", "reason").await, [("forced".into(), 1.0)]);
    // A certificate of ninety days may be stored twice in seven.
    assert_eq!(home.certd(&["renew", "api"]).await.code, 0);
    let capped = home.certd(&["renew", "--force", "api"]).await;
    let told = "forced, weekly limit for this certificate reached (2 of 2); `certd renew --over-the-cap` passes it\n";
    assert!(capped.code == 1 && capped.out.ends_with(told), "{capped:?}");
    assert_eq!(home.version("tls/api").await, 2);
    let passed = home.certd(&["renew", "--over-the-cap", "api"]).await;
    assert!(passed.code == 0 && passed.out.starts_with("api: renewed by internal"), "{passed:?}");
    assert_eq!(home.version("tls/api").await, 3);
    let journal = home.certd(&["journal", "--certificate", "api"]).await;
    let noted = "api  a person passed the weekly limit: 2 stored and 0 not stored within 7 days\n";
    assert!(journal.out.contains(noted), "{journal:?}");
    let unknown = home.certd(&["renew", "wbe"]).await;
    assert_eq!(
        (unknown.code, unknown.out.as_str()),
        (2, "wbe: certd manages no such certificate — did you mean web?\n")
    );
}

/// The weekly limit is that of a place, and two certificates a week are the most for one of ninety days.
#[tokio::test]
async fn three_places_of_one_name_each_have_their_certificate() {
    let web = |name: &str| declared(name).replace(&format!("{name}.example.org"), "web.example.org");
    let home = Home::new(&["a", "b", "c"].map(web).concat()).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    for name in ["a", "b", "c"] {
        assert_eq!(names(&home, &format!("tls/{name}")).await, ["web.example.org"], "{name}");
    }
    assert_eq!(home.signed().await, 3);
}

#[tokio::test]
async fn another_key_passes_the_weekly_limit_and_somebody_who_overwrites_it_for_ever_is_waited_for() {
    let home = Home::new(&declared("api")).await;
    let mut renewed = 0;
    let stopped = loop {
        let answer = home.certd(&["renew", "--due", "api"]).await;
        if answer.code != 0 || renewed == 9 {
            break answer;
        }
        renewed += 1;
        let mut fields: Value = serde_json::to_value(home.fields("tls/api").await).unwrap();
        let key = fields.as_object_mut().unwrap().values_mut().find(|field| field.to_string().contains("PRIVATE KEY"));
        *key.unwrap() = home.old.secret(Leaf::fresh("api.example.org"))["private_key"].take();
        home.house.admin.put(&home.house.kv, "tls/api", fields).await;
    };
    assert_eq!((renewed, stopped.code, home.signed().await), (7, 1, 7), "{stopped:?}");
    assert!(stopped.out.contains(": key_mismatch, others keep replacing what certd stores there"), "{stopped:?}");
}

#[tokio::test]
async fn what_somebody_else_wrote_between_decision_and_write_survives() {
    let home = Home::new(ADOPT).await;
    home.put("tls/web", Leaf::due("web.example.org")).await;
    let gate = Gate::before(&home.house.admin.address, &["POST /v1/pki-"]);
    home.configure_by(&gate.address, ADOPT);
    let daemon = home.start();
    gate.wait();
    let theirs = Leaf { days: (-1, 400), ..Leaf::fresh("web.example.org") };
    assert_eq!(home.put("tls/web", theirs).await, 2);
    let there = home.house.admin.get(&home.house.kv, "tls/web").await;
    gate.open();
    daemon.until("turn completed");
    assert_eq!(home.house.admin.get(&home.house.kv, "tls/web").await, there);
    assert_eq!(daemon.metric("certd_certificate_state", "state").await, [("ok".into(), 1.0)]);
    assert_eq!(home.plan().await, rows(&[("tls/web", "keep")]));
}

#[tokio::test]
async fn what_somebody_else_wrote_right_before_the_write_is_a_conflict_and_survives() {
    let home = Home::new(ADOPT).await;
    home.put("tls/web", Leaf::due("web.example.org")).await;
    let write = format!("POST /v1/{}/data/tls/", home.house.kv);
    let gate = Gate::before(&home.house.admin.address, &[&write]);
    home.configure_by(&gate.address, ADOPT);
    let daemon = home.start();
    gate.wait();
    let theirs = Leaf { days: (-1, 400), ..Leaf::fresh("web.example.org") };
    assert_eq!(home.put("tls/web", theirs).await, 2);
    let there = home.house.admin.get(&home.house.kv, "tls/web").await;
    gate.open();
    daemon.until("turn completed");
    assert_eq!(daemon.metric("certd_vault_cas_conflicts_total", "vault").await, [("main".into(), 1.0)]);
    let renewed = home.certd(&["renew"]).await;
    assert_eq!(renewed.code, 0, "{renewed:?}");
    assert_eq!(home.house.admin.get(&home.house.kv, "tls/web").await, there);
    assert_eq!(home.signed().await, 1);
    assert_eq!(home.plan().await, rows(&[("tls/web", "keep")]));
}

#[tokio::test]
async fn a_secret_deleted_while_it_is_written_is_deleted_again_and_told() {
    let home = Home::new(ADOPT).await;
    home.put("tls/web", Leaf::due("web.example.org")).await;
    let write = format!("POST /v1/{}/data/tls/", home.house.kv);
    let gate = Gate::before(&home.house.admin.address, &[&write]);
    home.configure_by(&gate.address, ADOPT);
    let daemon = home.start();
    gate.wait();
    home.delete("tls/web").await;
    gate.open();
    let said = daemon.until("was deleted while certd wrote it");
    assert!(said.contains("version 2 is deleted again"), "{said}");
    daemon.until("turn completed");
    let metadata = format!("{}/metadata/tls/web", home.house.kv);
    let versions = home.house.admin.admin("GET", &metadata, Value::Null).await["data"]["versions"].clone();
    let deleted = |version: &str| !versions[version]["deletion_time"].as_str().unwrap().is_empty();
    assert_eq!((home.version("tls/web").await, deleted("1"), deleted("2")), (2, true, true), "{versions}");
    assert_eq!(home.plan().await, []);
}

#[tokio::test]
async fn what_certd_did_is_noted_beside_the_secret_and_what_others_noted_stays() {
    let home = Home::new(&declared("web")).await;
    let metadata = format!("{}/metadata/tls/web", home.house.kv);
    let theirs = json!({ "custom_metadata": { "team": "payments", "managed_by": "hand" } });
    home.house.admin.admin("POST", &metadata, theirs).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let first = home.house.admin.admin("GET", &metadata, Value::Null).await["data"]["custom_metadata"].clone();
    let Sighting::Found(found) = home.house.store("tls/web").read().await else { panic!("it is stored") };
    let leaf = found.leaf();
    let specification = first["specification_sha256"].clone();
    assert_eq!(specification.as_str().unwrap().len(), 64);
    let expected = json!({
        "team": "payments", "managed_by": "certd", "serial": leaf.serial, "not_after": leaf.not_after.to_string(),
        "fingerprint_sha256": leaf.fingerprint.to_string(), "specification_sha256": specification,
        "previous_version": "none",
    });
    assert_eq!(first, expected);

    assert_eq!(home.certd(&["renew", "web"]).await.code, 0);
    let second = home.house.admin.admin("GET", &metadata, Value::Null).await["data"]["custom_metadata"].clone();
    assert_eq!((&second["previous_version"], &second["specification_sha256"]), (&json!("1"), &specification));
    assert_ne!(second["serial"], first["serial"]);
}

#[tokio::test]
async fn a_renewal_does_not_fail_for_want_of_the_right_to_note_it() {
    let home = Home::new(&declared("web")).await;
    let policy = format!(
        r#"path "{kv}/data/*" {{ capabilities = ["create", "read", "update"] }}
           path "{kv}/destroy/certd/pending/*" {{ capabilities = ["update"] }}
           path "{}/sign/*" {{ capabilities = ["update"] }}"#,
        home.house.ca.mount,
        kv = home.house.kv
    );
    home.give_token(&home.house.admin.token(&policy).await);
    let daemon = home.start();
    let said = daemon.until("could not note what certd did beside");
    assert!(said.contains("give certd `patch` on"), "{said}");
    daemon.until("renewed, stored and read back");
    assert_eq!(home.version("tls/web").await, 1);
}

#[tokio::test]
async fn names_that_somebody_else_gave_it_between_decision_and_write_are_not_taken_back() {
    let home = Home::new(ADOPT).await;
    home.put("tls/web", Leaf::due("web.example.org")).await;
    let gate = Gate::before(&home.house.admin.address, &["POST /v1/pki-"]);
    home.configure_by(&gate.address, ADOPT);
    let daemon = home.start();
    gate.wait();
    // It ends before the one that is being signed.
    assert_eq!(home.put("tls/web", Leaf { days: (-1, 20), ..Leaf::fresh("new.example.org") }).await, 2);
    gate.open();
    daemon.until("turn completed");
    assert_eq!((names(&home, "tls/web").await, home.version("tls/web").await), (vec!["new.example.org".into()], 2));
}

#[tokio::test]
async fn a_secret_deleted_between_decision_and_write_stays_deleted_when_it_was_adopted() {
    let home = Home::new(ADOPT).await;
    home.put("tls/web", Leaf::due("web.example.org")).await;
    let gate = Gate::before(&home.house.admin.address, &["POST /v1/pki-"]);
    home.configure_by(&gate.address, ADOPT);
    let daemon = home.start();
    gate.wait();
    home.delete("tls/web").await;
    gate.open();
    daemon.until("turn completed");
    assert_eq!(home.version("tls/web").await, 1);
    assert_eq!(home.plan().await, []);
}
