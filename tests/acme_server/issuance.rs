//! What a client that does everything right gets.

use std::sync::{Arc, Mutex};

use instant_acme::{CertificateIdentifier, ChallengeType, ExternalAccountKey, NewOrder, OrderStatus, RevocationReason};
use instant_acme::{RenewalInfo, RevocationRequest};
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;

use crate::client::{NAME, account, account_again, answer_challenges, csr, ders, finish, http, identifiers, issue};
use crate::client::{kind_of, quickly, ready_order, try_account, verify};
use crate::support::acme_server::{AcmeServer, Kind, Profile, Revoked, Script, Status, Validation, Verdict, Window};
use crate::support::acme_server::{DAY, problem};

#[tokio::test]
async fn one_whole_issuance_gives_a_chain_to_each_of_two_roots() {
    let ca = AcmeServer::start(Script::default());
    let account = account(&ca).await;
    let names = [NAME, "*.example.org", "192.0.2.7", "2001:db8::7"];
    let mut order = account.new_order(&NewOrder::new(&identifiers(&names))).await.unwrap();
    answer_challenges(&mut order, &ChallengeType::Http01).await;
    assert_eq!(order.poll_ready(&quickly()).await.unwrap(), OrderStatus::Ready);
    let key = KeyPair::generate().unwrap();
    order.finalize_csr(&csr(&names, &key)).await.unwrap();
    let chain = order.poll_certificate(&quickly()).await.unwrap();

    let issued = ca.issued().remove(0);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key.subject_public_key_info());
    assert_eq!(issued.names.iter().map(ToString::to_string).collect::<Vec<_>>(), names);
    assert_eq!(issued.key, digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    assert_eq!((ders(&chain), issued.account.as_str()), (issued.ders.clone(), account.id()));
    for name in ["web.example.org", "other.example.org", "192.0.2.7", "2001:db8::7"] {
        assert_eq!(verify(&issued.ders, &ca.root_pem(), name), Ok(()));
        assert_eq!(verify(&issued.alternate_ders, &ca.alternate_root_pem(), name), Ok(()));
    }
    assert_eq!(verify(&issued.ders, &ca.alternate_root_pem(), NAME), Err("UnknownIssuer".to_string()));
    assert!(verify(&issued.ders, &ca.root_pem(), "example.net").is_err());
    assert_eq!(ca.orders()[0].status, Status::Valid);
    let once = [Kind::NewAccount, Kind::NewOrder, Kind::Finalize, Kind::Certificate];
    assert_eq!(once.map(|kind| ca.count(kind)), [1; 4]);
    assert_eq!((ca.count(Kind::Authorization), ca.count(Kind::Challenge)), (4, 4));
    assert_eq!(ca.requests().iter().filter(|seen| seen.status.is_none_or(|status| status >= 400)).count(), 0);
}

#[tokio::test]
async fn the_second_chain_is_where_the_answer_to_the_first_says() {
    let ca = AcmeServer::start(Script::default());
    let signer = crate::client::Signer::with_account(&ca).await;
    let id = signer.ready_order().await;
    let csr = crate::client::text(csr(&[NAME], &KeyPair::generate().unwrap()));
    let finalized = signer.post(&format!("/order/{id}/finalize"), &format!(r#"{{"csr":"{csr}"}}"#)).await;
    let path = finalized.body["certificate"].as_str().unwrap().replace(&signer.url(""), "");
    let first = signer.post(&path, "").await;
    let links: Vec<_> = first.headers.get_all("Link").iter().map(|link| link.to_str().unwrap().to_string()).collect();
    let alternate = links.iter().find_map(|link| link.strip_suffix(">;rel=\"alternate\"")).unwrap();
    let second = signer.post(&alternate.replace(&format!("<{}", signer.url("")), ""), "").await;
    assert_eq!(ders(first.body.as_str().unwrap()), ca.issued()[0].ders);
    assert_eq!(ders(second.body.as_str().unwrap()), ca.issued()[0].alternate_ders);
    ca.change(|script| script.alternates = false);
    assert_eq!(signer.post(&path, "").await.headers.get_all("Link").iter().count(), 1, "the directory's alone");
}

#[tokio::test]
async fn an_account_is_found_again_changes_its_key_and_contacts_and_ends() {
    let ca = AcmeServer::start(Script::default());
    let (mut account, old) = try_account(ca.tls_root_pem(), &ca.directory_url(), None).await.unwrap();
    assert_eq!(ca.accounts()[0].contact, ["mailto:admin@example.org"]);
    account.update_contacts(&["mailto:ops@example.org"]).await.unwrap();
    assert_eq!(ca.accounts()[0].contact, ["mailto:ops@example.org"]);
    assert_eq!(kind_of(&account.update_contacts(&["tel:1"]).await.unwrap_err()), "unsupportedContact");
    let new = account.update_key().await.unwrap();
    let before = account_again(&ca, old).await.unwrap();
    let refused = before.update_contacts(&[]).await.unwrap_err();
    assert_eq!(kind_of(&refused), "malformed", "the old key signs for nobody");
    let again = account_again(&ca, new).await.unwrap();
    again.update_contacts(&[]).await.unwrap();
    assert_eq!((again.id(), ca.accounts().len()), (account.id(), 1));
    again.deactivate().await.unwrap();
    assert_eq!(ca.accounts()[0].status, Status::Deactivated);
    let order = identifiers(&[NAME]);
    assert_eq!(kind_of(&account.new_order(&NewOrder::new(&order)).await.err().unwrap()), "unauthorized");
}

#[tokio::test]
async fn an_external_account_is_needed_and_its_mac_verified() {
    let script = Script { external_accounts: [("kid-1".to_string(), b"secret".to_vec())].into(), ..Script::default() };
    let ca = AcmeServer::start(script);
    let key = |kid: &str, mac: &[u8]| Some(ExternalAccountKey::new(kid.to_string(), mac));
    let cases = [
        (None, "externalAccountRequired"),
        (key("kid-2", b"secret"), "unauthorized"),
        (key("kid-1", b"guess"), "unauthorized"),
    ];
    for (external, refusal) in cases {
        let refused = try_account(ca.tls_root_pem(), &ca.directory_url(), external.as_ref()).await;
        assert_eq!(kind_of(&refused.err().unwrap()), refusal);
    }
    let external = key("kid-1", b"secret");
    let (_, _) = try_account(ca.tls_root_pem(), &ca.directory_url(), external.as_ref()).await.unwrap();
    assert_eq!(ca.accounts()[0].external.as_deref(), Some("kid-1"));
}

#[tokio::test]
async fn an_order_has_the_profile_that_it_asks_for_or_the_first() {
    let ca = AcmeServer::start(Script::default());
    let account = account(&ca).await;
    let names = identifiers(&[NAME]);
    let mut passed_over = account.new_order(&NewOrder::new(&names).profile("shortlived")).await.unwrap();
    assert_eq!(passed_over.state().profile, None, "a CA without profiles passes it over");
    let profile =
        |name: &str, days: i64| Profile { name: name.into(), description: String::new(), lifetime: days * DAY };
    ca.change(|script| script.profiles = vec![profile("classic", 90), profile("shortlived", 6)]);
    let unknown = account.new_order(&NewOrder::new(&names).profile("longlived")).await.err().unwrap();
    assert_eq!(kind_of(&unknown), "invalidProfile");
    let mut order = account.new_order(&NewOrder::new(&names).profile("shortlived")).await.unwrap();
    answer_challenges(&mut order, &ChallengeType::Dns01).await;
    finish(&mut order, &[NAME]).await.unwrap();
    let issued = ca.issued().remove(0);
    assert_eq!(issued.not_after - issued.not_before, 6 * DAY);
    let profiles: Vec<_> = ca.orders().into_iter().map(|order| order.profile).collect();
    assert_eq!(profiles, [None, Some("shortlived".to_string())]);
}

#[tokio::test]
async fn the_judge_of_the_story_hears_of_every_challenge_and_decides() {
    let heard = Arc::new(Mutex::new(Vec::<Validation>::new()));
    let judge = {
        let heard = heard.clone();
        move |validation: &Validation| {
            heard.lock().unwrap().push(validation.clone());
            match validation.identifier.as_str() {
                "slow.example.org" => Verdict::Later(2),
                "bad.example.org" => Verdict::Invalid(problem(403, "unauthorized", "nobody home")),
                _ => Verdict::Valid,
            }
        }
    };
    let ca = AcmeServer::start(Script { judge: Arc::new(judge), ..Script::default() });
    let account = account(&ca).await;
    let cases = [
        ("*.example.org", OrderStatus::Ready, 1),
        ("slow.example.org", OrderStatus::Ready, 3),
        ("bad.example.org", OrderStatus::Invalid, 1),
    ];
    for (name, status, looks) in cases {
        let mut order = account.new_order(&NewOrder::new(&identifiers(&[name]))).await.unwrap();
        answer_challenges(&mut order, &ChallengeType::Dns01).await;
        let before = ca.count(Kind::Order);
        match order.poll_ready(&quickly()).await {
            Ok(found) => assert_eq!(found, status, "{name}"),
            Err(error) => assert_eq!((kind_of(&error).as_str(), status), ("unauthorized", OrderStatus::Invalid)),
        }
        assert_eq!(ca.count(Kind::Order) - before, looks, "{name}");
    }
    let heard = heard.lock().unwrap();
    let wildcard = &heard[0];
    assert_eq!((wildcard.identifier.as_str(), wildcard.wildcard, wildcard.kind), ("example.org", true, "dns-01"));
    assert_eq!(wildcard.key_authorization, format!("{}.{}", wildcard.token, account.key_thumbprint()));
    assert_eq!((heard.len(), wildcard.account.as_str()), (3, account.id()));
}

#[tokio::test]
async fn valid_authorizations_are_found_again_where_the_story_wants_it() {
    for (reuse, status, challenges) in [(true, OrderStatus::Ready, 1), (false, OrderStatus::Pending, 1)] {
        let ca = AcmeServer::start(Script { reuse_authorizations: reuse, ..Script::default() });
        let account = account(&ca).await;
        issue(&account).await;
        let mut again = account.new_order(&NewOrder::new(&identifiers(&[NAME]))).await.unwrap();
        assert_eq!((again.state().status, ca.count(Kind::Challenge)), (status, challenges));
    }
}

#[tokio::test]
async fn a_certificate_is_revoked_once_and_by_nobody_else() {
    let ca = AcmeServer::start(Script::default());
    let (owner, other) = (account(&ca).await, account(&ca).await);
    let chain = ders(&issue(&owner).await);
    let certificate = CertificateDer::from(chain[0].as_slice());
    let request = || RevocationRequest { certificate: &certificate, reason: Some(RevocationReason::Superseded) };
    assert_eq!(kind_of(&other.revoke(&request()).await.unwrap_err()), "unauthorized");
    assert_eq!(ca.revoked(), []);
    owner.revoke(&request()).await.unwrap();
    assert_eq!(ca.revoked(), [Revoked { serial: ca.issued()[0].serial.clone(), reason: 4 }]);
    assert_eq!(kind_of(&owner.revoke(&request()).await.unwrap_err()), "alreadyRevoked");
    let (info, _) = renewal_info(&owner, &chain).await;
    assert!(info.suggested_window.end < time::OffsetDateTime::now_utc());
}

#[tokio::test]
async fn renewal_information_is_of_the_last_third_or_what_the_story_says() {
    let ca = AcmeServer::start(Script::default());
    let account = account(&ca).await;
    let chain = ders(&issue(&account).await);
    let issued = ca.issued().remove(0);
    let window =
        |info: &RenewalInfo| (info.suggested_window.start.unix_timestamp(), info.suggested_window.end.unix_timestamp());
    let (usual, wait) = renewal_info(&account, &chain).await;
    let third = (issued.not_after - issued.not_before) / 3;
    assert_eq!(window(&usual), (issued.not_after - third, issued.not_after - third / 2));
    assert!((21_590..=21_600).contains(&wait.as_secs()) && usual.explanation_url.is_none(), "{wait:?}");

    // Past, inverted, and each earlier than the one before.
    for (start, end) in [(10 * DAY, 20 * DAY), (5 * DAY, 6 * DAY), (DAY, -DAY), (-2 * DAY, -DAY)] {
        let wanted = Window::from_now(start, end);
        ca.set_window(&issued.serial, wanted);
        let (info, _) = renewal_info(&account, &chain).await;
        assert_eq!(window(&info), (wanted.start.as_second(), wanted.end.as_second()));
    }
    ca.change(|script| {
        script.renewal_retry_after = None;
        script.explanation = Some("https://ca.example/why".to_string());
    });
    let id = CertificateIdentifier::try_from(&CertificateDer::from(chain[0].as_slice())).unwrap().to_string();
    assert_eq!(id, issued.id);
    let url = ca.directory_url().replace("directory", &format!("renewal-info/{id}"));
    let answer = http(ca.tls_root_pem()).get(url).send().await.unwrap();
    assert_eq!(answer.headers().get("Retry-After"), None);
    assert!(answer.text().await.unwrap().contains(r#""explanationURL":"https://ca.example/why""#));
}

#[tokio::test]
async fn an_order_replaces_a_certificate_once() {
    let ca = AcmeServer::start(Script::default());
    let (account, other) = (account(&ca).await, account(&ca).await);
    let chain = ders(&issue(&account).await);
    let der = CertificateDer::from(chain[0].as_slice());
    let id = || CertificateIdentifier::try_from(&der).unwrap().into_owned();
    let (same, none_of_them) = (identifiers(&[NAME]), identifiers(&["api.example.org"]));
    let refused = account.new_order(&NewOrder::new(&none_of_them).replaces(id())).await.err().unwrap();
    assert_eq!(kind_of(&refused), "malformed");
    let refused = other.new_order(&NewOrder::new(&same).replaces(id())).await.err().unwrap();
    assert_eq!(kind_of(&refused), "unauthorized");
    let mut order = account.new_order(&NewOrder::new(&same).replaces(id())).await.unwrap();
    assert_eq!(order.state().replaces, Some(id()));
    let refused = account.new_order(&NewOrder::new(&same).replaces(id())).await.err().unwrap();
    assert_eq!(kind_of(&refused), "alreadyReplaced");
    assert_eq!(ca.orders()[1].replaces.as_ref(), Some(&ca.issued()[0].id));
}

#[tokio::test]
async fn another_order_is_asked_for_without_another_account() {
    let ca = AcmeServer::start(Script::default());
    let account = account(&ca).await;
    let mut first = ready_order(&account).await;
    let mut second = ready_order(&account).await;
    finish(&mut first, &[NAME]).await.unwrap();
    finish(&mut second, &[NAME]).await.unwrap();
    let serials: Vec<_> = ca.issued().into_iter().map(|issued| issued.serial).collect();
    assert!(serials.len() == 2 && serials[0] != serials[1], "{serials:?}");
}

async fn renewal_info(account: &instant_acme::Account, chain: &[Vec<u8>]) -> (RenewalInfo, std::time::Duration) {
    let der = CertificateDer::from(chain[0].as_slice());
    account.renewal_info(&CertificateIdentifier::try_from(&der).unwrap()).await.unwrap()
}
