//! Of several issuers the next is asked once time is short.

use std::fs;

use rcgen::{Issuer, KeyPair};

use crate::home::{Home, scripted};
use crate::support::acme_server::{Fault, Kind, Nth, Script};
use crate::support::certificates;

/// Keeps a certificate of another CA, of ninety days, that ends in so many, as `web.pem`.
pub fn keep(home: &Home, days_left: i64) {
    let params = certificates::root_params("old CA");
    let root_key = KeyPair::generate().unwrap();
    let root_pem = params.self_signed(&root_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut params_of_leaf = certificates::params(&["www.example.org"], days_left - 90, days_left);
    // A CA is asked about a certificate by this and its serial number (RFC 9773, section 4.1).
    params_of_leaf.use_authority_key_identifier_extension = true;
    let leaf = params_of_leaf.signed_by(&key, &Issuer::new(params, root_key)).unwrap();
    fs::write(home.path("web.pem"), format!("{}{}", key.serialize_pem(), leaf.pem())).unwrap();
    let roots = fs::read_to_string(home.path("roots.pem")).unwrap();
    fs::write(home.path("roots.pem"), format!("{roots}{root_pem}")).unwrap();
}

#[tokio::test]
async fn the_next_issuer_is_asked_once_half_of_the_time_that_was_left_when_it_was_due_has_passed() {
    let (failing, home) = scripted(Script::default());
    let (second, other) = scripted(Script::default());
    failing.fail(Kind::NewOrder, Nth::Every, Fault::html(500));
    fs::copy(other.path("ca.pem"), home.path("other-ca.pem")).unwrap();
    let both = ["roots.pem", "other-roots.pem"];
    fs::copy(other.path("roots.pem"), home.path(both[1])).unwrap();
    let issuer = |name: &str, directory: String, ca: &str| {
        format!(
            "[issuer.{name}.acme]\ndirectory = {directory:?}\nca_file = {ca:?}\nroots = {both:?}\nterms_agreed = true\nchallenge.http_01 = {{ listen = [\"127.0.0.1:0\"] }}\n"
        )
    };
    let text = format!(
        "state_dir = \"state\"\nlisten.address = \"none\"\n{}{}[[certificate]]\nname = \"web\"\nnames = [\"www.example.org\"]\nissuer = [\"first\", \"second\"]\nstore.file = {{ bundle = \"web.pem\" }}\n",
        issuer("first", failing.directory_url(), "ca.pem"),
        issuer("second", second.directory_url(), "other-ca.pem"),
    );
    fs::write(home.path("certd.toml"), text).unwrap();

    keep(&home, 25);
    let failed = home.certd(&["renew", "--due", "web"]).await;
    assert!(failed.code == 2 && failed.out.contains("no ACME (status 500)"), "{failed:?}");
    assert_eq!((failing.count(Kind::NewOrder), second.count(Kind::NewOrder)), (1, 0));

    keep(&home, 10);
    let renewed = home.certd(&["renew", "--due", "web"]).await;
    assert!(renewed.code == 0 && renewed.out.contains("renewed by second"), "{renewed:?}");
    assert_eq!((failing.issued().len(), second.issued().len()), (0, 1));
}
