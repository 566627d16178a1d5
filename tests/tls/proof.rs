//! Servers that present a certificate without its key, or let nobody in after they presented it.

use std::sync::Arc;
use std::time::Duration;

use certd::domain::check::{ProblemKind, Severity, check};
use certd::domain::inventory::{Handshake, Observation};
use certd::domain::key::KeySpec;
use certd::domain::policy::Thresholds;
use certd::pki;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::NOW;
use crate::{BOTH, Identity, found, identity, look, serve, source};

/// The handshake problems of an endpoint, and what they say.
fn problems(seen: &Observation) -> Vec<(ProblemKind, String)> {
    let all = check(NOW, &Thresholds::default(), seen);
    let of_handshake = [ProblemKind::KeyNotProven, ProblemKind::Handshake];
    let told = all.into_iter().filter(|problem| of_handshake.contains(&problem.problem));
    told.inspect(|problem| assert_eq!(problem.severity, Severity::Critical))
        .map(|problem| (problem.problem, problem.message))
        .collect()
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// The certificate of one, signed for with a key of the same kind that is another's.
fn without_the_key(identity: &Identity) -> Arc<Always> {
    let other = pki::key::generate(KeySpec::EcdsaP256).unwrap();
    let other = PrivatePkcs8KeyDer::from(other.pkcs8.to_vec());
    let key = aws_lc_rs::sign::any_supported_type(&other.into()).unwrap();
    Arc::new(Always(Arc::new(CertifiedKey::new(identity.certificates(), key))))
}

#[tokio::test]
async fn a_server_that_does_not_hold_the_key_of_its_certificate_is_critical_in_each_version() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let identity = identity("localhost");
        let mut config = identity.config(&[version]);
        config.cert_resolver = without_the_key(&identity);
        let port = serve("127.0.0.1:0", config).await;
        let seen = look(format!("127.0.0.1:{port} sni=localhost"), identity.authority.roots()).await;
        assert_eq!(found(&seen).leaf().fingerprint.0, identity.fingerprint(0), "what it presents is still told");
        assert!(!found(&seen).is_proven());
        let why = "the server does not hold the key of its certificate: it signed the handshake with another key";
        assert_eq!(problems(&seen), [(ProblemKind::KeyNotProven, why.to_string())], "{version:?}");
    }
}

#[tokio::test]
async fn a_server_that_holds_its_key_has_no_problem_and_one_that_asks_for_a_certificate_is_told() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let identity = identity("localhost");
        for (config, asks_for_certificate) in
            [(identity.config(&[version]), false), (identity.demanding_config(&[version]), true)]
        {
            let port = serve("127.0.0.1:0", config).await;
            let seen = look(format!("127.0.0.1:{port} sni=localhost"), identity.authority.roots()).await;
            let expected = Handshake { asks_for_certificate, ..Handshake::default() };
            assert_eq!(found(&seen).handshake, Some(expected), "{version:?}");
            assert_eq!(problems(&seen), []);
        }
    }
}

/// How a server ends what it began.
#[derive(Clone, Copy, Debug)]
enum End {
    Stall,
    Close,
    Garbage,
    /// A fatal internal_error (RFC 8446, section 6.2).
    Alert,
}

/// Passes the first flight of a server on, and ends there once the client has answered it.
async fn cut_short(server: u16, end: End) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let mut bytes = vec![0; 65_536];
                let hello = client.read(&mut bytes).await.unwrap();
                server.write_all(&bytes[..hello]).await.unwrap();
                // One flight in one segment or more, until the client has its turn.
                loop {
                    let mut flight = vec![0; 65_536];
                    tokio::select! {
                        read = server.read(&mut flight) => client.write_all(&flight[..read.unwrap()]).await.unwrap(),
                        read = client.read(&mut bytes) => if read.unwrap() > 0 { break } else { return },
                    }
                }
                match end {
                    End::Stall => tokio::time::sleep(Duration::from_secs(30)).await,
                    End::Close => {}
                    End::Garbage => client.write_all(&[0x41; 64]).await.unwrap(),
                    End::Alert => client.write_all(&[0x15, 3, 3, 0, 2, 2, 80]).await.unwrap(),
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_handshake_that_ends_after_the_certificate_was_seen_is_critical_and_says_how() {
    for (end, said) in [
        (End::Stall, "could not finish the TLS handshake with "),
        (End::Close, "the server closed the connection"),
        (End::Garbage, "could not shake hands with "),
        (End::Alert, "received fatal alert: InternalError"),
    ] {
        let identity = identity("localhost");
        let server = serve("127.0.0.1:0", identity.config(&[&rustls::version::TLS12])).await;
        let port = cut_short(server, end).await;
        let mut source = source(&[format!("127.0.0.1:{port} sni=localhost")], identity.authority.roots());
        source.timeout = Duration::from_secs(2);
        let seen = source.observe(NOW).await.observations.remove(0);
        assert_eq!(found(&seen).leaf().fingerprint.0, identity.fingerprint(0), "{end:?}");
        let told = problems(&seen);
        assert!(matches!(&told[..], [(ProblemKind::Handshake, why)] if why.contains(said)), "{end:?}: {told:?}");
        assert!(told[0].1.starts_with("no client gets in: "), "{told:?}");
    }
}

#[tokio::test]
async fn an_address_without_the_key_is_a_place_of_its_own_beside_those_that_hold_it() {
    let identity = identity("www.example.org");
    let port = serve("127.0.0.1:0", identity.config(BOTH)).await;
    serve(&format!("127.0.0.2:{port}"), identity.config(BOTH)).await;
    let mut config = identity.config(BOTH);
    config.cert_resolver = without_the_key(&identity);
    serve(&format!("127.0.0.3:{port}"), config).await;
    let mut source = source(&[format!("www.example.org:{port}")], identity.authority.roots());
    let addresses = [1, 2, 3].map(|last| [127, 0, 0, last].into()).to_vec();
    source.addresses = Arc::new([("www.example.org".to_string(), addresses)].into());
    let seen = source.observe(NOW).await.observations;
    let told: Vec<_> = seen.iter().map(|seen| (seen.location.to_string(), found(seen).is_proven())).collect();
    let whole = format!("www.example.org:{port}");
    assert_eq!(told, [(whole.clone(), true), (format!("{whole} at 127.0.0.3"), false)]);
}

#[tokio::test]
async fn every_address_of_a_name_is_looked_at_and_those_beyond_the_most_are_told() {
    let identity = identity("www.example.org");
    let port = serve("127.0.0.1:0", identity.config(BOTH)).await;
    let mut source = source(&[format!("www.example.org:{port}")], identity.authority.roots());
    let addresses = std::iter::repeat_n([127, 0, 0, 1].into(), 64).chain([[127, 0, 0, 9].into()]).collect();
    source.addresses = Arc::new([("www.example.org".to_string(), addresses)].into());
    let seen = source.observe(NOW).await.observations;
    let told: Vec<_> = seen.iter().map(|seen| seen.location.to_string()).collect();
    let whole = format!("www.example.org:{port}");
    assert_eq!(told, [whole.clone(), format!("{whole} at 127.0.0.9")]);
    let (_, why) = crate::obstacle(&seen[1]);
    assert_eq!(why, "not looked at: the name has 65 addresses, and certd looks at 64");
}
