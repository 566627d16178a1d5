//! Names that are proved in the DNS, before a CA that asks the name server itself: by signed updates, by a command and by
//! acme-dns.

use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::home::{Home, World, scripted};
use crate::support::acme_server::{Kind, Script};
use crate::support::bind::{ALGORITHMS, BYSTANDER, Bind, generate_key};
use crate::support::pebble::Settings;
use crate::support::secrets;

const APEX: &str = "_acme-challenge.example.test";

/// Where the challenge of `web.example.test` is kept, by a CNAME.
const DELEGATED: &str = "web.challenges.test";

async fn world(bind: &Bind) -> World {
    World::new(Settings { dns_server: Some(bind.address.to_string()), ..Settings::default() }).await
}

fn dns_01(bind: &Bind, updater: &str) -> String {
    let at = bind.address;
    format!("challenge.dns_01 = {{ {updater}, authoritative = [\"{at}\"], resolver = \"{at}\" }}\n")
}

/// With its key in place.
pub fn by_update(bind: &Bind, home: &Home, zone: &str) -> String {
    fs::copy(bind.key_file(ALGORITHMS[0]), home.path("tsig.key")).unwrap();
    let at = bind.address;
    dns_01(bind, &format!("rfc2136 = {{ server = \"{at}\", tsig_key_file = \"tsig.key\"{zone} }}"))
}

fn names(home: &Home) -> Vec<String> {
    let mut names: Vec<String> = home.leaf().names.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_name_is_proved_by_an_update_of_its_zone_and_nothing_is_left_there() {
    let bind = Bind::primary();
    let world = world(&bind).await;
    let issuer = by_update(&bind, &world.home, ", zone = \"example.test\"");
    world.home.configure(&issuer, &["www.example.test"]);
    world.home.renewed().await;
    assert_eq!(names(&world.home), ["www.example.test"]);
    assert_eq!(bind.texts("_acme-challenge.www.example.test"), [""; 0]);
}

#[tokio::test]
async fn a_wildcard_and_its_apex_are_proved_at_one_place_beside_what_others_have_there() {
    let bind = Bind::primary();
    let world = world(&bind).await;
    world.home.configure(&by_update(&bind, &world.home, ""), &["*.example.test", "example.test"]);
    world.home.renewed().await;
    assert_eq!(names(&world.home), ["*.example.test", "example.test"]);
    assert_eq!(bind.texts(APEX), ["of-others"]);
}

#[tokio::test]
async fn a_challenge_that_a_cname_leads_elsewhere_is_put_into_that_zone() {
    let bind = Bind::resolving();
    let world = world(&bind).await;
    world.home.configure(&by_update(&bind, &world.home, ", zone = \"challenges.test\""), &["web.example.test"]);
    world.home.renewed().await;
    assert_eq!(names(&world.home), ["web.example.test"]);
    assert_eq!(bind.texts(DELEGATED), [""; 0]);
}

#[tokio::test]
async fn a_key_that_the_name_server_does_not_take_is_told_with_what_to_do_and_the_ca_is_asked_to_look_at_nothing() {
    let bind = Bind::primary();
    let (server, home) = scripted(Script::default());
    home.configure(&by_update(&bind, &home, ""), &["www.example.test"]);
    let refused = async |why: &str| {
        let ran = home.certd(&["renew", "--force", "web"]).await;
        let [line] = ran.out.lines().collect::<Vec<_>>()[..] else { panic!("{ran:?}") };
        assert!(
            ran.code == 2 && line.contains("could not put the challenge at _acme-challenge.www.example.test"),
            "{line}"
        );
        assert!(line.ends_with(why), "{line}");
    };
    generate_key(&home.path("tsig.key"), ALGORITHMS[0], ALGORITHMS[0]);
    refused("its key hmac-sha256 has another secret (BADSIG): give certd the key file of the server").await;
    generate_key(&home.path("tsig.key"), "stranger", ALGORITHMS[0]);
    refused("it knows no key stranger of that algorithm (BADKEY): configure the key there, under that very name").await;
    fs::copy(bind.key_file(BYSTANDER), home.path("tsig.key")).unwrap();
    refused("update-policy { grant bystander name _acme-challenge.www.example.test TXT; }").await;
    assert_eq!((server.count(Kind::Challenge), server.count(Kind::Finalize)), (0, 0));
}

#[tokio::test]
async fn a_command_puts_the_challenge_there_and_takes_it_away() {
    let bind = Bind::primary();
    let world = world(&bind).await;
    let home = &world.home;
    let script = format!(
        "echo \"$# $1 $2\" >>{heard}\n\
         case $1 in present) do=add ;; withdraw) do=delete ;; *) exit 1 ;; esac\n\
         nsupdate -k {key} <<END\n{update}END\n",
        heard = home.path("heard").display(),
        key = bind.key_file(ALGORITHMS[0]).display(),
        update = bind.nsupdate_script("example.test", "update $do $2 60 TXT \"$3\""),
    );
    fs::write(home.path("hook"), script).unwrap();
    let command = format!("exec = {{ command = [\"/bin/sh\", {:?}] }}", home.path("hook").display().to_string());
    home.configure(&dns_01(&bind, &command), &["*.example.test", "example.test"]);
    home.renewed().await;
    assert_eq!(names(home), ["*.example.test", "example.test"]);
    assert_eq!(bind.texts(APEX), ["of-others"]);
    let heard = fs::read_to_string(home.path("heard")).unwrap();
    let expected = ["present", "present", "withdraw", "withdraw"].map(|verb| format!("3 {verb} {APEX}\n"));
    assert_eq!(heard, expected.concat());
}

#[tokio::test]
async fn acme_dns_is_told_the_challenge_by_the_account_of_the_name() {
    let bind = Arc::new(Bind::resolving());
    let world = world(&bind).await;
    let (server, heard) = acme_dns(&bind).await;
    let password = secrets::told(secrets::Kind::Password, "htB9mR9DYgcu9bX_afHF62erXaH2TS7bg9KW3F7Z");
    let account = json!({
        "fulldomain": DELEGATED, "subdomain": "web", "username": "c36f50e8", "password": password, "server_url": server,
    });
    fs::write(world.home.path("accounts.json"), json!({ "web.example.test": account }).to_string()).unwrap();
    let issuer = dns_01(&bind, "acme_dns = { accounts_file = \"accounts.json\" }");
    world.home.configure(&issuer, &["web.example.test"]);
    world.home.renewed().await;
    assert_eq!(names(&world.home), ["web.example.test"]);
    let [text] = &bind.texts(DELEGATED)[..] else { panic!("it forgets by itself") };
    let expected = ("c36f50e8".to_string(), password.to_string(), json!({ "subdomain": "web", "txt": text }));
    assert_eq!(*heard.lock().unwrap(), [expected]);
}

/// The user, the password and the body of each request.
type Heard = Arc<Mutex<Vec<(String, String, Value)>>>;

/// An acme-dns whose zone is a BIND's: where it is, and what it was asked.
async fn acme_dns(bind: &Arc<Bind>) -> (String, Heard) {
    let heard = Heard::default();
    let (hears, bind) = (heard.clone(), bind.clone());
    let update = async move |headers: HeaderMap, body: String| {
        let body: Value = serde_json::from_str(&body).unwrap();
        let header = |name: &str| headers[name].to_str().unwrap().to_string();
        let line = format!("update add {DELEGATED} 60 TXT {}", body["txt"].as_str().unwrap());
        hears.lock().unwrap().push((header("X-Api-User"), header("X-Api-Key"), body));
        tokio::task::spawn_blocking(move || bind.update("challenges.test", &line)).await.unwrap();
        "{}"
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let service = Router::new().route("/update", post(update));
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    (url, heard)
}
