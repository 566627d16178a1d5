//! DNS-PERSIST-01: a person puts a record into the DNS once, a CA looks for it there, and certd writes nothing.

use std::fs;
use std::sync::Arc;

use serde_json::Value;

use crate::home::{Ca, HTTP, Home, scripted};
use crate::support::acme_server::{Kind, Script, Validation, Verdict, problem};
use crate::support::bind::Bind;

const DAY: i64 = 86_400;

/// Where the record of `www.example.test` is, and that of the apex and its wildcard.
const WWW: &str = "_validation-persist.www.example.test";
const APEX: &str = "_validation-persist.example.test";

/// A CA that looks into the DNS itself, and a certd that has one certificate of it, for these names.
fn world(names: &[&str], more: &str) -> (Arc<Bind>, Ca, Home) {
    let bind = Arc::new(Bind::primary());
    let looked_at = bind.clone();
    let judge = move |it: &Validation| {
        let stands = |text: &String| {
            text.starts_with(&format!("ca.example; accounturi={}", it.account))
                && (!it.wildcard || text.contains("; policy=wildcard"))
        };
        let texts = looked_at.texts(&format!("_validation-persist.{}", it.identifier));
        match it.kind == "dns-persist-01" && texts.iter().any(stands) {
            true => Verdict::Valid,
            false => Verdict::Invalid(problem(403, "unauthorized", "no record allows it")),
        }
    };
    let (server, home) = scripted(Script { judge: Arc::new(judge), ..Script::default() });
    let at = bind.address;
    let persist = format!("challenge.dns_persist_01 = {{ resolver = \"{at}\", authoritative = [\"{at}\"] }}\n");
    home.configure(&(persist + more), names);
    (bind, server, home)
}

/// In place of what is there.
fn put(bind: &Bind, owner: &str, record: &str) {
    bind.update("example.test", &format!("update delete {owner} TXT\nupdate add {owner} 60 TXT \"{record}\""));
}

fn account(home: &Home) -> String {
    let kept: Value = serde_json::from_str(&fs::read_to_string(home.path("state/acme/public.json")).unwrap()).unwrap();
    kept["url"].as_str().unwrap().to_string()
}

/// What an attempt says that has to be put where; the CA is not asked to look at anything.
async fn refused(server: &Ca, home: &Home, why: &str) -> (String, String) {
    let asked = server.count(Kind::Challenge);
    let ran = home.certd(&["renew", "--force", "web"]).await;
    assert!(ran.code == 2 && ran.out.contains(why), "{ran:?}");
    assert_eq!((server.count(Kind::Challenge), server.count(Kind::Finalize)), (asked, server.issued().len()));
    let (_, put) = ran.out.split_once("put this there: ").expect(&ran.out);
    let (owner, record) = put.trim_end().trim_end_matches('"').split_once(" TXT \"").expect(&ran.out);
    (owner.to_string(), record.to_string())
}

/// What a look finds wrong with the certificate.
async fn problems(home: &Home) -> Vec<(String, String, String)> {
    let ran = home.certd(&["check", "--format", "json"]).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let problem = |it: &Value| (text(&it["problem"]), text(&it["severity"]), text(&it["message"]));
    report["certificates"][0]["problems"].as_array().unwrap().iter().map(problem).collect()
}

#[tokio::test]
async fn a_record_that_is_missing_is_told_and_once_it_is_there_every_order_is_proved_by_it_without_any_write() {
    let (bind, server, home) = world(&["www.example.test"], "");
    let (owner, record) = refused(&server, &home, "no record is for this CA").await;
    assert_eq!((owner.as_str(), &record), (WWW, &format!("ca.example; accounturi={}", account(&home))));
    put(&bind, &owner, &record);
    let zone = bind.dig("example.test", "SOA");
    home.renewed().await;
    assert_eq!(home.certd(&["renew", "--force", "web"]).await.code, 0);
    assert_eq!(server.issued().len(), 2);
    assert_eq!(bind.dig("example.test", "SOA"), zone);
}

#[tokio::test]
async fn a_record_of_another_account_or_that_has_ended_allows_nothing() {
    let (bind, server, home) = world(&["www.example.test"], "");
    put(&bind, WWW, "ca.example; accounturi=https://ca.example/account/other");
    let why = "the record is for another account: https://ca.example/account/other";
    let (owner, record) = refused(&server, &home, why).await;
    put(&bind, &owner, &format!("{record}; persistUntil=1700000000"));
    refused(&server, &home, "the record allowed it until 2023-11-14T22:13:20Z").await;
    put(&bind, &owner, &record);
    home.renewed().await;
}

#[tokio::test]
async fn a_wildcard_needs_a_record_that_says_so() {
    let (bind, server, home) = world(&["*.example.test", "example.test"], "");
    refused(&server, &home, "no record is for this CA").await;
    put(&bind, APEX, &format!("ca.example; accounturi={}", account(&home)));
    let (owner, record) = refused(&server, &home, "the record is for the name alone").await;
    let wanted = format!("ca.example; accounturi={}; policy=wildcard", account(&home));
    assert_eq!((owner.as_str(), &record), (APEX, &wanted));
    put(&bind, &owner, &record);
    assert_eq!(home.renewed().await.names.len(), 2);
}

#[tokio::test]
async fn explain_tells_each_record_that_must_be_there_and_how_it_stands() {
    let (bind, server, home) = world(&["www.example.test", "*.example.test", "example.test"], "");
    let records = async || {
        let ran = home.certd(&["explain", "web"]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        let lines = ran.out.lines().filter_map(|line| line.strip_prefix("record")).map(|line| line.trim().to_string());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(records().await, ["of public: is told once there is an account, which the first renewal makes"]);
    assert_eq!(server.accounts().len(), 0);
    refused(&server, &home, "no record is for this CA").await;
    let record = format!("ca.example; accounturi={}", account(&home));
    put(&bind, WWW, &record);
    assert_eq!(
        records().await,
        [
            format!("{APEX} TXT \"{record}; policy=wildcard\": no record is for this CA"),
            format!("{WWW} TXT \"{record}\": a record allows it"),
        ]
    );
    drop(server);
    let [unknown] = &records().await[..] else { panic!("one line of the issuer") };
    assert!(unknown.starts_with("of public: it is not known: the CA's directory could not be read"), "{unknown}");
}

#[tokio::test]
async fn a_record_that_a_certificate_depends_on_is_a_problem_before_it_ends_and_when_it_does_not_stand() {
    let (bind, server, home) = world(&["www.example.test"], "");
    let (_, record) = refused(&server, &home, "no record is for this CA").await;
    put(&bind, WWW, &record);
    home.renewed().await;
    assert_eq!(problems(&home).await, []);
    let told = format!("put this there: {WWW} TXT \"{record}\"");
    let one = |severity: &str, message: String| [("persist_record".to_string(), severity.to_string(), message)];
    let now = jiff::Timestamp::now().as_second();
    put(&bind, WWW, &format!("{record}; persistUntil={}", now + 15 * DAY));
    assert_eq!(problems(&home).await, []);
    let until = jiff::Timestamp::from_second(now + 13 * DAY).unwrap();
    put(&bind, WWW, &format!("{record}; persistUntil={}", until.as_second()));
    assert_eq!(problems(&home).await, one("warning", format!("a record allows it until {until}; {told}")));
    put(&bind, WWW, &record.replace("accounturi=https", "accounturi=http"));
    let other = account(&home).replace("https", "http");
    assert_eq!(problems(&home).await, one("critical", format!("the record is for another account: {other}; {told}")));
    bind.update("example.test", &format!("update delete {WWW} TXT"));
    assert_eq!(problems(&home).await, one("critical", format!("no record is for this CA; {told}")));
}

#[tokio::test]
async fn a_record_that_nobody_can_be_asked_for_is_told_in_the_log_and_is_no_problem() {
    let (bind, server, home) = world(&["www.example.test"], "");
    let (_, record) = refused(&server, &home, "no record is for this CA").await;
    put(&bind, WWW, &record);
    home.renewed().await;
    let at = bind.address.to_string();
    // The CA has a hand on it too.
    server.change(|script| script.judge = Script::default().judge);
    drop(bind);
    assert_eq!(problems(&home).await, []);
    let ran = home.certd(&["renew", "web"]).await;
    assert!(
        ran.err.contains("it is not known whether its records in the DNS stand") && ran.err.contains(&at),
        "{ran:?}"
    );
}

#[tokio::test]
async fn where_another_challenge_proves_the_name_a_record_is_not_needed() {
    let (_bind, server, home) = world(&["www.example.test"], HTTP);
    server.change(|script| script.judge = Script::default().judge);
    home.renewed().await;
    assert_eq!(problems(&home).await, []);
    assert_eq!(server.count(Kind::Challenge), 1);
}
