//! No CA is asked more often than it wishes.

use std::time::Duration;

use crate::home::{Ca, HTTP, Home, World, scripted};
use crate::support::acme_server::{AcmeServer, Fault, Kind, Nth, Script, retry_dates};
use crate::support::pebble::Settings;

/// Until when the next attempt is put off, in seconds from now.
async fn wait(home: &Home) -> i64 {
    let decision = home.decision().await;
    let until: jiff::Timestamp = decision["until"].as_str().unwrap_or_else(|| panic!("{decision}")).parse().unwrap();
    until.as_second() - jiff::Timestamp::now().as_second()
}

/// Several commands and a daemon that starts anew: all of them know of the wait.
async fn is_left_alone(server: &Ca, home: &Home) {
    let before = server.requests().len();
    for command in [&["renew"][..], &["renew", "--due", "web"], &["renew", "--force", "web"], &["check"], &["plan"]] {
        home.certd(command).await;
    }
    drop(home.runs().await);
    assert_eq!(server.requests().len(), before, "{:?}", server.requests_inside_retry_after());
}

#[tokio::test]
async fn a_wait_that_a_ca_asks_for_in_whatever_form_is_kept_by_every_later_certd() {
    for (kind, status) in [(Kind::NewOrder, 429), (Kind::Finalize, 503), (Kind::Directory, 503), (Kind::NewNonce, 429)]
    {
        let [usual, old, ancient] = retry_dates(7200);
        for asked in ["7200".to_string(), " 7200 ".to_string(), usual, old, ancient] {
            let (server, home) = scripted(Script::default());
            server.fail(kind, Nth::Every, Fault::busy(status, Some(&asked)));
            assert_eq!(home.certd(&["renew", "web"]).await.code, 2, "{kind:?} {asked}");
            let wait = wait(&home).await;
            assert!((7100..=7201).contains(&wait), "{kind:?} {asked:?}: {wait}");
            is_left_alone(&server, &home).await;
            assert_eq!(server.requests_inside_retry_after().len(), 0, "{kind:?} {asked:?}");
        }
    }
}

#[tokio::test]
async fn an_absurd_wait_is_a_day_and_told_and_what_is_no_wait_is_none() {
    for absurd in ["999999999", "18446744073709551616", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let (server, home) = scripted(Script::default());
        server.fail(Kind::NewOrder, Nth::Every, Fault::busy(429, Some(absurd)));
        let refused = home.certd(&["renew", "web"]).await;
        assert!(refused.err.contains("it asks to be left alone for more than 86400 s"), "{absurd}: {refused:?}");
        let wait = wait(&home).await;
        assert!((86_300..=86_400).contains(&wait), "{absurd}: {wait}");
    }
    for none in ["-1", "soon", "0", "1e9", "Mon, 31 Feb 2031 00:00:00 GMT"] {
        let (server, home) = scripted(Script::default());
        server.fail(Kind::NewOrder, Nth::Only(1), Fault::busy(429, Some(none)));
        assert_eq!(home.certd(&["renew", "web"]).await.code, 2);
        assert!(wait(&home).await < 600, "{none}");
        home.renewed().await;
    }
}

#[tokio::test]
async fn what_a_ca_works_on_is_looked_at_again_no_sooner_than_it_says() {
    let (server, home) = scripted(Script::default());
    server.fail(Kind::Finalize, Nth::Only(1), Fault::Processing(2));
    server.fail(Kind::Order, Nth::Every, Fault::With("Retry-After", "2".to_string()));
    home.renewed().await;
    assert_eq!(server.requests_inside_retry_after().len(), 0, "{:?}", server.requests_inside_retry_after());

    let (server, home) = scripted(Script::default());
    // From the first look after its finalization on.
    server.fail(Kind::Order, Nth::From(4), Fault::With("Retry-After", "3600".to_string()));
    server.fail(Kind::Finalize, Nth::Only(1), Fault::Processing(9));
    let later = home.certd(&["renew", "web"]).await;
    assert_eq!(later.code, 2, "{later:?}");
    assert!((3500..=3601).contains(&wait(&home).await));
    for command in [&["renew"][..], &["renew", "--force", "web"], &["plan"]] {
        home.certd(command).await;
    }
    drop(home.runs().await);
    assert_eq!(server.requests_inside_retry_after().len(), 0, "{:?}", server.requests_inside_retry_after());
    assert_eq!((server.count(Kind::NewOrder), server.count(Kind::Finalize)), (1, 1));
}

#[tokio::test]
async fn a_wait_that_a_command_hears_which_only_looks_is_kept_by_all() {
    for heard_by in [
        &["plan"][..],
        &["check"],
        &["renew"],
        &["explain", "web"],
        &["config", "check"],
        &["account", "public", "--roll-over"],
    ] {
        for runs in [false, true] {
            let (server, home) = scripted(Script::default());
            home.renewed().await;
            let _daemon = if runs { Some(home.runs().await) } else { None };
            server.fail(Kind::Directory, Nth::Every, Fault::busy(503, Some("7200")));
            home.certd(heard_by).await;
            let before = server.requests().len();
            home.certd(&["renew", "--force", "web"]).await;
            for command in [&["config", "check"][..], &["renew"], &["account", "public", "--roll-over"], heard_by] {
                home.certd(command).await;
            }
            assert_eq!(server.requests().len(), before, "{heard_by:?} beside a daemon: {runs}");
            assert_eq!(server.requests_inside_retry_after().len(), 0, "{heard_by:?} beside a daemon: {runs}");
        }
    }
}

#[tokio::test]
async fn more_orders_than_the_operator_allows_in_an_hour_are_not_placed_by_any_certd() {
    let (server, home) = scripted(Script::default());
    let tables = (0..4).map(|nth| {
        format!("[[certificate]]\nname = \"c{nth}\"\nnames = [\"c{nth}.example.org\"]\nissuer = \"public\"\nstore.file = {{ directory = \"c{nth}\" }}\n")
    });
    home.configure_all(&format!("{HTTP}orders_per_hour = 2\n"), &tables.collect::<String>());
    let first = home.certd(&["renew"]).await;
    assert_eq!(first.code, 2, "{first:?}");
    assert_eq!(first.out.matches("2 orders within an hour are the most").count(), 2, "{first:?}");
    home.certd(&["renew"]).await;
    home.certd(&["renew", "c3"]).await;
    assert_eq!((server.count(Kind::NewOrder), server.issued().len()), (2, 2));
}

#[tokio::test]
async fn nonces_that_are_refused_are_followed_by_fresh_ones() {
    for (percent, most_failures) in [(30, 0), (60, 1)] {
        let world = World::new(Settings { nonce_reject: percent, ..Settings::default() }).await;
        let (rounds, mut failed) = (issuances(), 0);
        for round in 0..rounds {
            world.home.configure(HTTP, &[&format!("n{round}.example.test")]);
            let ran = world.home.certd(&["renew", "web"]).await;
            failed += usize::from(ran.code != 0);
            if ran.code != 0 {
                println!("{percent} %: {}", ran.out);
            }
            let _ = std::fs::remove_dir_all(world.home.path("state"));
            let _ = std::fs::remove_file(world.home.path("web"));
            let _ = std::fs::remove_dir_all(world.home.path(".web.certd"));
        }
        println!("{percent} % of nonces refused: {} of {rounds} issued", rounds - failed);
        assert!(failed <= most_failures, "{failed} of {rounds} failed at {percent} %");
    }
}

/// Each with a new account: a hundred where the whole matrix is asked for.
fn issuances() -> usize {
    match std::env::var("CERTD_TEST_MATRIX").as_deref() {
        Ok("full") => 100,
        _ => 10,
    }
}

#[tokio::test]
async fn a_ca_that_hangs_is_given_up_after_its_deadline() {
    let (server, home) = scripted(Script::default());
    server.fail(Kind::Directory, Nth::Every, Fault::Hang);
    let started = std::time::Instant::now();
    let hung = home.certd(&["config", "check"]).await;
    assert!(hung.err.contains("did not answer in time") && started.elapsed() < Duration::from_secs(20), "{hung:?}");
    let hung = home.certd(&["renew", "web"]).await;
    assert!(hung.code == 2 && hung.out.contains("did not answer within 30 s"), "{hung:?}");
}

/// The directory is at `localhost`, and all that it names at `127.0.0.1`.
#[tokio::test]
async fn a_ca_leads_certd_to_no_server_that_the_configuration_does_not_name() {
    let server = AcmeServer::start(Script::default());
    let at = server.directory_url();
    let named = at.replace("127.0.0.1", "localhost");
    let home = Home::new(named, server.tls_root_pem(), &server.root_pem());
    home.configure(HTTP, &["www.example.org"]);
    let refused = home.certd(&["renew", "web"]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    let origin = at.strip_suffix("/directory").map_or_else(|| at[..at.rfind('/').unwrap()].to_string(), str::to_string);
    let why = format!("the CA names an address at {origin}, which is not where its directory is");
    assert!(refused.err.contains(&why) || refused.out.contains(&why), "{refused:?}");
    assert_eq!(server.accounts().len(), 0);

    home.configure(&format!("also = [\"{origin}\"]\n{HTTP}"), &["www.example.org"]);
    let renewed = home.certd(&["renew", "web"]).await;
    assert_eq!((renewed.code, server.issued().len()), (0, 1), "{renewed:?}");
}

/// What `certd plan` says of both, and how many orders were asked for.
async fn of_two(detail: &str) -> (Vec<String>, usize, AcmeAndHome) {
    let (server, home) = scripted(Script::default());
    let table = |name: &str| {
        format!(
            "[[certificate]]\nname = \"{name}\"\nnames = [\"{name}.example.org\"]\nissuer = \"public\"\n\
             store.file = {{ bundle = \"{name}.pem\" }}\n"
        )
    };
    home.configure_all(HTTP, &format!("{}{}", table("a"), table("b")));
    server.fail(Kind::NewOrder, Nth::Only(1), Fault::limited(detail));
    assert_eq!(home.certd(&["renew"]).await.code, 2, "{detail}");
    let planned: serde_json::Value =
        serde_json::from_str(&home.certd(&["plan", "--format", "json"]).await.out).unwrap();
    let mut actions: Vec<String> = planned["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| format!("{} {}", it["certificate"].as_str().unwrap(), it["action"].as_str().unwrap()))
        .collect();
    actions.sort();
    let orders = server.count(Kind::NewOrder);
    (actions, orders, (server, home))
}

type AcmeAndHome = (Ca, Home);

#[tokio::test]
async fn a_limit_of_one_set_of_names_stops_no_other_certificate() {
    let exact = "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s";
    let (actions, orders, (server, home)) = of_two(exact).await;
    assert_eq!((actions, orders), (vec!["a defer".to_string(), "b keep".to_string()], 2));
    for command in [&["renew"][..], &["renew", "--due", "a"], &["renew", "--force", "a"]] {
        home.certd(command).await;
    }
    assert_eq!(server.count(Kind::NewOrder), 2, "nor is it asked for a person");
    assert_eq!(home.certd(&["renew", "--force", "b"]).await.code, 0);

    let account = "too many new orders (300) from this account in the last 3h0m0s";
    let (actions, orders, _) = of_two(account).await;
    assert_eq!((actions, orders), (vec!["a defer".to_string(), "b defer".to_string()], 1));
}
