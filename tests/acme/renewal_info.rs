//! When the CA would have a certificate renewed (RFC 9773).

use std::time::Duration;

use crate::fallback::keep;
use crate::home::{Ca, HTTP, Home, World, scripted};
use crate::support::acme_server::{DAY, Kind, Script, Window};
use crate::support::pebble::Settings;

fn informed(window: Window) -> (Ca, Home) {
    let explanation = Some("https://ca.example/why".to_string());
    scripted(Script { window: Some(window), explanation, ..Script::default() })
}

async fn renew_at(home: &Home) -> jiff::Timestamp {
    let decision = home.decision().await;
    decision["renew_at"].as_str().unwrap_or_else(|| panic!("{decision}")).parse().unwrap()
}

fn days_from_now(at: jiff::Timestamp) -> i64 {
    (at.as_second() - jiff::Timestamp::now().as_second()).div_euclid(DAY)
}

#[tokio::test]
async fn the_moment_lies_in_the_window_and_is_the_same_after_every_restart() {
    let (server, home) = informed(Window::from_now(10 * DAY, 12 * DAY));
    home.renewed().await;
    assert_eq!(home.certd(&["renew"]).await.code, 0, "asked for advice once it is there");
    let at = renew_at(&home).await;
    assert!((10..12).contains(&days_from_now(at)), "{at}");
    home.certd(&["renew"]).await;
    assert_eq!(renew_at(&home).await, at);
    assert_eq!(server.count(Kind::RenewalInfo), 1, "it said that six hours are soon enough");
    assert_eq!(server.requests_inside_retry_after().len(), 0);
    let explained = home.certd(&["explain", "web"]).await.out;
    assert!(explained.contains("advised") && explained.contains("see https://ca.example/why"), "{explained}");
}

#[tokio::test]
async fn a_window_that_has_passed_is_a_reason_to_renew_and_the_order_says_what_it_replaces() {
    let (server, home) = informed(Window::from_now(20 * DAY, 21 * DAY));
    let first = home.renewed().await;
    server.set_window(&first.serial, Window::from_now(-2 * DAY, -DAY));
    let renewed = home.certd(&["renew"]).await;
    assert_eq!(renewed.code, 0, "{renewed:?}");
    assert_ne!(home.leaf().serial, first.serial);
    let journal = home.journal().await;
    assert!(journal.contains("began to renew (advised)"), "{journal}");
    let placed = server.requests().into_iter().filter(|seen| seen.kind == Kind::NewOrder).map(|seen| seen.payload);
    let replaces: Vec<bool> = placed.map(|payload| payload["replaces"].is_string()).collect();
    assert_eq!(replaces, [false, true]);
    home.certd(&["renew"]).await;
    assert_eq!(server.issued().len(), 2, "the new one has a window of its own");
}

#[tokio::test]
async fn a_window_that_moves_earlier_is_told_with_the_reason_that_the_ca_gives() {
    let (server, home) = informed(Window::from_now(40 * DAY, 41 * DAY));
    server.change(|script| script.renewal_retry_after = Some("1".to_string()));
    let leaf = home.renewed().await;
    home.certd(&["renew"]).await;
    server.set_window(&leaf.serial, Window::from_now(30 * DAY, 31 * DAY));
    home.certd(&["renew"]).await;
    assert_eq!(server.count(Kind::RenewalInfo), 1, "no more often than once a minute");
    tokio::time::sleep(Duration::from_secs(61)).await;
    let told = home.certd(&["renew"]).await;
    assert!(told.err.contains("renewed earlier than before: https://ca.example/why"), "{told:?}");
    assert!(
        (29..=30).contains(&days_from_now(renew_at(&home).await)),
        "a window of a day, of which a minute has passed"
    );
}

#[tokio::test]
async fn a_window_that_comes_after_the_own_policy_changes_nothing() {
    let (_server, home) = informed(Window::from_now(70 * DAY, 71 * DAY));
    home.renewed().await;
    let own = renew_at(&home).await;
    home.certd(&["renew"]).await;
    assert_eq!(renew_at(&home).await, own);
}

#[tokio::test]
async fn a_window_that_is_none_is_told_and_passed_over() {
    let (_server, home) = informed(Window::from_now(2 * DAY, DAY));
    home.renewed().await;
    let own = renew_at(&home).await;
    let told = home.certd(&["renew"]).await;
    assert!(told.err.contains("window ends before it begins"), "{told:?}");
    assert_eq!(renew_at(&home).await, own);
}

#[tokio::test]
async fn a_server_that_does_not_echo_what_is_replaced_has_its_order_carried_out() {
    let (server, home) = scripted(Script { echo_replaces: false, ..Script::default() });
    home.renewed().await;
    assert_eq!(home.certd(&["renew", "--force", "web"]).await.code, 0);
    assert_eq!((server.count(Kind::NewOrder), server.issued().len()), (2, 2));
}

#[tokio::test]
async fn an_order_that_is_refused_for_what_it_replaces_is_placed_without_saying_so() {
    // As Pebble says that does not know the order of before, for it has another database or is not yet ready.
    let of_pebble = "could not find an order for the given certificate: could not find order resulting in the given \
                     certificate serial number";
    for (refusal, orders, code) in [
        (("alreadyReplaced", "another order replaces it"), 2, 0),
        (("malformed", "no such certificate"), 2, 0),
        (("serverInternal", of_pebble), 2, 0),
        (("serverInternal", "the database is away"), 1, 2),
        (("rateLimited", "too many orders"), 1, 2),
    ] {
        let (server, home) = scripted(Script::default());
        home.renewed().await;
        server.change(|script| script.refuse_replaces = Some(refusal));
        let renewed = home.certd(&["renew", "--force", "web"]).await;
        assert_eq!(renewed.code, code, "{refusal:?}: {renewed:?}");
        assert_eq!(server.count(Kind::NewOrder) - 1, orders, "{refusal:?}");
    }
}

#[tokio::test]
async fn without_renewal_information_the_own_policy_decides() {
    let (server, home) = scripted(Script { renewal_info: false, ..Script::default() });
    home.renewed().await;
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    assert_eq!(server.count(Kind::RenewalInfo), 0);
    assert!(days_from_now(renew_at(&home).await) > 50);
}

#[tokio::test]
async fn what_has_ended_is_not_asked_about() {
    for (days_left, asked) in [(-1, 0), (1, 1)] {
        let (server, home) = scripted(Script::default());
        home.configure_all(HTTP, "[[certificate]]\nname = \"web\"\nnames = [\"www.example.org\"]\nissuer = \"public\"\nstore.file = { bundle = \"web.pem\" }\n");
        keep(&home, days_left);
        let renewed = home.certd(&["renew", "web"]).await;
        assert_eq!((renewed.code, server.count(Kind::RenewalInfo)), (0, asked), "{days_left} {renewed:?}");
    }
}

#[tokio::test]
async fn pebbles_forced_window_has_the_certificate_renewed() {
    let world = World::new(Settings::default()).await;
    if !world.pebble.offers("renewalInfo").await {
        return println!("this Pebble has no renewal information: the scripted CA's stories show it");
    }
    world.home.configure(HTTP, &["www.example.test"]);
    let first = world.home.renewed().await;
    let at = |seconds: i64| jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap();
    let leaf = world.home.pem().split_inclusive("-----END CERTIFICATE-----").next().unwrap().to_string();
    world.pebble.set_renewal_info(&leaf, at(-7200), at(-3600)).await;
    assert_eq!(world.home.certd(&["renew"]).await.code, 0);
    assert_ne!(world.home.leaf().serial, first.serial);
    assert!(world.home.journal().await.contains("began to renew (advised)"));
}

#[tokio::test]
async fn what_pebble_signed_is_revoked_there_and_that_is_read_back() {
    let world = World::new(Settings::default()).await;
    world.home.configure(HTTP, &["www.example.test"]);
    let first = world.home.renewed().await;
    assert_eq!(world.home.certd(&["renew", "--force", "web"]).await.code, 0);
    let second = world.home.leaf();
    for (what, serial) in [(first.serial.as_str(), &first.serial), ("web", &second.serial)] {
        assert_eq!(world.pebble.status(serial).await, "Valid");
        let revoked = world.home.certd(&["revoke", what, "--reason", "superseded"]).await;
        assert!(revoked.code == 0 && revoked.out.contains("was revoked by public"), "{revoked:?}");
        assert_eq!(world.pebble.status(serial).await, "Revoked");
    }
    let unknown = world.home.certd(&["revoke", "00aabbccdd"]).await;
    assert!(unknown.code == 1 && unknown.out.contains("nor did an ACME one sign it"), "{unknown:?}");
}

#[tokio::test]
async fn what_certd_had_revoked_is_replaced_by_its_next_turn_although_the_ca_tells_nobody() {
    let (server, home) = scripted(Script::default());
    let first = home.renewed().await;
    let revoked = home.certd(&["revoke", "web", "--reason", "key_compromise"]).await;
    assert!(revoked.out.contains("certd replaces it where web is kept, in its next turn"), "{revoked:?}");
    let checked = home.certd(&["check"]).await;
    assert!(checked.code == 2 && checked.out.contains("revoked"), "{checked:?}");
    assert_eq!(home.certd(&["renew"]).await.code, 0);
    assert_ne!(home.leaf().serial, first.serial);
    let journal = home.journal().await;
    assert!(journal.contains("began to renew (revoked)"), "{journal}");
    assert_eq!(home.decision().await["action"], "keep");
    assert_eq!(server.count(Kind::NewOrder), 2);
}
