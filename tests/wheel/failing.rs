//! A CA that refuses is not asked again and again.

use serde_json::{Value, json};

use crate::home::{ADOPT, Home, declared, rows};
use crate::leaves::Leaf;

#[tokio::test]
async fn a_ca_that_refuses_is_left_alone_for_a_minute_even_by_a_certd_that_was_restarted() {
    let home = Home::new(&declared("web")).await;
    home.change_role(json!({ "allowed_domains": ["example.net"] })).await;
    let asked = |signs: Vec<(String, f64)>| signs.iter().filter(|(operation, _)| operation == "sign").count();
    let daemon = home.run().await;
    assert_eq!(daemon.metric("certd_renewal_attempts_total", "result").await, [("failed".into(), 1.0)]);
    assert_eq!(daemon.metric("certd_renewal_consecutive_failures", "cert").await, [("web".into(), 1.0)]);
    assert_eq!(daemon.metric("certd_certificate_state", "state").await, [("failing".into(), 1.0)]);
    assert_eq!(home.plan().await, rows(&[("web", "defer backoff")]));
    assert!(daemon.stop().success());

    let daemon = home.run().await;
    assert_eq!(asked(daemon.metric("certd_vault_requests_total", "operation").await), 0);
    assert_eq!(home.plan().await, rows(&[("web", "defer backoff")]));

    let refused = home.certd(&["renew", "--due", "web"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.out.contains("web.example.org not allowed by this role"), "{refused:?}");
    assert_eq!(daemon.metric("certd_renewal_consecutive_failures", "cert").await, [("web".into(), 2.0)]);

    home.change_role(json!({ "allowed_domains": ["example.org"] })).await;
    assert_eq!(home.plan().await, rows(&[("web", "defer backoff")]));
    assert_eq!(home.certd(&["renew", "--due", "web"]).await.code, 0);
    assert_eq!((home.version("tls/web").await, home.signed().await), (1, 1));
    assert_eq!(daemon.metric("certd_renewal_consecutive_failures", "cert").await, []);
}

#[tokio::test]
async fn a_refused_renewal_leaves_what_is_there_as_it_is() {
    let home = Home::new(ADOPT).await;
    home.change_role(json!({ "allowed_domains": ["example.net"] })).await;
    home.put("tls/web", Leaf::due("web.example.org")).await;
    let before = home.house.admin.get(&home.house.kv, "tls/web").await;
    let refused = home.certd(&["renew"]).await;
    assert!(refused.code == 2 && refused.out.contains("not allowed by this role"), "{refused:?}");
    assert_eq!(home.house.admin.get(&home.house.kv, "tls/web").await, before);
    assert_eq!(home.plan().await, rows(&[("tls/web", "defer backoff")]));
}

/// The serials of what the CA has signed.
async fn serials(home: &Home) -> Vec<String> {
    let listed = home.house.admin.admin("LIST", &format!("{}/certs", home.house.ca.mount), Value::Null).await;
    listed["data"]["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_string()).collect()
}

/// Every event that was ever written, as it stands in the file.
fn journal(home: &Home) -> String {
    String::from_utf8_lossy(&std::fs::read(home.path("state/journal.redb")).unwrap()).into_owned()
}

#[tokio::test]
async fn what_a_role_signs_with_a_lease_is_an_alarm_with_its_serial_and_nothing_is_stored() {
    let home = Home::new(&declared("web")).await;
    home.change_role(json!({ "generate_lease": true })).await;
    let before = serials(&home).await;
    let daemon = home.start();
    let alarm = daemon.until("could not renew");
    daemon.until("turn completed");
    let mut signed = serials(&home).await;
    signed.retain(|serial| !before.contains(serial));
    assert_eq!(signed.len(), 1, "the token may not read the role");
    let told = format!("and revoke what it has signed and nobody uses, serial {}", signed[0]);
    assert!(alarm.contains("ERROR") && alarm.contains(&told), "{alarm}");
    assert_eq!(daemon.metric("certd_renewal_consecutive_failures", "cert").await, [("web".into(), 1.0)]);
    assert_eq!(home.version("tls/web").await, 0);
    assert_eq!(home.plan().await, rows(&[("web", "defer backoff")]));
    let checked = home.certd(&["check"]).await;
    assert!(checked.out.contains(&told), "{checked:?}");
    assert!(daemon.stop().success());
    assert!(journal(&home).contains(&told));
}

#[tokio::test]
async fn a_role_that_leases_is_refused_before_it_signs_where_certd_may_read_it() {
    let home = Home::new(&declared("web")).await;
    home.give_token(&home.house.admin.root_token);
    home.change_role(json!({ "generate_lease": true })).await;
    let renewed = home.certd(&["renew"]).await;
    assert_eq!(renewed.code, 2, "{renewed:?}");
    assert!(renewed.out.contains("nothing was signed") && renewed.out.contains("generate_lease=false"), "{renewed:?}");
    assert_eq!((home.signed().await, home.version("tls/web").await), (0, 0));
    home.change_role(json!({ "generate_lease": false })).await;
    assert_eq!(home.certd(&["renew", "web"]).await.code, 0);
    assert_eq!((home.signed().await, home.version("tls/web").await), (1, 1));
}

#[tokio::test]
async fn what_was_signed_in_vain_is_told_although_the_next_issuer_signs() {
    let second = "[issuer.leasing.vault_pki]\nvault = \"main\"\nmount = \"PKI\"\nrole = \"leasing\"\n";
    let web = declared("web").replace("\"internal\"", "[\"leasing\", \"internal\"]");
    let home = Home::new(&format!("{second}{web}")).await;
    let role = format!("{}/roles/servers", home.house.ca.mount);
    let mut leasing = home.house.admin.admin("GET", &role, Value::Null).await["data"].clone();
    leasing["generate_lease"] = true.into();
    home.house.admin.admin("POST", &format!("{}/roles/leasing", home.house.ca.mount), leasing).await;
    let before = serials(&home).await;
    let daemon = home.start();
    let alarm = daemon.until("asking the next issuer");
    daemon.until("renewed, stored and read back");
    daemon.until("turn completed");
    let mut signed = serials(&home).await;
    signed.retain(|serial| !before.contains(serial));
    let named: Vec<&String> = signed.iter().filter(|serial| alarm.contains(serial.as_str())).collect();
    assert_eq!((signed.len(), named.len()), (2, 1), "{alarm}");
    assert!(alarm.contains("ERROR") && alarm.contains("leasing"), "{alarm}");
    assert_eq!(home.version("tls/web").await, 1);
    assert_eq!(daemon.metric("certd_renewal_consecutive_failures", "cert").await, []);
    assert!(daemon.stop().success());
    assert!(journal(&home).contains(named[0].as_str()));
}

#[tokio::test]
async fn config_check_tells_of_a_role_that_keeps_no_record_of_what_it_signs() {
    let home = Home::new(&declared("web")).await;
    home.give_token(&home.house.admin.root_token);
    let told = "issuer internal: its role keeps no record of what it signs (no_store)";
    let kept = home.certd(&["config", "check"]).await;
    assert!(kept.code == 0 && !kept.out.contains(told) && kept.err.is_empty(), "{kept:?}");
    home.change_role(json!({ "no_store": true })).await;
    let ran = home.certd(&["config", "check"]).await;
    assert!(ran.code == 0 && ran.out.contains(told), "{ran:?}");
}

#[tokio::test]
async fn somebody_who_keeps_replacing_what_is_stored_is_told_and_certd_stops() {
    let home = Home::new(ADOPT).await;
    home.put("tls/web", Leaf::due("web.example.org")).await;
    for _ in 0..2 {
        assert_eq!(home.certd(&["renew"]).await.code, 0);
        home.put("tls/web", Leaf::due("web.example.org")).await;
    }
    assert_eq!(home.plan().await, rows(&[("tls/web", "defer contested")]));
    let version = home.version("tls/web").await;
    assert_eq!(home.certd(&["renew", &home.location("tls/web")]).await.code, 1, "not for a person, either");
    assert_eq!((home.version("tls/web").await, home.signed().await), (version, 2));
    let checked = home.certd(&["check"]).await;
    assert!(checked.code == 2 && checked.out.contains("others keep replacing what certd stores there"), "{checked:?}");
}

#[tokio::test]
async fn what_is_issued_in_vain_is_a_problem_until_a_renewal_succeeds() {
    let web = format!("{}lifetime = \"30d\"\n", declared("web"));
    let home = Home::new(&web).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    // Where nothing is kept, a short one would be better than none.
    home.change_role(json!({ "max_ttl": "24h" })).await;
    home.configure(&web.replace("[\"web", "[\"new.example.org\", \"web"));
    assert_eq!(home.certd(&["renew"]).await.code, 2);
    let told = |checked: &str| checked.contains("could not be used: its lifetime is");
    let checked = home.certd(&["check"]).await;
    assert!(checked.code == 2 && told(&checked.out), "{checked:?}");
    home.change_role(json!({ "max_ttl": "2160h" })).await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    let checked = home.certd(&["check"]).await;
    assert!(checked.code == 0 && !told(&checked.out), "{checked:?}");
}

#[tokio::test]
async fn a_ca_that_asks_for_patience_is_left_alone_for_as_long_by_all_that_it_signs_for() {
    let home = Home::new(&format!("{}{}", declared("api"), declared("web"))).await;
    let (admin, sign) = (&home.house.admin, format!("{}/sign/{}", home.house.ca.mount, home.house.ca.role));
    admin.admin("POST", "sys/quotas/config", json!({ "enable_rate_limit_response_headers": true })).await;
    let quota = json!({ "path": sign, "rate": 1, "interval": "2h" });
    admin.admin("POST", &format!("sys/quotas/rate-limit/{}", home.house.ca.mount), quota).await;
    // The one request that it allows in two hours.
    assert_eq!(admin.call(&admin.root_token, "POST", &sign, json!({})).await.0, 400);
    let daemon = home.run().await;
    assert_eq!(home.plan().await, rows(&[("api", "defer backoff"), ("web", "defer issuer_down")]));
    let told = home.certd(&["journal"]).await.out;
    let waits: Vec<&str> = told.split("internal failed and asks for ").skip(1).collect();
    assert_eq!(waits.len(), 1, "one attempt tells for all: {told}");
    let wait: u64 = waits[0].split(' ').next().unwrap().parse().unwrap();
    assert!((7_100..=7_200).contains(&wait), "{told}");
    let until = daemon.metric("certd_issuer_backoff_until_timestamp_seconds", "issuer").await;
    let ahead = until[0].1 - crate::house::now().0 as f64;
    assert!((7_000.0..=7_200.0).contains(&ahead), "{until:?}");
    assert_eq!(home.signed().await, 0);
}
