//! `certd vault doctor`: what would hinder certd is told before it does, by name and with what to do.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::home::{ADOPT, Home, declared};
use crate::leaves::Leaf;
use crate::support::vault::own_server;

/// State and what was found, a line each, in the order of Vaults.
async fn findings(home: &Home) -> (i32, Vec<(String, String)>) {
    let ran = home.certd(&["vault", "doctor", "--format", "json"]).await;
    assert_eq!(ran.err, "");
    let line = |finding: &Value| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        let what = format!("{} {}: {} | {}", text("vault"), text("about"), text("what"), text("advice"));
        // Its hour may not have begun to run down.
        let what =
            what.replace("in 60 min", "in 59 min").replace(&home.house.kv, "KV").replace(&home.house.ca.mount, "PKI");
        (text("state").to_string(), what.replace(&home.house.admin.address, "ADDRESS"))
    };
    (ran.code, ran.json()["findings"].as_array().unwrap().iter().map(line).collect())
}

/// Those that are not ok.
async fn complaints(home: &Home) -> (i32, Vec<String>) {
    let (code, mut lines) = findings(home).await;
    lines.retain(|(state, _)| state != "ok");
    (code, lines.into_iter().map(|(state, what)| format!("{state} {what}")).collect())
}

/// Nobody's child, as a token for a daemon should be.
async fn give_orphan(home: &Home, policy: &str) {
    let (admin, name) = (&home.house.admin, format!("doctor-{}", home.house.kv));
    let policy = policy.replace("KV", &home.house.kv).replace("PKI", &home.house.ca.mount);
    admin.admin("PUT", &format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
    let asked = json!({ "policies": [name], "no_parent": true, "no_default_policy": true, "ttl": "1h" });
    let made = admin.admin("POST", "auth/token/create", asked).await;
    home.give_token(made["auth"]["client_token"].as_str().unwrap());
}

async fn printed(home: &Home) -> String {
    home.give_token(&home.house.admin.root_token);
    home.certd(&["vault", "policy"]).await.out
}

/// With just the rights that it needs.
async fn healthy() -> Home {
    let home = Home::new(&format!("{ADOPT}{}", declared("web"))).await;
    home.put("tls/app", Leaf::fresh("app.example.org")).await;
    let policy = printed(&home).await;
    give_orphan(&home, &policy).await;
    home
}

#[tokio::test]
async fn where_all_is_well_each_thing_is_ok_and_so_is_the_exit_code() {
    let home = healthy().await;
    let (code, lines) = findings(&home).await;
    let said: Vec<String> = lines.iter().map(|(state, what)| format!("{state} {what}")).collect();
    let version = said[0].split(' ').nth(5).unwrap();
    assert_eq!(
        said,
        [
            format!("ok main server: the server {version} at ADDRESS answers, and is the active one | "),
            "ok main clock: this host and the server have the same time | ".to_string(),
            "ok main token: certd was given a service token with policies doctor-KV; it ends in 59 min, renewable | "
                .to_string(),
            "ok main rights: the token may do all that is needed; rules: 14, paths of secrets that are there: 2 | "
                .to_string(),
            "ok main rights: which other policies open MOUNT/certd/pending/default is not visible to this token; what is \
             kept there is sealed | "
                .to_string(),
            "ok main mount: KV is KV version 2, keeps as many versions as Vault's default | ".to_string(),
            "ok main role: role servers of PKI leases nothing, and signs all that is asked for long enough | "
                .to_string(),
        ]
    );
    assert_eq!(code, 0);
    let table = home.certd(&["vault", "doctor", "--vault", "main"]).await;
    assert_eq!((table.code, table.err.as_str()), (0, ""));
    assert!(
        table.out.starts_with("STATE") && table.out.ends_with("7 ok, 0 warning, 0 critical, 0 unknown\n"),
        "{table:?}"
    );
}

#[tokio::test]
async fn each_missing_right_is_named_with_the_line_that_grants_it() {
    let home = healthy().await;
    let policy = printed(&home).await;
    let blocks: Vec<&str> = policy.split("\n\n").filter(|block| block.contains("path \"")).collect();
    assert_eq!(blocks.len(), 14);
    for block in &blocks {
        let rest: Vec<&str> = blocks.iter().copied().filter(|other| other != block).collect();
        give_orphan(&home, &rest.join("\n")).await;
        let (code, complaints) = complaints(&home).await;
        let rule = block.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
        let line = rule.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        let line = line.replace(&home.house.kv, "KV").replace(&home.house.ca.mount, "PKI");
        assert!(complaints.iter().any(|told| told.contains(&line)), "{line}: {complaints:#?}");
        assert!([1, 2, 3].contains(&code) && complaints.len() <= 2, "{line}: {complaints:#?}");
    }
}

#[tokio::test]
async fn what_certd_cannot_renew_without_is_critical_and_what_it_only_tells_less_without_is_not() {
    let home = healthy().await;
    let policy = printed(&home).await;
    let without = |part: &str| policy.replacen(part, "", 1);
    give_orphan(&home, &without("\"update\", ").replace("\"create\", ", "")).await;
    let (code, told) = complaints(&home).await;
    assert_eq!(code, 2, "{told:#?}");
    give_orphan(&home, &policy.replace("\"read\", \"patch\", \"list\"", "\"list\"")).await;
    let (code, told) = complaints(&home).await;
    let expected = "warning main rights: missing on KV/metadata/tls/*: read, patch (adopt rule apps lists KV/tls/**; \
                    adopt rule apps has its versions read, and noted who wrote them; certificate web has its versions \
                    read, and noted who wrote them) | add to its policy: path \"KV/metadata/tls/*\" \
                    { capabilities = [\"read\", \"patch\", \"list\"] }";
    assert_eq!((code, told), (1, vec![expected.to_string()]));
}

#[tokio::test]
async fn a_rule_of_its_own_that_grants_less_for_one_secret_is_found() {
    let home = healthy().await;
    let shadow = "\npath \"KV/data/tls/app\" { capabilities = [\"read\"] }\n";
    give_orphan(&home, &(printed(&home).await + shadow)).await;
    let (code, told) = complaints(&home).await;
    let expected = "critical main rights: missing on KV/data/tls/app: update | another rule of its policies goes before \
                    KV/data/tls/*: mend it, or add path \"KV/data/tls/app\" { capabilities = [\"read\", \"update\"] }";
    assert_eq!((code, told), (2, vec![expected.to_string()]));
}

#[tokio::test]
async fn a_root_token_and_rights_that_nobody_uses_are_told() {
    let home = healthy().await;
    home.give_token(&home.house.admin.root_token);
    let (code, mut told) = complaints(&home).await;
    // A root token reads all policies: that which `healthy` gave and that of the token before it.
    let policies = told.extract_if(.., |line| line.starts_with("warning main rights: policy ")).count();
    assert_eq!(policies, 2);
    let expected = "critical main token: it is a root token: whoever gets hold of it owns this Vault | give certd a token \
                    with the policy that `certd vault policy` prints, and revoke this one";
    assert_eq!((code, told), (2, vec![expected.to_string()]));

    let all = "capabilities = [\"create\", \"read\", \"update\", \"patch\", \"delete\", \"list\", \"sudo\"]";
    let wide: String =
        ["KV/*", "PKI/*", "sys/*", "auth/token/*"].map(|path| format!("path \"{path}\" {{ {all} }}\n")).concat();
    let own = "path \"cubbyhole/certd\" { capabilities = [\"create\", \"update\"] }\n";
    give_orphan(&home, &(wide + own)).await;
    let (code, told) = complaints(&home).await;
    let mut told: Vec<&str> = told.iter().map(|line| line.split(" | ").next().unwrap()).collect();
    // The token may read all policies, and that of the token before it is there still.
    let of_others = |line: &&str| line.starts_with("warning main rights: policy policy-");
    let others: Vec<&str> = told.extract_if(.., |line| of_others(&&**line)).collect();
    let opens =
        " opens pending keys of this configuration by KV/data/certd/pending/default/tls/*: create, read, update";
    assert!(others.len() == 1 && others[0].ends_with(opens), "{others:?}");
    let rights = "warning main rights: needless on";
    let powers = "create, update, patch, delete, sudo";
    assert_eq!(
        told,
        [
            format!("{rights} auth/token/lookup-self (and on 4 more): {powers}"),
            format!("{rights} PKI/sign/servers (and on 9 more): delete, sudo"),
            format!("{rights} sys/policies/acl: {powers} (whoever has the token could grant it anything)"),
            format!("{rights} sys/mounts: {powers} (whoever has the token could mount and unmount stores)"),
            format!("{rights} sys/auth: {powers} (whoever has the token could open another way in)"),
            format!("{rights} auth/token/create: {powers} (whoever has the token could make others that outlive it)"),
            format!(
                "{rights} all of KV: create, read, update, patch, delete, list, sudo (the configuration names no such secret)"
            ),
            format!("{rights} KV/destroy: {powers} (versions could be destroyed for good)"),
            format!(
                "{rights} PKI/issue/servers: {powers} (Vault would make keys and hand them out, and certd makes its own)"
            ),
            format!("{rights} PKI/sign-verbatim/servers: {powers} (what is signed would obey no role)"),
            format!(
                "{rights} PKI/root/sign-intermediate: {powers} (whoever has the token could have a CA of their own signed)"
            ),
            format!("{rights} PKI/root/generate/internal: {powers} (whoever has the token could replace the CA)"),
            format!("{rights} PKI/config/ca: {powers} (whoever has the token could replace the CA)"),
        ]
    );
    assert_eq!(code, 1);
}

#[tokio::test]
async fn a_token_that_vault_does_not_take_is_one_line_and_the_end_of_the_questions() {
    let home = healthy().await;
    home.give_token("s.wrong-token");
    let (code, told) = complaints(&home).await;
    let refused = "critical main token: Vault refuses the token: it has ended, is of another Vault or namespace, or may do \
                   nothing | give certd one that lives, with the policy that `certd vault policy` prints";
    assert_eq!((code, told), (2, vec![refused.to_string()]));
    std::fs::remove_file(home.path("token")).unwrap();
    let (code, told) = complaints(&home).await;
    assert!(code == 2 && told.len() == 1, "{told:?}");
    assert!(
        told[0].starts_with("critical main token: could not look up the token: could not read the token for Vault: ")
    );
    // The child of root, with `default`, as other stories have it.
    home.give_token(&home.house.admin.token("path \"x\" { capabilities = [\"read\"] }").await);
    let (_, told) = complaints(&home).await;
    assert!(told[0].starts_with("warning main token: it is the child of another token"), "{told:#?}");
}

#[tokio::test]
async fn how_mounts_and_roles_are_set_up_is_told() {
    let home = healthy().await;
    let (admin, kv) = (&home.house.admin, &home.house.kv);
    let config = json!({ "cas_required": true, "max_versions": 1, "delete_version_after": "720h" });
    admin.admin("POST", &format!("{kv}/config"), config).await;
    home.change_role(json!({ "generate_lease": true, "require_cn": true, "max_ttl": "24h" })).await;
    home.configure(&format!("{ADOPT}lifetime = \"90d\"\n{}", declared("web")));
    let (code, told) = complaints(&home).await;
    let told: Vec<&str> = told.iter().map(|line| line.split(" | ").next().unwrap()).collect();
    assert_eq!(
        told,
        [
            "critical main mount: KV deletes each version 720h0m0s after it was written, the newest too",
            "warning main mount: KV keeps 1 version(s), too few to go back to",
            "critical main role: role servers of PKI ties certificates to the life of certd's token, so certd has it sign \
             nothing",
            "critical main role: role servers of PKI signs nothing without a common name, and certificate web has none",
            "critical main role: role servers of PKI signs for 24 h at most, and adopt rule apps wants 90 days",
        ]
    );
    assert_eq!(code, 2);
    admin.admin("POST", &format!("{kv}/config"), json!({ "max_versions": 5, "delete_version_after": "0s" })).await;
    // A role that keeps nothing can lease nothing.
    let change = json!({ "no_store": true, "generate_lease": false, "require_cn": false, "max_ttl": "2160h" });
    home.change_role(change).await;
    let (_, lines) = findings(&home).await;
    let (code, told) = complaints(&home).await;
    let keeps_nothing = "warning main role: role servers of PKI keeps nothing of what it signs, so a certificate whose \
                         answer is lost stays lost | set no_store=false on it";
    assert_eq!((code, told), (1, vec![keeps_nothing.to_string()]));
    let mount =
        "main mount: KV is KV version 2, keeps 5 versions, and demands check-and-set, which certd always does | ";
    assert!(lines.contains(&("ok".to_string(), mount.to_string())), "{lines:#?}");
    admin.admin("DELETE", &format!("{}/roles/servers", home.house.ca.mount), Value::Null).await;
    let (_, told) = complaints(&home).await;
    assert_eq!(
        told,
        [
            "critical main role: PKI has no role servers, which issuer internal names | make the role, or name another in the \
          configuration"
        ]
    );
}

const TWO_MORE: &str = r#"
state_dir = "state"
[vault.main]
address = "ADDRESS"
token_file = "token"
[vault.another]
address = "ANOTHER"
token_file = "token"
"#;

async fn beside(home: &Home, another: &str) -> (i32, Vec<String>) {
    home.configure(&TWO_MORE.replace("ANOTHER", another));
    let (code, lines) = findings(home).await;
    let main = lines.iter().filter(|(_, what)| what.starts_with("main ")).count();
    assert_eq!(main, 4, "the other Vault is examined all the same: {lines:#?}");
    let rest = lines.into_iter().filter(|(_, what)| what.starts_with("another "));
    (code, rest.map(|(state, what)| format!("{state} {}", what.replace(another, "HERE"))).collect())
}

#[tokio::test]
async fn a_vault_that_is_sealed_or_gone_is_one_line_and_the_others_go_on() {
    let home = healthy().await;
    let (admin, server) = own_server().await;
    admin.admin("PUT", "sys/seal", Value::Null).await;
    let (code, told) = beside(&home, &admin.address).await;
    assert!(code == 2 && told.len() == 1, "{told:#?}");
    assert!(
        told[0].starts_with("critical another server: the server ")
            && told[0].ends_with(" at HERE is sealed | unseal it")
    );
    drop(server);
    let (code, told) = beside(&home, &admin.address).await;
    assert!(code == 3 && told.len() == 1, "{told:#?}");
    let gone = "unknown another server: could not ask for the state of the server: could not reach Vault at HERE: ";
    assert!(told[0].starts_with(gone), "{told:#?}");
}

/// Answers that it is well, or not, at a time so many seconds from now, and denies all else.
fn that_claims(state: Value, seconds: i64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut asked = [0; 8192];
            let length = client.read(&mut asked).unwrap_or(0);
            let (mut status, mut body) = ("403 Forbidden", json!({ "errors": ["permission denied"] }));
            if asked[..length].starts_with(b"GET /v1/sys/health?") {
                (status, body) =
                    ("200 OK", json!({ "version": "9.9", "initialized": true, "sealed": false, "standby": false }));
                body["server_time_utc"] = (crate::house::now().0 + seconds).into();
                body.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
            }
            let (body, head) = (body.to_string(), "Content-Type: application/json\r\nConnection: close");
            let answer = format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = client.write_all(answer.as_bytes());
        }
    });
    address
}

#[tokio::test]
async fn a_clock_that_is_off_and_a_server_that_is_not_ready_are_told() {
    let home = healthy().await;
    let (_, told) = beside(&home, &that_claims(json!({}), 1_000)).await;
    assert!(
        told[1].starts_with("warning another clock: the server's clock is 16 min ahead of this host's | "),
        "{told:#?}"
    );
    let (_, told) = beside(&home, &that_claims(json!({}), -7_200)).await;
    assert!(told[1].starts_with("warning another clock: the server's clock is "), "{told:#?}");
    let (_, told) = beside(&home, &that_claims(json!({ "standby": true }), 0)).await;
    assert_eq!(told[0], "ok another server: the server 9.9 at HERE answers, as a standby of the active one | ");
    let (code, told) = beside(&home, &that_claims(json!({ "initialized": false, "sealed": true }), 0)).await;
    let expected = "critical another server: the server 9.9 at HERE was not initialised | initialise it, and unseal it";
    assert_eq!((code, told), (2, vec![expected.to_string()]));
}

#[tokio::test]
async fn rights_that_cannot_be_asked_for_are_unknown_and_never_ok() {
    let home = healthy().await;
    let policy = printed(&home).await;
    let may_not_ask = policy.replace("sys/capabilities-self", "sys/nothing");
    give_orphan(&home, &may_not_ask).await;
    let (code, told) = complaints(&home).await;
    assert!(code == 3 && told.len() == 1, "{told:#?}");
    assert!(
        told[0].starts_with("unknown main rights: could not ask what the token may do: Vault denied it"),
        "{told:#?}"
    );
    assert!(told[0].ends_with("path \"sys/capabilities-self\" { capabilities = [\"update\"] }"), "{told:#?}");
}

#[tokio::test]
async fn a_namespace_is_examined_as_a_vault_of_its_own() {
    let home = healthy().await;
    let admin = &home.house.admin;
    let (status, _) = admin.call(&admin.root_token, "POST", "sys/namespaces/doctor", json!({})).await;
    if status == 404 {
        println!("this server has no namespaces, which only some editions have");
        return;
    }
    home.give_token(&admin.root_token);
    home.configure(
        &TWO_MORE
            .replace("ANOTHER", &admin.address)
            .replace("[vault.another]", "[vault.another]\nnamespace = \"doctor\""),
    );
    let (code, lines) = findings(&home).await;
    let another: Vec<_> = lines.iter().filter(|(_, what)| what.starts_with("another ")).collect();
    assert!(another[0].0 == "ok" && another[0].1.contains("answers, and is the active one"), "{lines:#?}");
    assert_eq!(code, 2, "root");
}
