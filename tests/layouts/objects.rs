//! Several certificates in one secret, each in an object of its own.

use certd::domain::inventory::Sighting;
use certd::domain::key::KeySpec;
use certd::domain::plan::Basis;
use certd::store::Written;
use serde_json::{Value, json};

use crate::ground::{At, Ground, Job, Row, UNKNOWN, base64, found, same_bytes};

#[tokio::test]
async fn each_object_is_renewed_alone_and_every_other_byte_stays() {
    let ground = Ground::new().await;
    let kind = KeySpec::EcdsaP256;
    let (web, api) = (ground.old(&kind).await, ground.old(&kind).await);
    let was = json!({
        "web": { "cert": web.chain(), "key": web.pkcs8, "port": 8443 },
        "deep": { "api": { "tls.crt": base64(&api.chain()), "tls.key": base64(&api.traditional), "note": "<&>" } },
    });
    ground.put("all", &format!("{{{UNKNOWN},{}", &was.to_string()[1..])).await;
    let stores =
        [("web", &web), ("deep/api", &api)].map(|(object, old)| (ground.house.store_of("all", Some(object)), old));
    // Both are decided on before either is written.
    let mut planned = Vec::new();
    for (store, old) in &stores {
        let seen = found("all", store.read().await);
        assert_eq!(seen.leaf().serial, old.serial.replace(':', ""));
        assert_eq!(seen.version, None, "a version is the secret's");
        planned.push(Basis { version: seen.version, fingerprint: Some(seen.leaf().fingerprint) });
    }
    let fields = [["/web/cert", "/web/key"], ["/deep/api/tls.crt", "/deep/api/tls.key"]];
    let mut jobs = Vec::new();
    for (i, (store, _)) in stores.iter().enumerate() {
        let certified = ground.certified(kind).await;
        let before = ground.raw("all").await;
        let written = store.write(&certified, &planned[i]).await.unwrap();
        assert_eq!(written, Written { version: Some(2 + i as u64), unchanged: false });
        let kept = same_bytes("all", &before, &ground.raw("all").await, |at| !fields[i].contains(&at));
        assert_eq!(found("all", store.read().await).leaf().fingerprint, certified.chain().leaf.fingerprint);
        let serial = certified.chain().leaf.serial.clone();
        jobs.push(Job { path: "all".to_string(), serial, at: At::Fields(fields[i][0], fields[i][1]) });
        let layout = format!("one object of several: {}", fields[i][0]);
        Row { layout, kept, readers: "bao, Python" }.print();
        // What it was planned on is gone now.
        let late = store.write(&ground.certified(kind).await, &planned[i]).await.unwrap_err().to_string();
        assert!(late.starts_with("it changed since it was read: vault:main:"), "{late}");
    }
    ground.read_by_python(&jobs);
    let read = ground.read("all").await;
    assert_eq!((&read["web"]["port"], &read["deep"]["api"]["note"]), (&json!(8443), &json!("<&>")));
    assert_eq!(
        ground.house.seen(&["all"], &[]).await,
        ["vault:all#deep/api web.example.org", "vault:all#web web.example.org"]
    );
}

#[tokio::test]
async fn an_object_that_is_gone_is_never_made_again_and_a_broken_one_hides_no_other() {
    let ground = Ground::new().await;
    let m = ground.old(&KeySpec::EcdsaP256).await;
    let pair = json!({ "cert": m.chain(), "key": m.pkcs8 });
    let broken: Value = json!({ "cert": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "key": "" });
    let both = json!({ "pem": m.leaf.clone() + &ground.old(&KeySpec::EcdsaP256).await.leaf });
    let data = json!({ "web": pair, "bad": broken, "both": both });
    ground.put("some", &data.to_string()).await;
    let expected = [
        "vault:some#bad not_understood",
        "vault:some#both/1 web.example.org v1",
        "vault:some#both/2 web.example.org v1",
        "vault:some#web web.example.org",
    ];
    assert_eq!(ground.house.seen(&["some"], &[]).await, expected);
    let gone = ground.house.store_of("some", Some("api"));
    assert_eq!(gone.read().await, Sighting::Absent);
    let error = gone.write(&ground.certified(KeySpec::EcdsaP256).await, &Basis::default()).await.unwrap_err();
    let why = "there is no such object in it, and certd makes none: put the certificate there, or name another";
    assert_eq!(error.to_string(), format!("not written: vault:main:{}/some#api: {why}", ground.house.kv));
    let nowhere = ground.house.store_of("nothing", Some("api"));
    assert_eq!(nowhere.read().await, Sighting::Absent);
    let error = nowhere.write(&ground.certified(KeySpec::EcdsaP256).await, &Basis::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("not written: vault:main:{}/nothing#api: {why}", ground.house.kv));
    // The one that is left is still found by its name.
    ground.put("some", &json!({ "web": pair }).to_string()).await;
    let left = ground.house.store_of("some", Some("web"));
    assert_eq!(found("some", left.read().await).leaf().serial, m.serial.replace(':', ""));
    assert_eq!(ground.house.admin.get(&ground.house.kv, "some").await, (json!({ "web": pair }), 2));
}
