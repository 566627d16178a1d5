//! Whoever can write to a place is not whoever may have the names of the certificate there.

use serde_json::{Value, json};

use crate::home::{ADOPT, Home, Ran, declared, rows};
use crate::house::{certified, fields};
use crate::leaves::Leaf;

/// What stands in a place, to be planted in another.
async fn copy(home: &Home, from: &str, to: &str) {
    let fields = home.fields(from).await;
    let secret: serde_json::Map<String, Value> =
        fields.iter().map(|(name, field)| (name.clone(), serde_json::from_str(field.get()).unwrap())).collect();
    home.house.admin.put(&home.house.kv, to, Value::Object(secret)).await;
}

async fn revoke(home: &Home, serial: &str) {
    let path = format!("{}/revoke", home.house.ca.mount);
    home.house.admin.admin("POST", &path, json!({ "serial_number": colons(serial) })).await;
}

fn colons(serial: &str) -> String {
    serial.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap()).collect::<Vec<_>>().join(":")
}

async fn serial(home: &Home, path: &str) -> String {
    let checked = home.certd(&["check", "--format", "json"]).await.json();
    let lines = checked["certificates"].as_array().unwrap().clone();
    let line = lines.iter().find(|line| line["location"] == home.location(path)).unwrap();
    line["leaf"]["serial"].as_str().unwrap().to_string()
}

/// What `certd check` says of one place.
async fn problems(home: &Home, path: &str) -> String {
    let checked = home.check().await;
    checked.into_iter().find(|(at, _)| at == path).unwrap_or_else(|| panic!("{path} is not seen")).1
}

async fn adopt(home: &Home, path: &str) -> Ran {
    home.certd(&["adopt", &home.location(path)]).await
}

/// With the serial number of what is there.
async fn adopt_serial(home: &Home, path: &str, serial: &str) -> Ran {
    home.certd(&["adopt", &home.location(path), "--serial", serial]).await
}

/// A certificate of the CA that the rule asks.
async fn put_signed(home: &Home, path: &str, name: &str) {
    let secret = fields(&certified(&home.house.issuer, &[name]).await);
    home.house.admin.put(&home.house.kv, path, secret).await;
}

/// One turn, in a process of its own.
async fn turn(home: &Home) {
    let renewed = home.certd(&["renew"]).await;
    assert!(renewed.code < 2, "{renewed:?}");
}

/// A victim whose certificate certd renewed, in a fresh place.
async fn with_victim() -> Home {
    let home = Home::new(ADOPT).await;
    home.put("tls/victim/web", Leaf::due("web.example.org")).await;
    turn(&home).await;
    assert_eq!((home.version("tls/victim/web").await, home.signed().await), (2, 1));
    home
}

#[tokio::test]
async fn a_revoked_pair_of_another_is_not_renewed_and_that_is_told() {
    let home = with_victim().await;
    copy(&home, "tls/victim/web", "tls/tenant/loot").await;
    let old = serial(&home, "tls/victim/web").await;
    revoke(&home, &old).await;
    let planned = rows(&[("tls/victim/web", "renew revoked")]);
    assert_eq!(home.plan().await, planned, "where certd stored it, and nowhere else");
    turn(&home).await;
    assert_eq!(problems(&home, "tls/tenant/loot").await, "critical revoked abandoned");
    assert_eq!(home.plan().await, rows(&[("tls/victim/web", "keep")]));
    assert_eq!((home.version("tls/victim/web").await, home.version("tls/tenant/loot").await), (3, 1));
    assert_eq!(home.signed().await, 2, "one for the victim");

    let explained = home.certd(&["explain", &home.location("tls/tenant/loot")]).await;
    assert!(explained.out.contains("certd did not store it here, so it is not renewed"), "{explained:?}");
}

#[tokio::test]
async fn an_expired_pair_is_no_claim_whoever_put_it_there_until_a_person_agrees() {
    let home = with_victim().await;
    home.put("tls/tenant/loot", Leaf::expired("web.example.org")).await;
    home.put("tls/tenant/old", Leaf::expired("old.example.org")).await;
    turn(&home).await;
    for path in ["tls/tenant/loot", "tls/tenant/old"] {
        assert_eq!(problems(&home, path).await, "critical expired abandoned");
    }
    assert_eq!((home.plan().await, home.signed().await), (rows(&[("tls/victim/web", "keep")]), 1));

    let adopted = adopt(&home, "tls/tenant/old").await;
    let line = format!("adopted: {}, for old.example.org (serial ", home.location("tls/tenant/old"));
    assert!(adopted.code == 0 && adopted.out.starts_with(&line), "{adopted:?}");
    assert!(adopted.out.contains(", issued by ") && adopted.out.contains(", valid until 20"), "{adopted:?}");
    turn(&home).await;
    assert_eq!((home.version("tls/tenant/old").await, home.version("tls/tenant/loot").await), (2, 1));
}

#[tokio::test]
async fn a_live_copy_that_comes_later_is_contested_until_a_person_says_so() {
    let home = with_victim().await;
    copy(&home, "tls/victim/web", "tls/tenant/copy").await;
    let both = ["web.example.org", "new.example.org"].map(String::from).to_vec();
    home.put("tls/tenant/more", Leaf { names: both, ..Leaf::due("") }).await;
    home.put("tls/tenant/wild", Leaf::due("*.example.org")).await;
    home.put("tls/tenant/own", Leaf::due("own.tenant.example")).await;
    turn(&home).await;
    let held = [
        ("tls/tenant/copy", "hold contested_name"),
        ("tls/tenant/more", "hold contested_name"),
        ("tls/tenant/wild", "hold contested_name"),
        ("tls/victim/web", "keep"),
    ];
    assert_eq!(home.plan().await, rows(&held));
    assert_eq!(home.signed().await, 1);
    assert_eq!(problems(&home, "tls/tenant/copy").await, "warning contested_name");
    assert_eq!(problems(&home, "tls/tenant/wild").await, "warning expiring contested_name");
    assert_eq!(problems(&home, "tls/tenant/own").await, "warning expiring foreign");
    let forced = home.certd(&["renew", &home.location("tls/tenant/copy"), "--force"]).await;
    assert!(
        forced.code == 1 && forced.out.contains("a name of this certificate belongs to another place"),
        "{forced:?}"
    );
    assert!(forced.out.contains(&home.location("tls/victim/web")), "{forced:?}");
    assert_eq!(home.version("tls/tenant/copy").await, 1);

    let copied = serial(&home, "tls/tenant/copy").await;
    let why = format!(
        "; it has web.example.org; if both may have that, run `certd adopt '{}' --serial {copied}`, else delete it here",
        home.location("tls/tenant/copy")
    );
    let explained = home.certd(&["explain", &home.location("tls/tenant/copy")]).await;
    assert!(explained.out.contains(&why), "{explained:?}");
    let unnamed = adopt(&home, "tls/tenant/copy").await;
    let described = format!("nothing was adopted: for web.example.org (serial {copied}, issued by ");
    assert!(unnamed.code == 1 && unnamed.out.starts_with(&described), "{unnamed:?}");
    assert!(unnamed.out.contains(&format!("; it shares them with {}", home.location("tls/victim/web"))), "{unnamed:?}");
    let other = adopt_serial(&home, "tls/tenant/copy", "0badc0de").await;
    assert!(
        other.code == 1 && other.out.contains("another certificate than the one of that serial number"),
        "{other:?}"
    );
    let other = home.certd(&["adopt", &home.location("tls/tenant/copy"), "--names", "new.example.org"]).await;
    assert!(other.code == 1 && other.out.contains("a certificate with other names than these"), "{other:?}");
    assert_eq!(problems(&home, "tls/tenant/copy").await, "warning contested_name", "nobody agreed yet");
    let adopted = adopt_serial(&home, "tls/tenant/copy", &colons(&copied)).await;
    let shares = format!("; it shares them with {}\n", home.location("tls/victim/web"));
    assert!(adopted.code == 0 && adopted.out.ends_with(&shares), "{adopted:?}");
    let planned = home.certd(&["plan"]).await.out;
    let listed = ["tls/tenant/copy", "tls/victim/web"].map(|path| home.location(path)).join(", ");
    let listed = format!("web.example.org is kept in several places: {listed}\n");
    assert!(planned.contains(&listed), "{planned}");
    let checked = home.certd(&["config", "check"]).await.out;
    assert!(checked.contains(&listed), "{checked}");
    let examined = home.certd(&["vault", "doctor"]).await.out;
    assert!(examined.contains(listed.trim_end()), "{examined}");
    let told = home.certd(&["journal"]).await.out;
    assert!(told.contains("adopted for web.example.org by uid "), "{told}");
    let audited = home.certd(&["audit", "export", "--certificate", &home.location("tls/tenant/copy")]).await.out;
    assert!(audited.lines().any(|line| line.contains("\"event\":\"adopt\",") && line.contains("\"by\":{\"uid\":")));
    assert_eq!(home.certd(&["renew", &home.location("tls/tenant/copy"), "--force"]).await.code, 0);
    assert_eq!((home.version("tls/tenant/copy").await, home.signed().await), (2, 2));
}

#[tokio::test]
async fn a_place_that_is_overwritten_with_other_names_is_held_and_a_daemon_hears_of_the_person() {
    let home = with_victim().await;
    home.put("tls/tenant/own", Leaf::due("own.example.org")).await;
    let daemon = home.run().await;
    assert_eq!(home.version("tls/tenant/own").await, 2);
    copy(&home, "tls/victim/web", "tls/tenant/own").await;
    daemon.reload();
    daemon.until("turn completed");
    let held = [("tls/tenant/own", "hold other_names"), ("tls/victim/web", "keep")];
    assert_eq!(home.plan().await, rows(&held));
    assert_eq!(problems(&home, "tls/tenant/own").await, "warning other_names");

    home.put("tls/tenant/own", Leaf::due("other.example.org")).await;
    assert_eq!(home.plan().await, rows(&held), "whoever has that name");
    assert_eq!(adopt(&home, "tls/tenant/own").await.code, 1);
    let named = home.certd(&["adopt", &home.location("tls/tenant/own"), "--names", "Other.example.org."]).await;
    assert_eq!(named.code, 0, "{named:?}");
    daemon.until("adopted by a person");
    daemon.until("renewed, stored and read back");
    assert_eq!(home.version("tls/tenant/own").await, 5);
    assert!(daemon.stop().success());
}

#[tokio::test]
async fn a_deleted_home_keeps_its_names_until_it_is_forgotten() {
    let home = with_victim().await;
    copy(&home, "tls/victim/web", "tls/moved").await;
    let alive = home.certd(&["forget", &home.location("tls/victim/web"), "--reason", "OPS-7"]).await;
    let why =
        format!("nothing was forgotten: {} is still there, and its [[adopt]] rule", home.location("tls/victim/web"));
    assert!(alive.code == 1 && alive.out.starts_with(&why), "{alive:?}");
    let refused = refusals(&home, "forget").await;
    assert!(refused.len() == 1 && refused[0].contains("is still there") && refused[0].contains("OPS-7"), "{refused:?}");
    home.delete("tls/victim/web").await;
    assert_eq!(home.plan().await, rows(&[("tls/moved", "hold contested_name")]));
    let unknown = home.certd(&["forget", &home.location("tls/victim/wbe")]).await;
    assert!(unknown.code == 1 && unknown.out.contains("did you mean"), "{unknown:?}");
    let forgotten = home.certd(&["forget", &home.location("tls/victim/web")]).await;
    assert!(forgotten.code == 0 && forgotten.out.ends_with("its names are free: web.example.org\n"), "{forgotten:?}");
    assert_eq!(home.plan().await, rows(&[("tls/moved", "keep")]));
}

/// The records of refused acts of this kind, each with its act.
async fn refusals(home: &Home, event: &str) -> Vec<String> {
    let lines = home.certd(&["audit", "export"]).await.out;
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let act = |record: &Value| {
        records.iter().find(|act| act["seq"] == record["act"] && act["event"] == event).map(ToString::to_string)
    };
    let refused = records.iter().filter(|record| record["event"] == "refused");
    refused.filter_map(|record| act(record).map(|act| format!("{act} {record}"))).collect()
}

#[tokio::test]
async fn what_could_not_be_listed_is_told_by_each_command_that_decides_by_it() {
    let home = with_victim().await;
    let victim = home.location("tls/victim/web");
    home.take_rights("metadata/tls/").await;
    let told = "listing of apps could not be read: ";
    let planned = home.certd(&["plan"]).await;
    assert!(planned.code == 3 && planned.out.contains(told), "{planned:?}");
    let planned = home.certd(&["plan", "--format", "json"]).await;
    assert!(planned.code == 3 && planned.json()["not_seen"][0]["location"] == "listing of apps", "{planned:?}");
    let renewed = home.certd(&["renew"]).await;
    assert!(renewed.code == 3 && renewed.out.contains(told), "{renewed:?}");
    let named = home.certd(&["renew", &victim]).await;
    let unknown = format!("{victim}: whether certd manages it is unknown: could not list ");
    assert!(named.code == 2 && named.out.starts_with(&unknown), "{named:?}");
    let forgotten = home.certd(&["forget", &victim]).await;
    let why = format!("nothing was forgotten: whether {victim} is gone is unknown: ");
    assert!(forgotten.code == 1 && forgotten.out.starts_with(&why), "{forgotten:?}");
    assert_eq!(refusals(&home, "forget").await.len(), 1);
    assert_eq!(adopt(&home, "tls/victim/web").await.code, 1);
    assert_eq!(refusals(&home, "adopt").await.len(), 1);
    home.give_rights_back().await;
    assert_eq!(home.plan().await, rows(&[("tls/victim/web", "keep")]));
}

#[tokio::test]
async fn after_a_lost_journal_what_stands_is_adopted_together_and_what_has_ended_is_not_revived() {
    let home = with_victim().await;
    home.put("tls/tenant/loot", Leaf::expired("web.example.org")).await;
    copy(&home, "tls/victim/web", "tls/tenant/copy").await;
    turn(&home).await;
    std::fs::write(home.path("state/journal.redb"), "no journal").unwrap();
    turn(&home).await;
    assert_eq!(home.plan().await, rows(&[("tls/tenant/copy", "keep"), ("tls/victim/web", "keep")]));
    assert_eq!(problems(&home, "tls/tenant/loot").await, "critical expired abandoned");
    let planned = home.certd(&["plan"]).await.out;
    assert!(planned.contains("web.example.org is kept in several places: "), "{planned}");
    home.put("tls/tenant/late", Leaf::due("web.example.org")).await;
    assert_eq!(problems(&home, "tls/tenant/late").await, "warning expiring contested_name");
    assert_eq!(home.signed().await, 1);
}

#[tokio::test]
async fn a_changed_rule_looks_for_the_first_time_and_what_was_contested_stays_so() {
    let home = with_victim().await;
    copy(&home, "tls/victim/web", "tls/tenant/copy").await;
    home.put("tls/tenant/own", Leaf::fresh("own.example.org")).await;
    let wider = ADOPT.replace("KV/tls/**", "KV/tls/**\", \"KV/tls/more/**");
    home.configure(&wider);
    let rows =
        rows(&[("tls/tenant/copy", "hold contested_name"), ("tls/tenant/own", "keep"), ("tls/victim/web", "keep")]);
    assert_eq!(home.plan().await, rows);
    home.configure(&format!("{ADOPT}share_names = true\n"));
    assert!(home.plan().await.contains(&("tls/tenant/copy".into(), "keep".into())));
}

#[tokio::test]
async fn two_places_that_were_held_for_each_other_stay_so_whatever_becomes_of_the_rule() {
    let home = with_victim().await;
    home.put("tls/red/x", Leaf::due("x.example.org")).await;
    home.put("tls/blue/x", Leaf::due("x.example.org")).await;
    turn(&home).await;
    let held = rows(&[
        ("tls/blue/x", "hold contested_name"),
        ("tls/red/x", "hold contested_name"),
        ("tls/victim/web", "keep"),
    ]);
    assert_eq!(home.plan().await, held);
    let wider = ADOPT.replace("KV/tls/**", "KV/tls/**\", \"KV/tls/more/**");
    let narrower = ADOPT.replace("KV/tls/**\"", "KV/tls/red/*\", \"KV/tls/blue/*\", \"KV/tls/victim/*\"");
    for changed in [wider, narrower, ADOPT.replace("\"apps\"", "\"renamed\"")] {
        home.configure(&changed);
        assert_eq!(home.plan().await, held, "{changed}");
        turn(&home).await;
        assert_eq!(home.plan().await, held, "{changed}");
    }
    home.configure("");
    turn(&home).await;
    home.configure(&ADOPT.replace("\"apps\"", "\"once-more\""));
    assert_eq!(home.plan().await, held, "deleted and added again");
    home.delete("tls/blue/x").await;
    assert_eq!(home.plan().await[0], ("tls/red/x".to_string(), "hold contested_name".to_string()), "the other is gone");
    assert_eq!(home.signed().await, 1);

    let red = serial(&home, "tls/red/x").await;
    let adopted = adopt_serial(&home, "tls/red/x", &red).await;
    assert_eq!(adopted.code, 0, "{adopted:?}");
    turn(&home).await;
    assert_eq!((home.version("tls/red/x").await, home.signed().await), (2, 2));
}

#[tokio::test]
async fn what_may_have_been_revoked_waits_until_its_issuer_can_be_asked() {
    let home = with_victim().await;
    put_signed(&home, "tls/tenant/loot", "loot.example.org").await;
    put_signed(&home, "tls/tenant/good", "good.example.org").await;
    let (loot, good) = (serial(&home, "tls/tenant/loot").await, serial(&home, "tls/tenant/good").await);
    revoke(&home, &loot).await;
    home.put("tls/old", Leaf::due("old.example.org")).await;
    home.take_rights("/certs/revoked").await;
    let unknown = [
        ("tls/old", "renew due"),
        ("tls/tenant/good", "hold revocation_unknown"),
        ("tls/tenant/loot", "hold revocation_unknown"),
        ("tls/victim/web", "keep"),
    ];
    assert_eq!(home.plan().await, rows(&unknown), "what certd stored, and a CA of which there is no list, go on");
    let force = ["renew", &home.location("tls/tenant/loot"), "--force"];
    let forced = home.certd(&force).await;
    assert!(forced.code == 1 && forced.out.contains("whether it was revoked is unknown"), "{forced:?}");
    assert_eq!(problems(&home, "tls/tenant/loot").await, "warning revocation_unknown");
    let explained = home.certd(&["explain", &home.location("tls/tenant/good")]).await;
    let what = format!("or run `certd adopt '{}' --serial {good}`", home.location("tls/tenant/good"));
    assert!(explained.out.contains(&what) && explained.out.contains("certs/revoked"), "{explained:?}");
    turn(&home).await;
    let versions = (home.version("tls/tenant/loot").await, home.version("tls/tenant/good").await);
    assert_eq!((versions, home.version("tls/old").await), ((1, 1), 2));

    home.give_rights_back().await;
    turn(&home).await;
    assert_eq!(problems(&home, "tls/tenant/loot").await, "critical revoked abandoned");
    let known = rows(&[("tls/old", "keep"), ("tls/tenant/good", "keep"), ("tls/victim/web", "keep")]);
    assert_eq!(home.plan().await, known);

    home.take_rights("/certs/revoked").await;
    assert_eq!(home.plan().await[1], ("tls/tenant/good".to_string(), "hold revocation_unknown".to_string()));
    assert_eq!(adopt_serial(&home, "tls/tenant/good", &good).await.code, 0);
    assert_eq!(home.plan().await[1], ("tls/tenant/good".to_string(), "keep".to_string()), "a person knows it");
}

#[tokio::test]
async fn a_declared_certificate_has_its_names_from_the_beginning() {
    let home = Home::new(&format!("{ADOPT}{}", declared("web"))).await;
    home.put("tls/tenant/copy", Leaf::due("web.example.org")).await;
    assert_eq!(home.plan().await, rows(&[("tls/tenant/copy", "hold contested_name"), ("web", "renew missing")]));
}

#[tokio::test]
async fn a_rule_that_asks_adopts_what_a_person_names_and_nothing_else() {
    let home = Home::new(&format!("{ADOPT}adopt = \"ask\"\n")).await;
    home.put("tls/web", Leaf::due("web.example.org")).await;
    home.put("tls/api", Leaf::due("api.example.org")).await;
    turn(&home).await;
    assert_eq!(home.plan().await, rows(&[("tls/api", "hold not_agreed"), ("tls/web", "hold not_agreed")]));
    assert_eq!(problems(&home, "tls/web").await, "warning expiring not_agreed");
    assert_eq!(adopt(&home, "tls/web").await.code, 0);
    turn(&home).await;
    assert_eq!(home.plan().await, rows(&[("tls/api", "hold not_agreed"), ("tls/web", "keep")]));
    assert_eq!((home.version("tls/web").await, home.version("tls/api").await, home.signed().await), (2, 1, 1));
    let again = adopt(&home, "tls/web").await;
    assert!(again.code == 0 && again.out.starts_with("it is adopted already"), "{again:?}");
    let nothing = adopt(&home, "tls/wbe").await;
    assert!(nothing.code == 1 && nothing.out.contains("certd sees nothing of this name"), "{nothing:?}");
}

#[tokio::test]
async fn names_that_are_bound_to_the_folder_are_not_to_be_had_from_another() {
    let bound = ADOPT.replace("*.example.org", "*.{2}.example.org");
    let home = Home::new(ADOPT).await;
    let warned = home.certd(&["config", "check"]).await;
    assert!(warned.code == 0 && warned.out.contains("adopt rule apps: it covers several folders"), "{warned:?}");
    home.configure(&bound);
    let checked = home.certd(&["config", "check"]).await;
    assert!(checked.code == 0 && !checked.out.contains("several folders"), "{checked:?}");
    home.put("tls/blue/web", Leaf::due("web.blue.example.org")).await;
    home.put("tls/red/web", Leaf::due("web2.blue.example.org")).await;
    home.put("tls/BLUE/web", Leaf::due("web3.blue.example.org")).await;
    assert_eq!(home.plan().await, rows(&[("tls/blue/web", "renew due")]));
    assert_eq!(problems(&home, "tls/BLUE/web").await, "warning expiring foreign");
    let planned = home.certd(&["plan"]).await.out;
    let why = "a folder of this path is missing or no label of a name in lower case";
    assert!(planned.contains(&home.location("tls/BLUE/web")) && planned.contains(why), "{planned}");
    assert_eq!(problems(&home, "tls/red/web").await, "warning expiring foreign");
}

#[tokio::test]
async fn a_location_has_only_that_revoked_which_certd_stored_there() {
    let home = with_victim().await;
    copy(&home, "tls/victim/web", "tls/tenant/copy").await;
    let copied = home.location("tls/tenant/copy");
    let refused = home.certd(&["revoke", &copied]).await;
    let old = serial(&home, "tls/victim/web").await;
    let words = format!("nothing was revoked: certd did not store the certificate at {copied}");
    assert!(refused.code == 1 && refused.out.starts_with(&words) && refused.out.contains(&old), "{refused:?}");
    // With an account that may.
    home.give_token(&home.house.admin.root_token);
    let revoked = home.certd(&["revoke", &home.location("tls/victim/web")]).await;
    assert!(revoked.code == 0 && revoked.out.contains("in its next turn"), "{revoked:?}");
    assert_eq!(home.plan().await, rows(&[("tls/victim/web", "renew revoked")]));
}

#[tokio::test]
async fn the_answer_of_a_revocation_says_where_nothing_is_replaced() {
    let home = with_victim().await;
    home.give_token(&home.house.admin.root_token);
    let name = home.location("tls/victim/web");
    assert_eq!(home.certd(&["pause", &name, "--until", "1h"]).await.code, 0);
    let revoked = home.certd(&["revoke", &name]).await;
    let words = format!("certd does not replace it where {name} is kept: `certd explain {name}` says why\n");
    assert!(revoked.code == 0 && revoked.out.ends_with(&words), "{revoked:?}");
}
