//! Each way to prove a name, before a CA that looks for itself.

use crate::home::{HTTP, World, scripted};
use crate::support::acme_server::Script;
use crate::support::pebble::Settings;

const TLS: &str = "challenge.tls_alpn_01 = { listen = [\"TLS\"] }\n";

#[tokio::test]
async fn names_and_addresses_are_proved_by_http_01() {
    let world = World::new(Settings::default()).await;
    world.home.configure(HTTP, &["www.example.test", "api.example.test", "127.0.0.1"]);
    let leaf = world.home.renewed().await;
    let names: Vec<String> = leaf.names.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in ["www.example.test", "api.example.test", "127.0.0.1"] {
        assert!(names.contains(&name.to_string()), "{names:?}");
    }
    let journal = world.home.journal().await;
    for step in ["placed an order at public", "proved the names to public", "has a certificate to fetch from public"] {
        assert_eq!(journal.matches(step).count(), 1, "{journal}");
    }
}

#[tokio::test]
async fn names_and_addresses_are_proved_by_tls_alpn_01() {
    let world = World::new(Settings::default()).await;
    world.home.configure(TLS, &["www.example.test", "127.0.0.1"]);
    assert_eq!(world.home.renewed().await.names.len(), 2);
}

#[tokio::test]
async fn what_the_ca_holds_to_be_proved_still_is_not_proved_again() {
    let world = World::new(Settings { authorization_reuse: 100, ..Settings::default() }).await;
    world.home.configure(HTTP, &["www.example.test"]);
    let first = world.home.renewed().await;
    let looked = || world.pebble.log().matches("Attempting to validate").count();
    let before = looked();
    assert!(before > 0);
    let again = world.home.certd(&["renew", "--force", "web"]).await;
    assert_eq!(again.code, 0, "{again:?}");
    assert_ne!(world.home.leaf().serial, first.serial);
    assert_eq!(looked(), before);
}

#[tokio::test]
async fn a_hundred_names_are_one_order_and_one_more_is_refused_with_the_configuration() {
    let world = World::new(Settings::default()).await;
    let names: Vec<String> = (0..101).map(|nth| format!("n{nth}.example.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.home.configure(HTTP, &names);
    let refused = world.home.certd(&["config", "check"]).await;
    assert!(refused.code != 0 && refused.err.contains("more names than 100"), "{refused:?}");
    world.home.configure(HTTP, &names[..100]);
    assert_eq!(world.home.renewed().await.names.len(), 100);
}

#[tokio::test]
async fn a_name_of_another_script_is_ordered_as_the_dns_has_it() {
    let world = World::new(Settings::default()).await;
    world.home.configure(HTTP, &["bücher.example.test"]);
    assert_eq!(world.home.renewed().await.names[0].to_string(), "xn--bcher-kva.example.test");
}

#[tokio::test]
async fn a_challenge_that_fails_is_told_with_the_name_and_what_to_do() {
    let world = World::new(Settings::default()).await;
    world.dns.set_servfail("gone.example.test").await;
    world.home.configure(HTTP, &["www.example.test", "gone.example.test"]);
    let failed = world.home.certd(&["renew", "web"]).await;
    assert_eq!(failed.code, 2, "{failed:?}");
    for told in ["the names could not be proved", "gone.example.test: ", " — the CA could not"] {
        assert!(failed.out.contains(told), "{failed:?}");
    }
}

#[tokio::test]
async fn what_no_configured_challenge_can_prove_is_refused_with_the_configuration() {
    let (_server, home) = scripted(Script::default());
    let by_dns = "challenge.dns_persist_01 = {}\n";
    for (issuer, name, needs) in [
        (HTTP, "*.example.test", "it takes dns_01 or dns_persist_01"),
        (by_dns, "192.0.2.1", "it takes http_01 or tls_alpn_01"),
        (HTTP, "ops@example.test", "it takes another issuer"),
    ] {
        home.configure(issuer, &[name]);
        let refused = home.certd(&["config", "check"]).await;
        assert!(refused.code != 0 && refused.err.contains("cannot have this proved"), "{refused:?}");
        assert!(refused.err.contains(needs), "{refused:?}");
    }
    home.configure("challenge.http_01 = { listen = [] }\n", &["www.example.test"]);
    let refused = home.certd(&["config", "check"]).await;
    assert!(refused.code != 0 && refused.err.contains("no address to listen at"), "{refused:?}");
}

#[tokio::test]
async fn a_name_that_the_ca_does_not_certify_is_refused_in_its_own_words() {
    let blocked_domains = vec!["blocked.test".to_string()];
    let world = World::new(Settings { blocked_domains, ..Settings::default() }).await;
    world.home.configure(HTTP, &["www.blocked.test"]);
    let refused = world.home.certd(&["renew", "web"]).await;
    assert!(refused.out.contains("rejectedIdentifier") && refused.out.contains("does not certify"), "{refused:?}");
}
