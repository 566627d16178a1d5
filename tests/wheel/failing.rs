//! A CA that refuses is not asked again and again.

use serde_json::json;

use crate::home::{ADOPT, Home, declared, leased, rows};
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

#[tokio::test]
async fn a_role_that_leases_its_certificates_is_an_alarm_and_nothing_is_stored() {
    let home = Home::new(&declared("web")).await;
    home.change_role(leased()).await;
    let renewed = home.certd(&["renew"]).await;
    assert_eq!(renewed.code, 2, "{renewed:?}");
    assert!(renewed.out.contains("set generate_lease=false on the role `servers`"), "{renewed:?}");
    assert_eq!(home.version("tls/web").await, 0);
    assert_eq!(home.plan().await, rows(&[("web", "defer backoff")]));
}
