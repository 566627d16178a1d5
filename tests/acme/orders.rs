//! Orders: profiles, chains, what is lost on the way, and what a CA signs that must not be used.

use crate::home::{Ca, HTTP, Home, World, scripted};
use crate::support::acme_server::{Fault, Flaw, Kind, Nth, Script};
use crate::support::pebble::Settings;

#[tokio::test]
async fn a_profile_decides_the_lifetime_and_one_that_the_ca_has_not_is_refused_with_those_that_it_has() {
    let profiles = [("long", 90), ("short", 6)].map(|(name, days)| (name.to_string(), (String::new(), days * 86_400)));
    let world = World::new(Settings { profiles: profiles.into(), ..Settings::default() }).await;
    if !world.pebble.offers("renewalInfo").await {
        return println!("this Pebble has no profiles: the scripted CA's stories show them");
    }
    world.home.configure(&format!("{HTTP}profile = \"short\"\n"), &["www.example.test"]);
    assert_eq!(world.home.renewed().await.lifetime().as_secs().div_ceil(86_400), 6);
    world.home.configure(&format!("{HTTP}profile = \"tall\"\n"), &["www.example.test"]);
    let refused = world.home.certd(&["renew", "--force", "web"]).await;
    assert!(refused.out.contains("its directory lists long, short"), "{refused:?}");
    let checked = world.home.certd(&["config", "check"]).await;
    assert!(checked.out.contains("the CA has no profile \"tall\": its directory lists long, short"), "{checked:?}");
}

#[tokio::test]
async fn the_chain_that_leads_to_the_preferred_root_is_taken() {
    let (server, home) = scripted(Script::default());
    home.renewed().await;
    let usual = home.chain().pop().unwrap().issuer_cn.unwrap();
    let other = certd::pki::bundle::Bundle::parse(server.alternate_root_pem().as_bytes()).unwrap();
    let other = certd::pki::read::certificate(&other.certificates[0]).unwrap().subject_cn.unwrap();
    assert_ne!(usual, other);
    let roots = format!("{}{}", server.root_pem(), server.alternate_root_pem());
    std::fs::write(home.path("roots.pem"), roots).unwrap();
    home.configure(&format!("{HTTP}preferred_chain = {other:?}\n"), &["www.example.org"]);
    assert_eq!(home.certd(&["renew", "--force", "web"]).await.code, 0);
    assert_eq!(home.chain().pop().unwrap().issuer_cn.unwrap(), other);
}

#[tokio::test]
async fn a_preferred_root_is_found_among_pebbles_alternates() {
    let world = World::new(Settings { alternate_roots: 2, ..Settings::default() }).await;
    let third = world.pebble.root(2).await;
    std::fs::write(world.home.path("roots.pem"), &third).unwrap();
    let third = certd::pki::bundle::Bundle::parse(third.as_bytes()).unwrap();
    let third = certd::pki::read::certificate(&third.certificates[0]).unwrap().subject_cn.unwrap();
    world.home.configure(&format!("{HTTP}preferred_chain = {third:?}\n"), &["www.example.test"]);
    world.home.renewed().await;
    assert_eq!(world.home.chain().pop().unwrap().issuer_cn.unwrap(), third);
}

#[tokio::test]
async fn a_finalize_whose_answer_was_lost_is_one_order_and_one_certificate() {
    for fault in [Fault::CutAfter, Fault::CutMidway, Fault::Swollen(100 << 20)] {
        let (server, home) = scripted(Script::default());
        server.fail(Kind::Finalize, Nth::Only(1), fault.clone());
        let lost = home.certd(&["renew", "web"]).await;
        assert_eq!(lost.code, 2, "{fault:?} {lost:?}");
        home.renewed().await;
        let counts = (server.count(Kind::NewOrder), server.count(Kind::Finalize), server.issued().len());
        assert_eq!(counts, (1, 1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn a_certificate_whose_download_failed_is_fetched_and_not_ordered_again() {
    let faults =
        [Fault::CutBefore, Fault::CutMidway, Fault::html(500), Fault::refusal("serverInternal", "x"), Fault::html(404)];
    for fault in faults {
        let (server, home) = scripted(Script::default());
        server.fail(Kind::Certificate, Nth::Only(1), fault.clone());
        assert_eq!(home.certd(&["renew", "web"]).await.code, 2, "{fault:?}");
        home.renewed().await;
        let counts = (server.count(Kind::NewOrder), server.count(Kind::Finalize), server.issued().len());
        assert_eq!(counts, (1, 1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn an_order_that_is_processed_for_long_is_waited_for_and_then_gone_on_with() {
    let (server, home) = scripted(Script::default());
    server.fail(Kind::Finalize, Nth::Only(1), Fault::Processing(4));
    home.renewed().await;
    assert_eq!(server.count(Kind::NewOrder), 1);

    let (server, home) = scripted(Script::default());
    home.configure(&format!("{HTTP}patience = \"2s\"\n"), &["www.example.org"]);
    server.fail(Kind::Finalize, Nth::Only(1), Fault::Stuck);
    let stuck = home.certd(&["renew", "web"]).await;
    assert!(stuck.code == 2 && stuck.out.contains("the CA has not finished within 2 s"), "{stuck:?}");
    let again = home.certd(&["renew", "web"]).await;
    assert_eq!(again.code, 2, "{again:?}");
    assert_eq!((server.count(Kind::NewOrder), server.count(Kind::Finalize)), (1, 1), "nobody knows what becomes of it");
}

#[tokio::test]
async fn what_a_ca_signs_that_is_not_what_was_asked_for_is_never_stored() {
    for (flaw, told) in [
        (Flaw::OtherKey, "another key"),
        (Flaw::MissingName, "name"),
        (Flaw::ForeignChain, ""),
        (Flaw::Expired, ""),
        (Flaw::NotYetValid, ""),
    ] {
        let (server, home) = scripted(Script::default());
        server.fail(Kind::Finalize, Nth::Every, Fault::Flawed(flaw));
        let refused = home.certd(&["renew", "web"]).await;
        assert_eq!(refused.code, 2, "{flaw:?} {refused:?}");
        assert!(refused.out.contains(told), "{flaw:?} {refused:?}");
        assert!(!home.path("web").exists(), "{flaw:?}");
        let checked = home.certd(&["check"]).await;
        assert!(checked.code != 0, "{flaw:?} {checked:?}");
    }
}

#[tokio::test]
async fn a_short_certificate_is_stored_where_there_is_none_and_never_over_one_that_works() {
    let (server, home) = scripted(Script::default());
    server.fail(Kind::Finalize, Nth::Every, Fault::Flawed(Flaw::Due));
    assert_eq!(home.certd(&["renew", "web"]).await.code, 0);
    server.heal();
    home.certd(&["renew", "--force", "--over-the-cap", "web"]).await;
    let works = home.leaf();
    server.fail(Kind::Finalize, Nth::Every, Fault::Flawed(Flaw::Due));
    let refused = home.certd(&["renew", "--force", "--over-the-cap", "web"]).await;
    assert!(refused.code == 2 && refused.out.contains("it would be due at once"), "{refused:?}");
    assert_eq!(home.leaf().fingerprint, works.fingerprint);
}

/// What is wrong is told in one line that would not steer a terminal, and nothing of it is taken for a certificate.
async fn fails(server: &Ca, home: &Home, kind: Kind, fault: Fault) -> String {
    server.heal();
    server.fail(kind, Nth::Every, fault);
    let failed = home.certd(&["renew", "web"]).await;
    assert_eq!(failed.code, 2, "{kind:?} {failed:?}");
    assert!(!failed.out.contains(['\u{1b}', '\r', '\u{202e}']) && failed.out.lines().count() == 1, "{failed:?}");
    failed.out
}

#[tokio::test]
async fn whatever_answers_in_place_of_a_ca_is_told_in_a_line() {
    let (server, home) = scripted(Script::default());
    let hostile = serde_json::json!({
        "type": "urn:ietf:params:acme:error:rejectedIdentifier", "status": 400, "detail": "\u{1b}[31mred\r\nweb: renewed\u{202e}",
        "subproblems": [{ "type": "urn:ietf:params:acme:error:caa", "detail": "\u{7}$(id)", "identifier": { "type": "dns", "value": "a\u{1b}b" } }],
    });
    for (kind, fault, told) in [
        (Kind::Directory, Fault::html(502), "no ACME (status 502)"),
        (Kind::Directory, Fault::Swollen(100 << 20), "more than 256 KiB"),
        (Kind::NewNonce, Fault::Without("Replay-Nonce"), "nonce"),
        (Kind::NewOrder, Fault::html(500), "no ACME (status 500)"),
        (Kind::NewOrder, Fault::problem(&hostile), "does not certify"),
        (Kind::NewOrder, Fault::refusal("userActionRequired", "new terms"), "agree to the CA's new terms"),
        (Kind::NewOrder, Fault::refusal("accountDoesNotExist", "who"), "restore the one that it knows"),
        (Kind::NewOrder, Fault::CutBefore, "cannot be reached"),
        (Kind::Authorization, Fault::html(500), "no ACME (status 500)"),
        (Kind::Challenge, Fault::refusal("malformed", "no"), "no (malformed)"),
        (Kind::Finalize, Fault::refusal("badCSR", "no"), "refuses this kind of key"),
    ] {
        let line = fails(&server, &home, kind, fault.clone()).await;
        assert!(line.contains(told), "{kind:?} {fault:?}: {line}");
    }
    server.heal();
    home.renewed().await;
    assert_eq!(server.issued().len(), 1);
}

/// What the CA says of another chain, or of the account, is no reason to lose what it has signed.
#[tokio::test]
async fn a_certificate_that_was_signed_is_kept_whatever_is_said_of_its_other_chains_or_of_the_account() {
    let relative = Fault::With("Link", "</nowhere>;rel=\"alternate\"".to_string());
    let plain = Fault::With("Link", "<http://elsewhere/>;rel=\"alternate\"".to_string());
    for fault in [relative, plain] {
        let (server, home) = scripted(Script { alternates: false, ..Script::default() });
        home.configure(&format!("{HTTP}preferred_chain = \"Nobody\"\n"), &["www.example.org"]);
        server.fail(Kind::Certificate, Nth::Every, fault.clone());
        let told = home.certd(&["renew", "web"]).await;
        assert!(told.code == 0 && told.err.contains("offers no chain that leads to"), "{fault:?} {told:?}");
        assert_eq!((server.count(Kind::NewOrder), server.issued().len()), (1, 1));
    }
    for kind in [Kind::Certificate, Kind::Order] {
        let (server, home) = scripted(Script::default());
        server.fail(Kind::Finalize, Nth::Only(1), Fault::CutAfter);
        home.certd(&["renew", "web"]).await;
        server.fail(kind, Nth::Every, Fault::refusal("userActionRequired", "new terms"));
        assert_eq!(home.certd(&["renew", "web"]).await.code, 2, "{kind:?}");
        server.heal();
        home.renewed().await;
        assert_eq!((server.count(Kind::NewOrder), server.issued().len()), (1, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn a_lifetime_that_only_another_issuer_can_be_asked_for_refuses_nothing_that_the_ca_gives() {
    let (_server, home) = scripted(Script::default());
    let certificate = |issuers: &str| {
        format!(
            "[[certificate]]\nname = \"web\"\nnames = [\"www.example.org\"]\nissuer = {issuers}\nlifetime = \"400d\"\nstore.file = {{ directory = \"web\" }}\n"
        )
    };
    home.configure_all(HTTP, &certificate("\"public\""));
    let refused = home.certd(&["renew", "web"]).await;
    assert!(refused.err.contains("no lifetime can be asked for by ACME"), "{refused:?}");
    let own = "[issuer.own.local_ca]\ndirectory = \"ca\"\nleaf_lifetime = \"400d\"\n";
    home.configure_all(HTTP, &format!("{own}{}", certificate("[\"public\", \"own\"]")));
    assert!(home.renewed().await.lifetime().as_secs() < 100 * 86_400);
}
