//! What real TLS servers on loopback look like to a source.

#[path = "../authority/mod.rs"]
mod authority;
mod proof;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use authority::{Authority, NOW};
use certd::domain::cert::Trust;
use certd::domain::inventory::{Found, Location, Observation, ObstacleKind, Sighting};
use certd::domain::key::{KeySpec, PrivateKey};
use certd::pki;
use certd::pki::roots::Roots;
use certd::source::target::Target;
use certd::source::tls::TlsSource;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

/// A server's side, before it is told how to serve it.
struct Identity {
    authority: Authority,
    key: PrivateKey,
    chain: Vec<Vec<u8>>,
}

fn identity(name: &str) -> Identity {
    let authority = Authority::new();
    let key = pki::key::generate(KeySpec::EcdsaP256).unwrap();
    let chain = authority.sign(name, &key);
    Identity { authority, key, chain }
}

impl Identity {
    fn config(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_no_client_auth();
        builder.with_single_cert(self.certificates(), self.private_key().into()).unwrap()
    }

    /// Nobody gets past it without a client certificate.
    fn demanding_config(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority.root.clone())).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_client_cert_verifier(verifier);
        builder.with_single_cert(self.certificates(), self.private_key().into()).unwrap()
    }

    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().cloned().map(CertificateDer::from).collect()
    }

    fn private_key(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.pkcs8.to_vec())
    }

    fn fingerprint(&self, i: usize) -> [u8; 32] {
        pki::sha256(&self.chain[i])
    }
}

/// Gives the port of a server that serves for as long as the test runs.
async fn serve(address: &str, config: ServerConfig) -> u16 {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(tcp).await.map(drop) });
        }
    });
    port
}

fn source(targets: &[String], roots: Arc<Roots>) -> TlsSource {
    TlsSource {
        name: "edge".into(),
        environment: Some("test".into()),
        targets: targets.iter().map(|text| text.parse::<Target>().unwrap().into()).collect(),
        addresses: Arc::default(),
        timeout: Duration::from_secs(10),
        concurrency: 4,
        roots,
    }
}

async fn look(target: String, roots: Arc<Roots>) -> Observation {
    let mut observed = source(&[target], roots).observe(NOW).await;
    assert_eq!((observed.observations.len(), observed.failures.len()), (1, 0));
    observed.observations.remove(0)
}

fn found(observation: &Observation) -> &Found {
    match &observation.sighting {
        Sighting::Found(found) => found,
        other => panic!("not found at {}: {other:?}", observation.location),
    }
}

fn obstacle(observation: &Observation) -> (ObstacleKind, &str) {
    match &observation.sighting {
        Sighting::Unknown(obstacle) => (obstacle.obstacle, &obstacle.message),
        other => panic!("no obstacle at {}: {other:?}", observation.location),
    }
}

#[tokio::test]
async fn sees_the_chain_of_servers_that_speak_only_one_version() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let identity = identity("localhost");
        let port = serve("127.0.0.1:0", identity.config(&[version])).await;
        let seen = look(format!("localhost:{port}"), identity.authority.roots()).await;
        assert_eq!(found(&seen).leaf().fingerprint.0, identity.fingerprint(0));
        assert_eq!(found(&seen).chain.intermediates[0].fingerprint.0, identity.fingerprint(1));
        assert_eq!(found(&seen).trust, Trust::Verified);
        assert_eq!((found(&seen).stored_key, found(&seen).version), (None, None));
        assert_eq!(
            (seen.observed_at, seen.source.0.as_str(), seen.environment.as_deref()),
            (NOW, "edge", Some("test"))
        );
        assert!(seen.took.unwrap() > Duration::ZERO);
    }
}

#[tokio::test]
async fn keeps_the_order_and_the_gaps_that_a_server_serves() {
    let mut identity = identity("localhost");
    let root = identity.authority.root.clone();
    identity.chain.insert(1, root);
    let port = serve("127.0.0.1:0", identity.config(BOTH)).await;
    let seen = look(format!("127.0.0.1:{port}"), identity.authority.roots()).await;
    let order: Vec<_> = found(&seen).chain.intermediates.iter().map(|c| c.subject.as_str()).collect();
    assert_eq!(order, ["CN=Test Root", "CN=Test Intermediate"]);

    identity.chain.truncate(1);
    let port = serve("127.0.0.1:0", identity.config(BOTH)).await;
    let seen = look(format!("127.0.0.1:{port}"), identity.authority.roots()).await;
    assert_eq!(found(&seen).chain.intermediates, []);
    let why = "signed by CN=Test Intermediate, which is neither in the chain nor among the trusted roots: add the \
               intermediate that is missing, or name the root by --roots";
    assert_eq!(found(&seen).trust, Trust::Unverified(why.into()));
    let seen = look(format!("127.0.0.1:{port}"), Arc::new(Roots::none())).await;
    assert_eq!(found(&seen).trust, Trust::NotJudged);
}

#[tokio::test]
async fn the_leaf_counts_though_another_certificate_of_the_chain_is_unreadable() {
    let mut identity = identity("localhost");
    identity.chain.push(b"no certificate".to_vec());
    let port = serve("127.0.0.1:0", identity.config(BOTH)).await;
    let seen = look(format!("127.0.0.1:{port}"), identity.authority.roots()).await;
    assert_eq!(found(&seen).leaf().fingerprint.0, identity.fingerprint(0));
    assert_eq!(found(&seen).chain.intermediates.len(), 1);
    let Trust::Unverified(why) = &found(&seen).trust else { panic!("{:?}", found(&seen).trust) };
    assert!(why.starts_with("certificate 3 of the chain is unreadable: "), "{why}");
}

#[tokio::test]
async fn sees_the_chain_of_a_server_that_demands_a_client_certificate() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let identity = identity("localhost");
        let port = serve("127.0.0.1:0", identity.demanding_config(&[version])).await;
        let seen = look(format!("127.0.0.1:{port}"), identity.authority.roots()).await;
        assert_eq!(found(&seen).leaf().fingerprint.0, identity.fingerprint(0));
    }
}

/// Answers each connection with these bytes, once something came in, and closes it.
async fn answer(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut hello = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut tcp, &mut hello).await;
            let _ = tcp.write_all(bytes).await;
        }
    });
    port
}

#[tokio::test]
async fn says_why_a_server_gave_no_certificate() {
    const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    // Fatal alerts: protocol_version and unrecognized_name (RFC 8446, section 6.2; RFC 6066, section 3).
    const OLD: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];
    const UNKNOWN_NAME: &[u8] = &[0x15, 3, 3, 0, 2, 2, 112];
    for (bytes, said) in [
        (PLAIN, "it does not speak TLS on this port"),
        (OLD, "it may only speak TLS 1.1 or older"),
        (UNKNOWN_NAME, "it does not know this name: say which with sni="),
        (b"".as_slice(), "the server closed the connection (it may only speak TLS 1.1 or older"),
    ] {
        let port = answer(bytes).await;
        let seen = look(format!("127.0.0.1:{port}"), Arc::new(Roots::none())).await;
        let (kind, message) = obstacle(&seen);
        assert_eq!(kind, ObstacleKind::Tls, "{message}");
        assert!(message.starts_with(&format!("could not shake hands with 127.0.0.1:{port}: ")), "{message}");
        assert!(message.contains(said), "{message}");
    }
}

#[tokio::test]
async fn a_silent_server_costs_its_timeout_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut source = source(&[format!("127.0.0.1:{port}")], Arc::new(Roots::none()));
    source.timeout = Duration::from_millis(200);
    let observed = source.observe(NOW).await;
    let (kind, message) = obstacle(&observed.observations[0]);
    assert_eq!(kind, ObstacleKind::Timeout);
    assert!(message.starts_with(&format!("could not finish the TLS handshake with 127.0.0.1:{port} within 0.2 s")));
    let took = observed.observations[0].took.unwrap();
    assert!((200..5_000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn tells_a_refused_port_from_a_name_that_does_not_resolve() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let seen = look(format!("127.0.0.1:{port}"), Arc::new(Roots::none())).await;
    assert_eq!(obstacle(&seen).0, ObstacleKind::Unreachable);
    assert!(obstacle(&seen).1.starts_with(&format!("could not connect to 127.0.0.1:{port}: ")));
    let seen = look("no-such-host.invalid:443".to_string(), Arc::new(Roots::none())).await;
    assert_eq!(obstacle(&seen).0, ObstacleKind::Dns);
    assert!(obstacle(&seen).1.starts_with("could not resolve no-such-host.invalid: "));
}

/// What each address of `www.example.org` presents, in the order of locations: its leaf, or an obstacle.
async fn presented(source: &TlsSource) -> Vec<(String, Result<[u8; 32], ObstacleKind>)> {
    let observed = source.observe(NOW).await;
    assert_eq!(observed.failures.len(), 0);
    let line = |seen: &Observation| match &seen.sighting {
        Sighting::Found(found) => (seen.location.to_string(), Ok(found.leaf().fingerprint.0)),
        Sighting::Unknown(obstacle) => (seen.location.to_string(), Err(obstacle.obstacle)),
        other @ (Sighting::Absent | Sighting::Deleted(_) | Sighting::Crl(_)) => panic!("{}: {other:?}", seen.location),
    };
    observed.observations.iter().map(line).collect()
}

#[tokio::test]
async fn each_address_is_looked_at_and_the_one_that_presents_something_else_is_a_place_of_its_own() {
    let (new, old) = (identity("www.example.org"), identity("www.example.org"));
    let port = serve("127.0.0.1:0", new.config(BOTH)).await;
    for address in ["127.0.0.2", "127.0.0.4"] {
        assert_eq!(serve(&format!("{address}:{port}"), new.config(BOTH)).await, port);
    }
    assert_eq!(serve(&format!("127.0.0.3:{port}"), old.config(BOTH)).await, port);
    let mut source = source(&[format!("www.example.org:{port}")], Arc::new(Roots::none()));
    let mut at = |last: &[u8]| {
        let addresses = last.iter().map(|last| [127, 0, 0, *last].into()).collect();
        source.addresses = Arc::new([("www.example.org".to_string(), addresses)].into());
        source.clone()
    };
    let whole = format!("www.example.org:{port}");
    let (new, old) = (Ok(new.fingerprint(0)), Ok(old.fingerprint(0)));

    assert_eq!(presented(&at(&[1, 2, 4])).await, [(whole.clone(), new)]);
    assert_eq!(presented(&at(&[3])).await, [(whole.clone(), old)]);
    let third = format!("{whole} at 127.0.0.3");
    assert_eq!(presented(&at(&[3, 1, 2])).await, [(whole.clone(), new), (third, old)]);
    let silent = (format!("{whole} at 127.0.0.5"), Err(ObstacleKind::Unreachable));
    assert_eq!(presented(&at(&[5, 1])).await, [(whole.clone(), new), silent]);
    assert_eq!(presented(&at(&[5, 6])).await, [(whole, Err(ObstacleKind::Unreachable))]);
}

#[tokio::test]
async fn an_address_of_a_family_that_this_host_does_not_have_says_nothing_of_the_endpoint() {
    let identity = identity("www.example.org");
    let port = serve("127.0.0.1:0", identity.config(BOTH)).await;
    let mut source = source(&[format!("www.example.org:{port}")], Arc::new(Roots::none()));
    // Of the block for documentation (RFC 3849): no host has a way to it, or certd would say that it is silent.
    let (there, nowhere) = ([127, 0, 0, 1].into(), "2001:db8::1".parse().unwrap());
    let has_a_way = std::net::UdpSocket::bind("[::]:0").is_ok_and(|socket| socket.connect((nowhere, port)).is_ok());
    source.addresses = Arc::new([("www.example.org".to_string(), vec![there, nowhere])].into());
    source.timeout = Duration::from_secs(2);
    let expected = 1 + usize::from(has_a_way);
    assert_eq!(presented(&source).await.len(), expected);
}

#[tokio::test]
async fn looks_at_an_ipv6_literal() {
    let identity = identity("::1");
    let port = serve("[::1]:0", identity.config(BOTH)).await;
    let seen = look(format!("[::1]:{port}"), identity.authority.roots()).await;
    assert_eq!(seen.location, Location::Endpoint { host: "::1".into(), port, sni: None, address: None });
    assert!(found(&seen).leaf().covers("::1"));
}

/// Keeps the server name of each hello.
#[derive(Debug)]
struct Names(std::sync::Mutex<Vec<Option<String>>>, Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Names {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.0.lock().unwrap().push(hello.server_name().map(str::to_string));
        Some(self.1.clone())
    }
}

#[tokio::test]
async fn sends_the_name_asked_for_and_none_for_an_address() {
    let identity = identity("www.example.org");
    let key = aws_lc_rs::sign::any_supported_type(&identity.private_key().into()).unwrap();
    let certified = Arc::new(rustls::sign::CertifiedKey::new(identity.certificates(), key));
    let names = Arc::new(Names(std::sync::Mutex::default(), certified));
    let mut config = identity.config(BOTH);
    config.cert_resolver = names.clone();
    let port = serve("127.0.0.1:0", config).await;
    for target in
        [format!("127.0.0.1:{port} sni=www.example.org"), format!("localhost:{port}"), format!("127.0.0.1:{port}")]
    {
        found(&look(target, identity.authority.roots()).await);
    }
    let asked = names.0.lock().unwrap().clone();
    assert_eq!(asked, [Some("www.example.org".to_string()), Some("localhost".to_string()), None]);
}

#[tokio::test]
async fn three_hundred_endpoints_are_looked_at_with_bounded_concurrency() {
    const ENDPOINTS: usize = 300;
    const AT_ONCE: usize = 16;
    let identity = identity("localhost");
    let acceptor = TlsAcceptor::from(Arc::new(identity.config(BOTH)));
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut targets = Vec::new();
    for _ in 0..ENDPOINTS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        targets.push(format!("127.0.0.1:{}", listener.local_addr().unwrap().port()));
        let (acceptor, open, most) = (acceptor.clone(), open.clone(), most.clone());
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // So that the looks overlap as much as they may.
            tokio::task::yield_now().await;
            let _ = acceptor.accept(tcp).await;
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
    let mut source = source(&targets, Arc::new(Roots::none()));
    source.concurrency = AT_ONCE;
    // In a task of its own, as the daemon does it.
    let sweep = async move {
        let mut heard = 0;
        (source.observe_each(NOW, |_| heard += 1).await, heard)
    };
    let (observed, heard) = tokio::spawn(sweep).await.unwrap();
    assert_eq!((observed.observations.len(), heard), (ENDPOINTS, ENDPOINTS));
    observed.observations.iter().for_each(|seen| assert_eq!(found(seen).leaf().fingerprint.0, identity.fingerprint(0)));
    assert!(observed.observations.is_sorted_by_key(|seen| &seen.location));
    let most = most.load(Ordering::SeqCst);
    // A server may still be closing what its client has left.
    assert!((2..=2 * AT_ONCE).contains(&most), "{most}");
}
