//! What is logged, and what never is.

use serde_json::Value;

use super::process::{Home, LOCAL, eventually};
use super::stop::signed_by;
use super::support::server::free_port;
use super::support::vault::server;

#[test]
fn each_line_of_a_json_log_is_an_object_with_its_facts_as_fields() {
    let home = Home::with(&format!("log = {{ format = \"json\" }}\n{LOCAL}"));
    let certd = home.start();
    certd.logs(&["renewed, stored and read back"]);
    certd.turn_completed();
    home.configure("[nonsense]");
    certd.signal(libc::SIGHUP);
    certd.logs(&["the new configuration is refused"]);

    let lines: Vec<Value> = certd.log().iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["message"].is_string(), "{line}");
        assert!(["INFO", "WARN", "ERROR"].contains(&line["level"].as_str().unwrap()), "{line}");
    }
    let renewed = lines.iter().find(|line| line["message"] == "renewed, stored and read back").unwrap();
    assert_eq!(
        (&renewed["cert"], &renewed["issuer"], &renewed["reason"]),
        (&"web".into(), &"local".into(), &"missing".into())
    );
    let completed = lines.iter().find(|line| line["message"] == "turn completed").unwrap();
    assert_eq!((&completed["certificates"], &completed["renewals"]), (&1.into(), &1.into()));
    certd.stop();
}

#[test]
fn a_log_for_people_has_no_colours_when_it_goes_elsewhere() {
    let home = Home::with(LOCAL);
    let certd = home.start();
    certd.turn_completed();
    let log = certd.log().join("\n");
    assert!(!log.contains('\u{1b}'), "{log:?}");
    assert!(log.contains(" INFO turn completed "), "{log}");
    certd.stop();
}

#[test]
fn a_vault_that_stays_away_is_a_warning_once_and_each_turn_counts_what_is_unknown() {
    let closed = format!("127.0.0.1:{}", free_port());
    let home = Home::with(&format!(
        "vault.main = {{ address = \"http://{closed}\", token_file = \"token\" }}\n\
         source.apps.vault_kv = {{ vault = \"main\", paths = [\"secret/**\"] }}\n{LOCAL}"
    ));
    std::fs::write(home.path("token"), "s.some").unwrap();
    let certd = home.start();
    eventually("a third turn", || match certd.count(&["turn completed", "unknown=1"]) {
        0..3 => Err(certd.log().join("\n")),
        _ => Ok(()),
    });
    let said = |words: &[&str]| certd.count(words);
    assert_eq!(
        (said(&["WARN", "source apps"]), said(&["WARN", "vault main"]), said(&["no trouble any more"])),
        (1, 1, 0),
        "{}",
        certd.log().join("\n")
    );
    home.configure(LOCAL);
    certd.signal(libc::SIGHUP);
    certd.logs(&["no trouble any more", "source apps"]);
    certd.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn not_even_at_trace_is_a_token_or_a_private_key_logged() {
    let vault = server().await;
    let (ca, kv) = (vault.pki().await, vault.kv("secret").await);
    let every = format!(
        "path \"{kv}/*\" {{ capabilities = [\"create\", \"read\", \"update\", \"list\"] }}\npath \"{}/*\" {{ capabilities = [\"update\", \"read\"] }}",
        ca.mount
    );
    let token = vault.token(&every).await;
    for format in ["json", "human"] {
        let tables = signed_by(&vault.address, &ca.mount, &["web", "api"]).replace(
            "store.file = { directory = \"certificates/",
            &format!("store.vault_kv = {{ vault = \"main\", path = \"{kv}/{format}-"),
        );
        let home = Home::with(&format!("log = {{ format = \"{format}\", level = \"trace\" }}\n{tables}"));
        std::fs::write(home.path("token"), &token).unwrap();
        let certd = home.start();
        certd.logs(&["renewed, stored and read back", "web"]);
        certd.logs(&["renewed, stored and read back", "api"]);
        certd.turn_completed();
        // Refused from here on, so that error texts are seen too.
        std::fs::write(home.path("token"), "s.another-secret").unwrap();
        certd.logs(&["permission denied"]);
        let log = certd.log().join("\n");
        let (secret, _) = vault.get(&kv, &format!("{format}-web")).await;
        let key = secret["private_key"].as_str().unwrap();
        let key: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
        for secret in key.into_iter().chain([token.as_str(), "s.another-secret", "PRIVATE KEY"]) {
            assert!(!log.contains(secret), "{secret} is in\n{log}");
        }
        certd.stop();
    }
}
