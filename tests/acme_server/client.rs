//! Two clients: instant-acme over reqwest, and one that signs whatever it is told to.

use std::pin::Pin;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use instant_acme::{
    Account, AccountCredentials, BodyWrapper, BytesResponse, ChallengeType, Error, ExternalAccountKey, HttpClient,
    Identifier, NewAccount, NewOrder, Order, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};

use crate::support::acme_server::AcmeServer;

/// For the orders of stories that have no other reason to name one.
pub const NAME: &str = "web.example.org";

/// As long as a test is willing to wait for one answer.
const WITHIN: Duration = Duration::from_secs(20);

pub fn http(root_pem: &str) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(root_pem.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([root]).no_proxy().timeout(WITHIN).build().unwrap()
}

struct Http(reqwest::Client);

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let request = request.map(reqwest::Body::wrap).try_into().map_err(boxed)?;
            let response = client.execute(request).await.map_err(boxed)?;
            Ok(BytesResponse::from(http::Response::<reqwest::Body>::from(response)))
        })
    }
}

fn boxed(error: reqwest::Error) -> Error {
    Error::Other(Box::new(error))
}

pub async fn try_account(
    root_pem: &str,
    directory: &str,
    external: Option<&ExternalAccountKey>,
) -> Result<(Account, AccountCredentials), Error> {
    let new = NewAccount {
        contact: &["mailto:admin@example.org"],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(Http(http(root_pem))));
    builder.create(&new, directory.to_string(), external).await
}

/// The same account in another process.
pub async fn account_again(ca: &AcmeServer, credentials: AccountCredentials) -> Result<Account, Error> {
    Account::builder_with_http(Box::new(Http(http(ca.tls_root_pem())))).from_credentials(credentials).await
}

pub async fn account(ca: &AcmeServer) -> Account {
    try_account(ca.tls_root_pem(), &ca.directory_url(), None).await.unwrap().0
}

pub fn identifiers(names: &[&str]) -> Vec<Identifier> {
    let identifier = |name: &&str| name.parse().map_or_else(|_| Identifier::Dns(name.to_string()), Identifier::Ip);
    names.iter().map(identifier).collect()
}

/// For the name of `NAME`, all of whose challenges were answered.
pub async fn ready_order(account: &Account) -> Order {
    let identifiers = identifiers(&[NAME]);
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await.unwrap();
    answer_challenges(&mut order, &ChallengeType::Dns01).await;
    order
}

/// Of the type that is given, or of the first that there is.
pub async fn answer_challenges(order: &mut Order, kind: &ChallengeType) {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.unwrap();
        let has_it = authorization.challenges.iter().any(|challenge| challenge.r#type == *kind);
        let kind = if has_it { kind.clone() } else { authorization.challenges[0].r#type.clone() };
        authorization.challenge(kind).unwrap().set_ready().await.unwrap();
    }
}

/// A chain in PEM, of the order for `NAME`.
pub async fn issue(account: &Account) -> String {
    let mut order = ready_order(account).await;
    finish(&mut order, &[NAME]).await.unwrap()
}

pub async fn finish(order: &mut Order, names: &[&str]) -> Result<String, Error> {
    order.poll_ready(&quickly()).await?;
    order.finalize_csr(&csr(names, &KeyPair::generate().unwrap())).await?;
    order.poll_certificate(&quickly()).await
}

pub fn csr(names: &[&str], key: &KeyPair) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key).unwrap().der().to_vec()
}

/// Nothing here has a reason to take long.
pub fn quickly() -> RetryPolicy {
    RetryPolicy::new().initial_delay(Duration::from_millis(5)).backoff(1.0).timeout(Duration::from_secs(5))
}

pub fn ders(chain_pem: &str) -> Vec<Vec<u8>> {
    pem::parse_many(chain_pem).unwrap().into_iter().map(pem::Pem::into_contents).collect()
}

/// Why it does not verify as a server's certificate, now and for the name.
pub fn verify(ders: &[Vec<u8>], root_pem: &str, name: &str) -> Result<(), String> {
    let root = CertificateDer::from(pem::parse(root_pem).unwrap().into_contents());
    let ders: Vec<CertificateDer> = ders.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let leaf = webpki::EndEntityCert::try_from(&ders[0]).unwrap();
    let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
    let usage = webpki::KeyUsage::server_auth();
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &ders[1..], UnixTime::now(), usage, None, None)
        .map_err(|error| error.to_string())?;
    leaf.verify_is_valid_for_subject_name(&name.try_into().unwrap()).map_err(|error| error.to_string())
}

/// The URI of the problem that an error of instant-acme is about, without what all of RFC 8555 have in common.
pub fn kind_of(error: &Error) -> String {
    match error {
        Error::Api(problem) => {
            let kind = problem.r#type.as_deref().unwrap_or_default();
            kind.trim_start_matches("urn:ietf:params:acme:error:").to_string()
        }
        other => other.to_string(),
    }
}

/// Signs by itself, honestly or not.
pub struct Signer {
    pub http: reqwest::Client,
    pub key: EcdsaKeyPair,
    /// Once it has an account.
    pub kid: String,
    base: String,
}

/// What there is to be told about an answer.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

impl Answered {
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_string()).unwrap_or_default()
    }

    /// Status and type, without what all types of RFC 8555 have in common.
    pub fn refusal(&self) -> (u16, &str) {
        let kind = self.body["type"].as_str().unwrap_or_default();
        (self.status, kind.trim_start_matches("urn:ietf:params:acme:error:"))
    }
}

impl Signer {
    pub async fn with_account(ca: &AcmeServer) -> Self {
        let mut signer = Self::new(ca);
        let header = json!({ "jwk": signer.jwk() });
        let payload = json!({ "termsOfServiceAgreed": true });
        let answered = signer.send("/new-account", header, &payload.to_string()).await;
        assert_eq!(answered.status, 201, "{answered:?}");
        signer.kid = answered.header("Location");
        signer
    }

    pub fn new(ca: &AcmeServer) -> Self {
        Self {
            http: http(ca.tls_root_pem()),
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            kid: String::new(),
            base: ca.directory_url().trim_end_matches("/directory").to_string(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn jwk(&self) -> Value {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) })
    }

    pub async fn nonce(&self) -> String {
        let answer = self.http.head(self.url("/new-nonce")).send().await.unwrap();
        answer.headers()["Replay-Nonce"].to_str().unwrap().to_string()
    }

    /// As an honest client does; an empty payload makes it a POST-as-GET.
    pub async fn post(&self, path: &str, payload: &str) -> Answered {
        self.send(path, json!({ "kid": self.kid }), payload).await
    }

    /// With a nonce and the URL, where `header` does not say otherwise.
    pub async fn send(&self, path: &str, header: Value, payload: &str) -> Answered {
        let jws = self.sign(path, header, payload).await;
        self.deliver(path, &jws).await
    }

    pub async fn sign(&self, path: &str, header: Value, payload: &str) -> Value {
        let mut protected = json!({ "alg": "ES256", "nonce": self.nonce().await, "url": self.url(path) });
        for (name, value) in header.as_object().unwrap() {
            protected[name] = value.clone();
        }
        self.signed(&protected, payload)
    }

    pub fn signed(&self, protected: &Value, payload: &str) -> Value {
        let (protected, payload) = (text(protected.to_string()), text(payload));
        let signed = format!("{protected}.{payload}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        json!({ "protected": protected, "payload": payload, "signature": text(signature) })
    }

    pub async fn deliver(&self, path: &str, jws: &Value) -> Answered {
        let request = self.http.post(self.url(path)).header("Content-Type", "application/jose+json");
        answered(request.body(jws.to_string()).send().await.unwrap()).await
    }

    /// Its number, of an order that is ready.
    pub async fn ready_order(&self) -> usize {
        let order = json!({ "identifiers": [{ "type": "dns", "value": NAME }] });
        let made = self.post("/new-order", &order.to_string()).await;
        let authorization = made.body["authorizations"][0].as_str().unwrap().trim_start_matches(&self.base).to_string();
        let authorization = self.post(&authorization, "").await;
        let challenge = authorization.body["challenges"][0]["url"].as_str().unwrap();
        assert_eq!(self.post(challenge.trim_start_matches(&self.base), "{}").await.status, 200);
        made.header("Location").rsplit('/').next().unwrap().parse().unwrap()
    }
}

pub async fn answered(answer: reqwest::Response) -> Answered {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.bytes().await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into());
    Answered { status, headers, body }
}

pub fn text(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
