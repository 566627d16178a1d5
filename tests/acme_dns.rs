//! Challenges in DNS, in zones of a real BIND: by signed updates, by a command, and by acme-dns.

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use certd::domain::text::with_causes;
use certd::issuer::acme::dns::{
    AcmeDns, AcmeDnsError, Authority, Dns01, DnsError, Exec, ExecError, Lookup, LookupError, NotShown, Presented,
    Record, Refusal, Rfc2136, Rfc2136Error, UpdateError, Updater,
};
use hickory_proto::op::Message;
use serde_json::{Value, json};
use support::bind::{ALGORITHMS, BYSTANDER, Bind, generate_key};
use support::secrets::{self, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

const OWNER: &str = "_acme-challenge.example.test";
const WEB: &str = "web.challenges.test";

/// As long as those of a CA.
const ONE: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
const TWO: &str = "-9DplxCcKQ5JPD5NJrAbLJjSsHjnYdXDZKvsCmhXTrQ";

fn record(name: &str, value: &str) -> Record {
    Record { name: name.to_string(), value: value.to_string() }
}

fn lookup(bind: &Bind) -> Lookup {
    Lookup { resolver: Some(bind.address), authoritative: vec![bind.address] }
}

fn rfc2136(bind: &Bind, key_file: PathBuf, zone: Option<&str>) -> Updater {
    Updater::Rfc2136(Rfc2136 { server: bind.address, zone: zone.map(str::to_string), key_file })
}

fn dns01(bind: &Bind, updater: Updater) -> Dns01 {
    Dns01 { updater, lookup: lookup(bind), propagation_within: Duration::from_secs(30) }
}

fn by_update(bind: &Bind) -> Dns01 {
    dns01(bind, rfc2136(bind, bind.key_file(ALGORITHMS[0]), None))
}

/// The error in one line, as a log has it, with no secret in it in any form.
fn told(error: &DnsError) -> String {
    let text = with_causes(error);
    secrets::are_not_in([("an error", text.as_bytes()), ("its fields", format!("{error:?}").as_bytes())]);
    assert!(!text.contains(char::is_control), "{text}");
    text
}

fn refusal(error: &DnsError) -> &Refusal {
    told(error);
    match error {
        DnsError::Present { source: UpdateError::Rfc2136(Rfc2136Error::Refused { refusal, .. }), .. } => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_update_is_seen_and_taken_away_again_and_leaves_what_others_have() {
    let bind = Bind::primary();
    for (algorithm, zone) in ALGORITHMS.into_iter().zip([None, Some("example.test"), Some("example.test.")]) {
        let dns = dns01(&bind, rfc2136(&bind, bind.key_file(algorithm), zone));
        let presented = dns.present(&[record("example.test", ONE)]).await.unwrap();
        assert_eq!(bind.texts(OWNER), [ONE, "of-others"], "{algorithm}");
        assert_eq!(bind.dig(OWNER, "TXT").unwrap().len(), 2);
        dns.withdraw(&presented).await.unwrap();
        assert_eq!(bind.texts(OWNER), ["of-others"]);
        // What is gone already is as it should be.
        dns.withdraw(&presented).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_presented_can_be_taken_away_by_another_process() {
    let bind = Bind::primary();
    let dns = by_update(&bind);
    let presented = dns.present(&[record("www.example.test", ONE)]).await.unwrap();
    let kept = serde_json::to_string(&presented).unwrap();
    let read: Presented = serde_json::from_str(&kept).unwrap();
    assert_eq!(read, presented);
    by_update(&bind).withdraw(&read).await.unwrap();
    assert_eq!(bind.texts("_acme-challenge.www.example.test"), [""; 0]);
}

#[tokio::test]
async fn a_name_and_its_wildcard_have_their_values_side_by_side() {
    let bind = Bind::primary();
    let dns = by_update(&bind);
    let apex = dns.present(&[record("example.test", ONE), record("EXAMPLE.test.", TWO)]).await.unwrap();
    assert_eq!(bind.texts(OWNER), [TWO, ONE, "of-others"]);
    bind.update("example.test", &format!("update add {OWNER} 60 TXT another"));
    dns.withdraw(&apex).await.unwrap();
    assert_eq!(bind.texts(OWNER), ["another", "of-others"]);
}

#[tokio::test]
async fn each_mistake_about_a_key_or_a_zone_has_an_error_of_its_own() {
    let bind = Bind::primary();
    let folder = tempfile::tempdir().unwrap();
    let made = |file: &str, name: &str, algorithm: &str| {
        generate_key(&folder.path().join(file), name, algorithm);
        folder.path().join(file)
    };
    let right = bind.key_file(ALGORITHMS[0]);
    let key = |key: &str| key.to_string();
    let owner = OWNER.to_string();
    let cases = [
        (made("other-secret", ALGORITHMS[0], ALGORITHMS[0]), None, Refusal::OtherSecret { key: key(ALGORITHMS[0]) }),
        (made("unknown", "unknown", ALGORITHMS[0]), None, Refusal::UnknownKey { key: key("unknown") }),
        (made("other", ALGORITHMS[0], ALGORITHMS[2]), None, Refusal::UnknownKey { key: key(ALGORITHMS[0]) }),
        (bind.key_file(BYSTANDER), None, Refusal::NotAllowed { key: key(BYSTANDER), owner: owner.clone() }),
        (right.clone(), Some("challenges.test"), Refusal::OutsideZone { owner }),
        (right.clone(), Some("elsewhere.test"), Refusal::NotItsZone),
    ];
    for (key_file, zone, expected) in cases {
        let error = dns01(&bind, rfc2136(&bind, key_file, zone)).present(&[record("example.test", ONE)]).await;
        assert_eq!(*refusal(&error.unwrap_err()), expected);
        assert_eq!(bind.texts(OWNER), ["of-others"]);
    }
    let error = by_update(&bind).present(&[record("www.elsewhere.test", ONE)]).await.unwrap_err();
    let expected = format!(
        "could not find out where the challenge of www.elsewhere.test belongs: could not ask {} for the CNAME of \
         _acme-challenge.www.elsewhere.test: it answered REFUSED: see its log",
        bind.address
    );
    assert_eq!(told(&error), expected);
}

#[tokio::test]
async fn a_key_file_that_is_none_is_named() {
    let bind = Bind::primary();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let outcome = async || {
        let error = dns01(&bind, rfc2136(&bind, file.clone(), None)).present(&[record("example.test", ONE)]).await;
        told(&error.unwrap_err())
    };
    let begin = format!("could not put the challenge at {OWNER}: ");
    let shown = file.display();
    let missing = format!("could not read the TSIG key {shown}: let certd read it: No such file or directory");
    assert_eq!(outcome().await, format!("{begin}{missing} (os error 2)"));
    let secret = secrets::told(Kind::Hmac, "c2VjcmV0IHNlY3JldA==");
    std::fs::write(&file, format!("key a {{ algorithm hmac-sha1; secret \"{secret}\"; }};")).unwrap();
    let why = "its algorithm is none of hmac-sha256, hmac-sha384 and hmac-sha512; make one with tsig-keygen";
    assert_eq!(outcome().await, format!("{begin}{shown} is no TSIG key: {why}"));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(
        outcome().await,
        format!(
            "{begin}could not read the TSIG key {shown}: let certd read it: it is not a regular file: name a file, no directory, pipe or device"
        )
    );
}

#[tokio::test]
async fn an_answer_that_anybody_could_have_made_is_not_believed() {
    let bind = Bind::primary();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let impostor = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut asked = vec![0; client.read_u16().await.unwrap().into()];
            client.read_exact(&mut asked).await.unwrap();
            let mut answer = Message::from_vec(&asked).unwrap().into_response();
            answer.authorities.clear();
            answer.signature = None;
            let answer = answer.to_vec().unwrap();
            client.write_u16(answer.len().try_into().unwrap()).await.unwrap();
            client.write_all(&answer).await.unwrap();
        }
    });
    let updater = Rfc2136 { server: impostor, zone: None, key_file: bind.key_file(ALGORITHMS[0]) };
    let dns = dns01(&bind, Updater::Rfc2136(updater));
    let error = dns.present(&[record("example.test", ONE)]).await.unwrap_err();
    let DnsError::Present { source: UpdateError::Rfc2136(Rfc2136Error::NotProven { server, .. }), .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*server, impostor);
    told(&error);
}

#[tokio::test]
async fn a_cname_leads_into_another_zone() {
    let bind = Bind::primary();
    let dns = by_update(&bind);
    let presented = dns.present(&[record("web.example.test", ONE), record("near.example.test", TWO)]).await.unwrap();
    assert_eq!(bind.texts(WEB), [ONE]);
    assert_eq!(bind.texts("hop9.example.test"), [TWO]);
    dns.withdraw(&presented).await.unwrap();
    assert_eq!((bind.texts(WEB), bind.texts("hop9.example.test")), (vec![], vec![]));
}

#[tokio::test]
async fn a_cname_that_leads_nowhere_is_an_error_before_anything_is_changed() {
    let bind = Bind::primary();
    let dns = by_update(&bind);
    let challenge = |name: &str| format!("_acme-challenge.{name}.example.test");
    let far = challenge("far");
    let cases = [
        (
            "loop",
            "the CNAME of _acme-challenge.loop.example.test leads back to itself by way of loop2.example.test: let it \
             end at a name without CNAME"
                .to_string(),
        ),
        ("far", format!("the CNAME of {far} leads over more than 8 others: let it end sooner")),
        (
            "hostile",
            format!(
                "the CNAME of {} leads to \\$\\(id\\).challenges.test: let it lead to a name of letters, digits, - and _",
                challenge("hostile")
            ),
        ),
    ];
    for (name, expected) in cases {
        let name = format!("{name}.example.test");
        let error = dns.present(&[record("example.test", ONE), record(&name, TWO)]).await.unwrap_err();
        assert_eq!(told(&error), format!("could not find out where the challenge of {name} belongs: {expected}"));
        assert_eq!(bind.texts(OWNER), ["of-others"]);
    }
}

#[tokio::test]
async fn what_fails_half_way_is_taken_back() {
    let bind = Bind::primary();
    // One zone holds both ends of the first record and neither of the second.
    let dns = dns01(&bind, rfc2136(&bind, bind.key_file(ALGORITHMS[0]), Some("example.test")));
    let error = dns.present(&[record("example.test", ONE), record("web.example.test", TWO)]).await.unwrap_err();
    assert_eq!(*refusal(&error), Refusal::OutsideZone { owner: WEB.to_string() });
    assert_eq!(bind.texts(OWNER), ["of-others"]);
}

#[tokio::test]
async fn what_is_no_host_name_or_no_value_is_not_asked_for() {
    let dns = by_update(&Bind::primary());
    for name in ["", "*.example.test", "a b.example.test", "bücher.test", "-rf.test\n", &"a.".repeat(130)] {
        let error = dns.present(&[record(name, ONE)]).await.unwrap_err();
        assert!(matches!(&error, DnsError::Name(_)), "{name}: {error}");
        told(&error);
    }
    for value in ["", "a b", "a\"b", "a;b", "a\nb", "ä", &"a".repeat(256)] {
        let error = dns.present(&[record("example.test", value)]).await.unwrap_err();
        assert!(matches!(&error, DnsError::Value(name) if name == "example.test"), "{value}: {error}");
    }
}

fn with_secondary(primary: &Bind, secondary: SocketAddr, within: Duration) -> Dns01 {
    let mut dns = by_update(primary);
    dns.lookup.authoritative.push(secondary);
    dns.propagation_within = within;
    dns
}

#[tokio::test]
async fn a_secondary_that_lags_is_waited_for() {
    let primary = Bind::primary();
    let secondary = Bind::secondary(&primary);
    let dns = with_secondary(&primary, secondary.address, Duration::from_secs(30));
    let records = [record("example.test", ONE)];
    let presenting = async { (dns.present(&records).await.unwrap(), Instant::now()) };
    let notifying = async {
        while !primary.texts(OWNER).contains(&ONE.to_string()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Long enough for a few looks.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(secondary.texts(OWNER), ["of-others"]);
        let notified = Instant::now();
        secondary.notify("example.test");
        notified
    };
    let ((presented, done), notified) = tokio::join!(presenting, notifying);
    assert!(done > notified);
    assert_eq!(secondary.texts(OWNER), [ONE, "of-others"]);
    dns.withdraw(&presented).await.unwrap();
    assert_eq!(primary.texts(OWNER), ["of-others"]);
}

fn not_shown(error: &DnsError) -> &[NotShown] {
    told(error);
    match error {
        DnsError::NotShown { servers, .. } => servers,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_secondary_that_stays_behind_is_named_and_the_challenge_is_gone() {
    let primary = Bind::primary();
    let secondary = Bind::secondary(&primary);
    let dns = with_secondary(&primary, secondary.address, Duration::from_secs(1));
    let error = dns.present(&[record("example.test", ONE)]).await.unwrap_err();
    let address = secondary.address.to_string();
    assert_eq!(not_shown(&error), [NotShown { owner: OWNER.to_string(), server: address.clone(), obstacle: None }]);
    let expected = format!(
        "the challenge is not shown by every server of its zone after 1 s: {address} does not show {OWNER} yet: see \
         whether they follow its primary, or wait longer"
    );
    assert_eq!(told(&error), expected);
    assert_eq!(primary.texts(OWNER), ["of-others"]);
}

#[tokio::test]
async fn a_secondary_that_is_stopped_or_silent_is_named() {
    let primary = Bind::primary();
    let stopped = Bind::secondary(&primary).address;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let cases = [
        (
            stopped,
            "it could not be reached: see whether it runs, and whether its port is open to this host: Connection refused \
             (os error 111)",
        ),
        (
            silent.local_addr().unwrap(),
            "it did not answer within 6 s: see whether it runs, and whether a firewall drops DNS",
        ),
    ];
    for (address, obstacle) in cases {
        let dns = with_secondary(&primary, address, Duration::from_secs(1));
        let error = dns.present(&[record("example.test", ONE)]).await.unwrap_err();
        let expected =
            NotShown { owner: OWNER.to_string(), server: address.to_string(), obstacle: Some(obstacle.to_string()) };
        assert_eq!(not_shown(&error), [expected]);
        assert_eq!(primary.texts(OWNER), ["of-others"]);
    }
}

#[tokio::test]
async fn the_servers_of_a_zone_are_those_it_names_at_all_their_addresses() {
    let bind = Bind::primary();
    let lookup = Lookup { resolver: Some(bind.address), authoritative: Vec::new() };
    let authority = |name: &str, addresses: &[&str]| Authority {
        name: Some(format!("{name}.example.test")),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    };
    let expected = [authority("ns1", &["127.0.0.1:53", "[::1]:53"]), authority("ns2", &["127.0.0.2:53"])];
    for owner in ["example.test", "_acme-challenge.www.example.test", "nothing.at.all.example.test"] {
        assert_eq!(lookup.authorities(owner).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn texts_are_read_whole_and_what_is_not_there_is_none() {
    let bind = Bind::primary();
    let lookup = lookup(&bind);
    let texts = async |owner: &str| lookup.txt(owner).await.unwrap();
    assert_eq!(texts(OWNER).await, ["of-others"]);
    assert_eq!(texts("long.example.test").await, ["one two"]);
    // More than a datagram holds.
    let many: Vec<String> = (10..30).map(|n| format!("a text of some length, the number {n}")).collect();
    assert_eq!(texts("many.example.test").await, many);
    bind.update("challenges.test", &format!("update add {WEB} 60 TXT delegated"));
    assert_eq!(texts("_acme-challenge.web.example.test").await, ["delegated"]);
    assert_eq!(texts("www.example.test").await, [""; 0], "it has an address only");
    assert_eq!(texts("nothing.example.test").await, [""; 0], "there is no such name");
}

#[tokio::test]
async fn texts_are_those_that_every_server_shows_and_a_server_that_cannot_be_asked_is_an_error() {
    let primary = Bind::primary();
    let secondary = Bind::secondary(&primary);
    let mut lookup = lookup(&primary);
    lookup.authoritative.push(secondary.address);
    primary.update("example.test", &format!("update add {OWNER} 60 TXT newer"));
    assert_eq!(lookup.txt(OWNER).await.unwrap(), ["of-others"]);
    let address = secondary.address;
    drop(secondary);
    let error = lookup.txt(OWNER).await.unwrap_err();
    let LookupError::Unanswered { server, name, .. } = &error else { panic!("{error:?}") };
    assert_eq!((server, name.as_str()), (&address.to_string(), OWNER));
    // Of another server's zone nothing is known here.
    let error = Lookup { authoritative: Vec::new(), ..lookup }.txt("elsewhere.test").await.unwrap_err();
    let expected = format!("could not ask {} for the CNAME of elsewhere.test: it answered REFUSED", primary.address);
    assert!(with_causes(&error).starts_with(&expected), "{}", with_causes(&error));
}

/// A script, run by an absolute command without a shell in between.
fn exec(folder: &Path, script: &str, deadline: Duration) -> Updater {
    let file = folder.join("hook");
    std::fs::write(&file, script).unwrap();
    let command = ["/bin/sh", file.to_str().unwrap(), "$(touch pwned) && \"quoted\""];
    Updater::Exec(Exec { command: command.map(str::to_string).to_vec(), deadline })
}

#[tokio::test]
async fn a_command_is_told_what_to_do_by_its_arguments_and_by_nothing_else() {
    let bind = Bind::primary();
    let folder = tempfile::tempdir().unwrap();
    let (heard, environment) = (folder.path().join("heard"), folder.path().join("environment"));
    let script = format!(
        "printf '%s|' \"$@\" >>{heard}; tr '\\0' '\\n' </proc/$$/environ >{environment}; cat >>{heard}\n\
         case $2 in present) do=add ;; withdraw) do=delete ;; esac\n\
         nsupdate -k {key} <<END\n{update}END\n",
        heard = heard.display(),
        environment = environment.display(),
        key = bind.key_file(ALGORITHMS[0]).display(),
        update = bind.nsupdate_script("challenges.test", "update $do $3 60 TXT \"$4\""),
    );
    let dns = dns01(&bind, exec(folder.path(), &script, Duration::from_secs(60)));
    let presented = dns.present(&[record("web.example.test", TWO)]).await.unwrap();
    assert_eq!(bind.texts(WEB), [TWO]);
    dns.withdraw(&presented).await.unwrap();
    assert_eq!(bind.texts(WEB), [""; 0]);
    let first = "$(touch pwned) && \"quoted\"";
    let expected = format!("{first}|present|{WEB}|{TWO}|{first}|withdraw|{WEB}|{TWO}|");
    assert_eq!(std::fs::read_to_string(heard).unwrap(), expected);
    let environment = std::fs::read_to_string(environment).unwrap();
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names, ["LANG", "PATH"]);
}

#[tokio::test]
async fn a_command_that_fails_is_told_in_one_escaped_line() {
    let bind = Bind::primary();
    let folder = tempfile::tempdir().unwrap();
    let outcome = async |script: &str| {
        let dns = dns01(&bind, exec(folder.path(), script, Duration::from_secs(30)));
        told(&dns.present(&[record("example.test", ONE)]).await.unwrap_err())
    };
    let begin = format!("could not put the challenge at {OWNER}: /bin/sh present ended with");
    assert_eq!(
        outcome("printf '\\n\\033[2Jno such zone\\nsecond line\\n' >&2; exit 3").await,
        format!("{begin} exit status: 3: \\u{{1b}}[2Jno such zone")
    );
    assert_eq!(
        outcome("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1").await,
        format!("{begin} exit status: 1: {}", "x".repeat(256))
    );
    assert_eq!(
        outcome("kill -9 $$").await,
        format!("{begin} signal: 9 (SIGKILL): it said nothing on stderr; let it say why")
    );
    let started = Instant::now();
    let left_running = outcome("sleep 20 & echo bad >&2; exit 1").await;
    assert_eq!(left_running, format!("{begin} exit status: 1: bad"));
    assert!(started.elapsed() < Duration::from_secs(10), "what it left running is not waited for");
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let bind = Bind::primary();
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let script = format!("sleep 1000 & echo $! >>{}; sleep 1000", started.display());
    let dns = dns01(&bind, exec(folder.path(), &script, Duration::from_millis(700)));
    let error = dns.present(&[record("example.test", ONE)]).await.unwrap_err();
    let DnsError::Present { source: UpdateError::Exec(ExecError::Late { command, deadline, .. }), .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((command.as_str(), *deadline), ("/bin/sh", Duration::from_millis(700)));
    told(&error);
    // It was asked to take back what it may have put there, and hung again.
    let ids = std::fs::read_to_string(started).unwrap();
    assert_eq!(ids.lines().count(), 2);
    for id in ids.lines() {
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_running(id) {
            assert!(Instant::now() < deadline, "{id} still runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One that nobody has waited for yet does not run either.
fn is_running(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_command_without_an_absolute_path_or_that_is_not_there_is_told() {
    let bind = Bind::primary();
    let outcome = async |command: &[&str]| {
        let command = command.iter().map(|word| word.to_string()).collect();
        let dns = dns01(&bind, Updater::Exec(Exec { command, deadline: Duration::from_secs(5) }));
        match dns.present(&[record("example.test", ONE)]).await.unwrap_err() {
            DnsError::Present { source: UpdateError::Exec(error), .. } => error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(outcome(&["true"]).await, ExecError::NotAbsolute));
    assert!(matches!(outcome(&[]).await, ExecError::NotAbsolute));
    let ExecError::Start { command, source } = outcome(&["/nowhere/hook"]).await else { panic!("it started") };
    assert_eq!((command.as_str(), source.kind()), ("/nowhere/hook", std::io::ErrorKind::NotFound));
}

/// An acme-dns that has the zone `challenges.test` of a BIND, or answers something else.
struct AcmeDnsServer {
    url: String,
    heard: Arc<Mutex<Vec<(String, String, Value)>>>,
}

type Answer = Result<&'static str, (StatusCode, String)>;

async fn acme_dns(bind: &Arc<Bind>, answer: Answer) -> AcmeDnsServer {
    let heard = Arc::<Mutex<Vec<(String, String, Value)>>>::default();
    let (hears, bind) = (heard.clone(), bind.clone());
    let update = async move |headers: HeaderMap, body: String| {
        let body: Value = serde_json::from_str(&body).unwrap();
        let header = |name: &str| headers[name].to_str().unwrap().to_string();
        hears.lock().unwrap().push((header("X-Api-User"), header("X-Api-Key"), body.clone()));
        if answer.is_ok() {
            let word = |name: &str| body[name].as_str().unwrap().to_string();
            let lines = format!("update add {}.challenges.test 60 TXT {}", word("subdomain"), word("txt"));
            let changed = tokio::task::spawn_blocking(move || bind.update("challenges.test", &lines));
            changed.await.unwrap();
        }
        match answer {
            Ok(body) => (StatusCode::OK, [("Location", "/")], body.to_string()),
            Err((status, body)) => (status, [("Location", "/elsewhere")], body),
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/", listener.local_addr().unwrap());
    let app = Router::new().route("/api/update", post(update));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    AcmeDnsServer { url, heard }
}

/// As acme-dns-client keeps it.
fn account(fulldomain: &str, server_url: Option<&str>) -> Value {
    let password = secrets::told(Kind::Password, "htB9mR9DYgcu9bX_afHF62erXaH2TS7bg9KW3F7Z");
    json!({
        "fulldomain": fulldomain, "subdomain": "web", "username": "c36f50e8-4632-44f0-83fe-e070fef28a10",
        "password": password, "server_url": server_url,
    })
}

fn by_acme_dns(bind: &Bind, folder: &Path, accounts: &Value, server: Option<&str>) -> Dns01 {
    let accounts_file = folder.join("accounts.json");
    std::fs::write(&accounts_file, accounts.to_string()).unwrap();
    let no_redirects = reqwest::redirect::Policy::none();
    let http = reqwest::Client::builder().redirect(no_redirects).timeout(Duration::from_secs(10)).build().unwrap();
    let server = server.map(|url| url.parse().unwrap());
    dns01(bind, Updater::AcmeDns(AcmeDns { http, server, accounts_file }))
}

#[tokio::test]
async fn acme_dns_is_given_the_value_and_forgets_it_by_itself() {
    let bind = Arc::new(Bind::primary());
    let server = acme_dns(&bind, Ok("{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let told_server = account(WEB, Some(&server.url));
    let told_none = account("WEB.challenges.test.", None);
    let cases = [(told_server, Some("http://127.0.0.1:1")), (told_none, Some(server.url.as_str()))];
    for ((account, setting), value) in cases.into_iter().zip([ONE, TWO]) {
        let accounts = json!({ "other.example.test": account, "Web.example.test": account });
        let dns = by_acme_dns(&bind, folder.path(), &accounts, setting);
        let presented = dns.present(&[record("web.example.test", value)]).await.unwrap();
        dns.withdraw(&presented).await.unwrap();
        assert!(bind.texts(WEB).contains(&value.to_string()));
        let heard = std::mem::take(&mut *server.heard.lock().unwrap());
        let word = |name: &str| account[name].as_str().unwrap().to_string();
        let body = json!({ "subdomain": "web", "txt": value });
        assert_eq!(heard, [(word("username"), word("password"), body)]);
    }
}

#[tokio::test]
async fn acme_dns_that_does_not_do_it_is_told_without_a_password() {
    let bind = Arc::new(Bind::primary());
    let folder = tempfile::tempdir().unwrap();
    let outcome = async |status: StatusCode, body: String| {
        let server = acme_dns(&bind, Err((status, body))).await;
        let accounts = json!({ "web.example.test": account(WEB, None) });
        let dns = by_acme_dns(&bind, folder.path(), &accounts, Some(&server.url));
        let error = told(&dns.present(&[record("web.example.test", ONE)]).await.unwrap_err());
        error.replace(server.url.trim_end_matches("/api/"), "SERVER")
    };
    let begin = format!("could not put the challenge at {WEB}: acme-dns at SERVER");
    assert_eq!(
        outcome(StatusCode::UNAUTHORIZED, "{}".to_string()).await,
        format!("{begin} knows no such user and password for web.example.test: register it anew")
    );
    assert_eq!(
        outcome(StatusCode::BAD_REQUEST, "{\"error\":\n\"bad_txt\u{1b}\"}".to_string()).await,
        format!("{begin} answered 400: {{\"error\": \"bad_txt\\u{{1b}}\"}}: see its log")
    );
    // The password goes to no other address.
    assert_eq!(
        outcome(StatusCode::TEMPORARY_REDIRECT, String::new()).await,
        format!("{begin} answered 307: : see its log")
    );
    assert_eq!(
        outcome(StatusCode::OK, "x".repeat(70_000)).await,
        format!("{begin} answered more than 65536 bytes: see whether it is acme-dns")
    );
}

#[tokio::test]
async fn accounts_that_do_not_fit_are_told_before_acme_dns_is_asked() {
    let bind = Arc::new(Bind::primary());
    let folder = tempfile::tempdir().unwrap();
    let outcome = async |accounts: Value, server: Option<&str>| {
        let dns = by_acme_dns(&bind, folder.path(), &accounts, server);
        let error = dns.present(&[record("web.example.test", ONE)]).await.unwrap_err();
        told(&error);
        match error {
            DnsError::Present { source: UpdateError::AcmeDns(error), .. } => error,
            other => panic!("{other:?}"),
        }
    };
    let of = |account: Value| json!({ "web.example.test": account });
    let error = outcome(of(account("elsewhere.challenges.test", None)), Some("https://auth.example")).await;
    let expected = "_acme-challenge.web.example.test leads to web.challenges.test, not to its account at acme-dns: make \
                    the record `_acme-challenge.web.example.test. CNAME elsewhere.challenges.test.`";
    assert_eq!(error.to_string(), expected);

    let error = outcome(json!({ "example.test": account(WEB, None) }), Some("https://auth.example")).await;
    assert!(matches!(error, AcmeDnsError::NoAccount { name, .. } if name == "web.example.test"));

    let error = outcome(of(account(WEB, None)), None).await;
    assert!(matches!(error, AcmeDnsError::NoServer { name } if name == "web.example.test"));

    let error = outcome(of(account(WEB, Some("http://192.0.2.1"))), None).await;
    assert!(matches!(error, AcmeDnsError::Plain { server, .. } if server == "http://192.0.2.1"));

    let misplaced = account(WEB, None)["password"].clone();
    let error = outcome(of(misplaced), Some("https://auth.example")).await;
    assert!(matches!(error, AcmeDnsError::NotUnderstood { line: 1, .. }), "{error:?}");
}
