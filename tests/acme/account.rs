//! The account: made once, kept, bound, changed, and never replaced in silence.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::home::{HTTP, Home, World, scripted};
use crate::support::acme_server::{Fault, Kind, Nth, Script};
use crate::support::pebble::Settings;
use crate::support::secrets;

fn account(home: &Home) -> Value {
    serde_json::from_str(&fs::read_to_string(home.path("state/acme/public.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn an_account_is_made_once_and_its_key_is_kept_for_its_owner_alone() {
    let (server, home) = scripted(Script::default());
    home.renewed().await;
    let made = account(&home);
    let mode = fs::metadata(home.path("state/acme/public.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(home.certd(&["renew", "--force", "web"]).await.code, 0);
    assert_eq!(account(&home), made);
    // One that only asks whether the key is known, and one that makes it.
    assert_eq!(server.count(Kind::NewAccount), 2);
}

#[tokio::test]
async fn an_account_whose_answer_was_lost_is_found_again_by_its_key() {
    let (server, home) = scripted(Script::default());
    server.fail(Kind::NewAccount, Nth::Only(2), Fault::CutAfter);
    assert_eq!(home.certd(&["renew", "web"]).await.code, 2);
    let key = account(&home)["private_key"].clone();
    home.renewed().await;
    assert_eq!(account(&home)["private_key"], key);
    assert_eq!(server.accounts().len(), 1);
}

#[tokio::test]
async fn a_key_that_is_gone_is_a_stop_and_no_new_account() {
    let (server, home) = scripted(Script::default());
    home.renewed().await;
    fs::remove_file(home.path("state/acme/public.json")).unwrap();
    let stopped = home.certd(&["renew", "--force", "web"]).await;
    assert_eq!(stopped.code, 2);
    assert!(stopped.out.contains("is gone from") && stopped.out.contains("restore it from a backup"), "{stopped:?}");
    assert_eq!(server.accounts().len(), 1);
}

#[tokio::test]
async fn an_account_of_another_ca_is_not_shown_to_this_one() {
    let (_server, home) = scripted(Script::default());
    home.renewed().await;
    let kept = fs::read_to_string(home.path("state/acme/public.json")).unwrap();
    fs::write(home.path("state/acme/public.json"), kept.replace("https://127.0.0.1", "https://elsewhere")).unwrap();
    let stopped = home.certd(&["renew", "--force", "web"]).await;
    assert!(stopped.out.contains("keep the account of each CA at a place of its own"), "{stopped:?}");
}

#[tokio::test]
async fn the_terms_of_a_ca_are_agreed_to_by_a_person() {
    let (server, home) = scripted(Script { terms: Some("https://ca.example/terms".to_string()), ..Script::default() });
    let text = fs::read_to_string(home.path("certd.toml")).unwrap();
    fs::write(home.path("certd.toml"), text.replace("terms_agreed = true\n", "")).unwrap();
    let stopped = home.certd(&["renew", "web"]).await;
    assert!(stopped.out.contains("set terms_agreed = true: https://ca.example/terms"), "{stopped:?}");
    assert!(home.certd(&["config", "check"]).await.out.contains("set terms_agreed = true"));
    assert_eq!(server.count(Kind::NewAccount), 0);
    fs::write(home.path("certd.toml"), text).unwrap();
    home.renewed().await;
}

#[tokio::test]
async fn an_external_account_is_bound_by_its_hmac() {
    let secret = URL_SAFE_NO_PAD.encode([7; 32]);
    let external_accounts = BTreeMap::from([("kid-1".to_string(), secret.clone())]);
    let world = World::new(Settings { external_accounts, ..Settings::default() }).await;
    let home = &world.home;
    home.configure(HTTP, &["www.example.test"]);
    let stopped = home.certd(&["renew", "web"]).await;
    assert!(stopped.out.contains("set eab.key_id and eab.hmac_file"), "{stopped:?}");
    fs::write(home.path("hmac"), format!("{}\n", secrets::told(secrets::Kind::Hmac, &secret))).unwrap();
    let bound = format!("{HTTP}eab = {{ key_id = \"kid-1\", hmac_file = \"hmac\" }}\n");
    home.configure(&bound, &["www.example.test"]);
    home.renewed().await;
    fs::remove_dir_all(home.path("state")).unwrap();
    home.configure(&bound.replace("kid-1", "kid-2"), &["www.example.test"]);
    assert_eq!(home.certd(&["renew", "--force", "web"]).await.code, 2);
}

#[tokio::test]
async fn a_contact_that_changes_is_told_to_the_ca_once() {
    let (server, home) = scripted(Script::default());
    home.renewed().await;
    for name in ["a.example.org", "b.example.org"] {
        home.configure(&format!("{HTTP}contact = [\"mailto:ops@example.org\"]\n"), &[name]);
        home.renewed().await;
    }
    assert_eq!(server.accounts()[0].contact, ["mailto:ops@example.org"]);
    assert_eq!(server.count(Kind::Account), 1);
    let shown = home.certd(&["account", "public"]).await;
    assert!(shown.code == 0 && shown.out.contains("mailto:ops@example.org"), "{shown:?}");
}

#[tokio::test]
async fn an_account_gets_another_key_and_goes_on() {
    let world = World::new(Settings::default()).await;
    world.home.configure(HTTP, &["www.example.test"]);
    world.home.renewed().await;
    let before = account(&world.home);
    let rolled = world.home.certd(&["account", "public", "--roll-over"]).await;
    assert!(rolled.code == 0 && rolled.out.contains("has another key"), "{rolled:?}");
    let after = account(&world.home);
    assert_eq!(after["url"], before["url"]);
    assert_ne!(after["private_key"], before["private_key"]);
    assert_eq!(after["next_private_key"], Value::Null);
    assert_eq!(world.home.certd(&["renew", "--force", "web"]).await.code, 0);
    let audited = world.home.certd(&["audit", "export"]).await.out;
    let told: Vec<&str> =
        audited.lines().filter(|line| line.contains("\"roll_over\"") || line.contains("another key")).collect();
    assert!(told.len() == 2 && told[1].contains("\"event\":\"done\","), "{audited}");
}

#[tokio::test]
async fn a_change_of_the_key_whose_answer_was_lost_is_finished_by_the_next_order() {
    let (server, home) = scripted(Script::default());
    home.renewed().await;
    server.fail(Kind::KeyChange, Nth::Only(1), Fault::CutAfter);
    server.fail(Kind::Account, Nth::Only(1), Fault::CutBefore);
    let lost = home.certd(&["account", "public", "--roll-over"]).await;
    assert!(lost.code == 2 && lost.out.contains("it is not known by which key the account goes now"), "{lost:?}");
    assert_ne!(account(&home)["next_private_key"], Value::Null);
    assert_eq!(home.certd(&["renew", "--force", "web"]).await.code, 0);
    assert_eq!(account(&home)["next_private_key"], Value::Null);
    assert_eq!((server.accounts().len(), server.count(Kind::KeyChange)), (1, 1));
}

/// Some servers ask for the binding before they look whether they know the key.
#[tokio::test]
async fn it_is_finished_where_the_ca_tells_nobody_without_a_binding_which_keys_it_knows() {
    let (server, home) = scripted(Script::default());
    home.renewed().await;
    server.fail(Kind::NewAccount, Nth::Every, Fault::refusal("externalAccountRequired", "who are you"));
    server.fail(Kind::KeyChange, Nth::Only(1), Fault::CutAfter);
    server.fail(Kind::Account, Nth::Only(1), Fault::CutBefore);
    assert_eq!(home.certd(&["account", "public", "--roll-over"]).await.code, 2);
    assert_eq!(home.certd(&["renew", "--force", "web"]).await.code, 0);
    assert_eq!(account(&home)["next_private_key"], Value::Null);
    assert_eq!((server.accounts().len(), server.count(Kind::KeyChange)), (1, 2));
}

#[tokio::test]
async fn a_change_of_the_key_whose_answer_was_lost_is_done_where_the_ca_answers_to_the_new_one() {
    let (server, home) = scripted(Script::default());
    home.renewed().await;
    server.fail(Kind::KeyChange, Nth::Only(1), Fault::CutAfter);
    let rolled = home.certd(&["account", "public", "--roll-over"]).await;
    assert!(rolled.code == 0 && rolled.out.contains("has another key"), "{rolled:?}");
    assert_eq!(account(&home)["next_private_key"], Value::Null);
    assert_eq!(home.certd(&["renew", "--force", "web"]).await.code, 0);
}

#[tokio::test]
async fn a_certd_that_runs_changes_its_key_itself_and_goes_on_with_the_new_one() {
    let (server, home) = scripted(Script::default());
    let _daemon = home.runs().await;
    let before = account(&home);
    let rolled = home.certd(&["account", "public", "--roll-over"]).await;
    assert!(rolled.code == 0 && rolled.out.contains("has another key"), "{rolled:?}");
    assert_ne!(account(&home)["private_key"], before["private_key"]);
    assert_eq!(home.certd(&["renew", "--force", "web"]).await.code, 0);
    server.fail(Kind::Directory, Nth::Every, Fault::busy(503, Some("3600")));
    let failed = home.certd(&["account", "public", "--roll-over"]).await;
    assert!(failed.code == 2 && failed.out.contains("come back later"), "{failed:?}");
    assert_eq!(home.certd(&["account", "elsewhere", "--roll-over"]).await.code, 3);
}

#[tokio::test]
async fn a_change_of_the_key_that_the_ca_refuses_leaves_the_account_as_it_was() {
    let (server, home) = scripted(Script::default());
    home.renewed().await;
    let before = account(&home);
    for (name, fault, keeps_trying) in [
        ("a.example.org", Fault::refusal("malformed", "no such thing here"), false),
        ("b.example.org", Fault::html(502), true),
    ] {
        server.fail(Kind::KeyChange, Nth::Every, fault);
        let refused = home.certd(&["account", "public", "--roll-over"]).await;
        assert!(refused.code == 2 && refused.out.contains("the account goes by the key that it had"), "{refused:?}");
        assert_eq!(account(&home)["next_private_key"] != Value::Null, keeps_trying);
        assert_eq!(account(&home)["private_key"], before["private_key"]);
        home.configure(HTTP, &[name]);
        home.renewed().await;
        server.heal();
    }
    assert_eq!(home.certd(&["account", "public", "--roll-over"]).await.code, 0);
    assert_ne!(account(&home)["private_key"], before["private_key"]);
}
