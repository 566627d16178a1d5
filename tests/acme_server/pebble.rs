//! Pebble as the stories have it.

use instant_acme::{CertificateIdentifier, ChallengeType, ExternalAccountKey, NewOrder, OrderStatus};
use jiff::{Timestamp, ToSpan};
use rustls_pki_types::CertificateDer;

use crate::client::{ders, finish, identifiers, kind_of, quickly, try_account, verify};
use crate::support::pebble::{ChallengeServer, Pebble, Settings};

#[tokio::test]
async fn one_whole_issuance_by_http_01() {
    let challenges = ChallengeServer::start().await;
    let settings = Settings {
        http_port: challenges.http_port,
        tls_port: challenges.tls_port,
        dns_server: Some(challenges.dns.clone()),
        ..Settings::default()
    };
    let pebble = Pebble::start(&settings).await;
    let trusted = std::fs::read_to_string(pebble.ca_file()).unwrap();
    let (account, _) = try_account(&trusted, &pebble.directory(), None).await.unwrap();
    let names = ["web.example.org", "api.example.org"];
    challenges.add_a("api.example.org", &["127.0.0.1"]).await;
    let mut order = account.new_order(&NewOrder::new(&identifiers(&names))).await.unwrap();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.unwrap();
        let mut challenge = authorization.challenge(ChallengeType::Http01).unwrap();
        challenges.add_http01(&challenge.token, challenge.key_authorization().as_str()).await;
        challenge.set_ready().await.unwrap();
    }
    let chain = ders(&finish(&mut order, &names).await.unwrap());
    assert_eq!(verify(&chain, &pebble.root(0).await, "api.example.org"), Ok(()));
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    assert_eq!(pebble.status(&leaf.tbs_certificate.serial.to_str_radix(16)).await, "Valid");

    if !pebble.offers("renewalInfo").await {
        return;
    }
    let pem = pem::encode(&pem::Pem::new("CERTIFICATE", chain[0].clone()));
    let start = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    pebble.set_renewal_info(&pem, start - 2.hours(), start - 1.hours()).await;
    let der = CertificateDer::from(chain[0].as_slice());
    let id = CertificateIdentifier::try_from(&der).unwrap();
    let (info, _) = account.renewal_info(&id).await.unwrap();
    assert_eq!(info.suggested_window.start.unix_timestamp(), (start - 2.hours()).as_second());
}

#[tokio::test]
async fn it_is_started_as_the_settings_say() {
    let challenges = ChallengeServer::start_dns().await;
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let settings = Settings {
        external_accounts: [("kid-1".to_string(), key.to_string())].into(),
        blocked_domains: vec!["blocked.example.org".to_string()],
        alternate_roots: 1,
        // One more is refused than a client has patience for once in a million.
        nonce_reject: 1,
        dns_server: Some(challenges.dns.clone()),
        strict: true,
        ..Settings::default()
    };
    let pebble = Pebble::start(&settings).await;
    assert!(pebble.log().contains("Configured to reject 1% of good nonces"), "{}", pebble.log());
    let trusted = std::fs::read_to_string(pebble.ca_file()).unwrap();
    let refused = try_account(&trusted, &pebble.directory(), None).await.err().unwrap();
    assert_eq!(kind_of(&refused), "externalAccountRequired");
    let mac = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, key).unwrap();
    let external = ExternalAccountKey::new("kid-1".to_string(), &mac);
    let (account, _) = try_account(&trusted, &pebble.directory(), Some(&external)).await.unwrap();
    let blocked = account.new_order(&NewOrder::new(&identifiers(&["blocked.example.org"]))).await.err().unwrap();
    assert_eq!(kind_of(&blocked), "rejectedIdentifier");
    assert_ne!(pebble.root(0).await, pebble.root(1).await);

    let mut order = account.new_order(&NewOrder::new(&identifiers(&["*.example.org"]))).await.unwrap();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.unwrap();
        let mut challenge = authorization.challenge(ChallengeType::Dns01).unwrap();
        // By way of a CNAME, as a zone that hands its challenges to another has it.
        challenges.set_cname("_acme-challenge.example.org.", "there.example.net.").await;
        challenges.set_txt("there.example.net.", &challenge.key_authorization().dns_value()).await;
        challenge.set_ready().await.unwrap();
    }
    assert_eq!(order.poll_ready(&quickly()).await.unwrap(), OrderStatus::Ready, "{}", pebble.log());
}
