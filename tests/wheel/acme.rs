//! ACME as issuer and Vault as store. The account is kept in the same Vault, for as many hosts as there are.

use std::time::Duration;

use certd::domain::cert::Certificate;
use certd::domain::inventory::Sighting;
use certd::pki::read;
use serde_json::{Value, json};

use crate::home::{Home, Ran, config_with_head, declared, rows};
use crate::leaves::Leaf;
use crate::support::acme_server::{AcmeServer, DAY, Kind, Script};
use crate::support::server::free_port;

/// In the mount of secrets.
const ACCOUNT: &str = "acme/public";

/// In seconds from the signing: what lives for so short a time is due at the half of it, a few seconds after.
const SOON_DUE: (i64, i64) = (-23, 37);

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The configuration of the second host.
const SECOND: &str = "second.toml";

struct Wheel {
    ca: AcmeServer,
    home: Home,
}

impl Wheel {
    /// What certd may do in Vault is what `certd vault policy` prints for it.
    async fn new(names: &[&str]) -> Self {
        let (ca, home) = (AcmeServer::start(Script::default()), Home::new("").await);
        ca.ca_file(&home.path("acme-tls.pem"));
        std::fs::write(home.path("acme-roots.pem"), format!("{}{}", ca.root_pem(), home.old.pem)).unwrap();
        let wheel = Self { ca, home };
        wheel.home.configure(&wheel.config(names));
        let printed = wheel.home.certd(&["vault", "policy"]).await;
        assert_eq!(printed.code, 0, "{printed:?}");
        wheel.home.give_token(&wheel.home.house.admin.token(&printed.out).await);
        wheel
    }

    fn config(&self, names: &[&str]) -> String {
        let certificates: String =
            names.iter().map(|name| declared(name).replace("\"internal\"", "\"public\"")).collect();
        format!(
            "[issuer.public.acme]\ndirectory = \"{}\"\nca_file = \"acme-tls.pem\"\nroots = [\"acme-roots.pem\"]\n\
             terms_agreed = true\naccount.vault_kv = {{ vault = \"main\", path = \"KV/{ACCOUNT}\" }}\n\
             challenge.http_01 = {{ listen = [\"127.0.0.1:{}\"] }}\n{certificates}",
            self.ca.directory_url(),
            free_port(),
        )
    }

    /// One host keeps `web`, and another, with a state directory of its own, `api`.
    async fn of_two_hosts() -> Self {
        let wheel = Self::new(&["web", "api"]).await;
        wheel.home.configure(&wheel.config(&["web"]));
        let second = config_with_head(&wheel.config(&["api"])).replace("\"state\"", "\"state-2\"");
        wheel.home.write_config(SECOND, &wheel.home.house.admin.address, &second);
        wheel
    }

    /// Of a secret that holds a certificate and its key.
    async fn leaf(&self, path: &str) -> Certificate {
        let store = self.home.house.store(path);
        match store.read().await {
            Sighting::Found(found) => {
                assert_eq!(found.stored_key, Some(found.leaf().public_key), "{path}");
                found.leaf().clone()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Accounts and certificates of the CA.
    fn made(&self) -> (usize, usize) {
        (self.ca.accounts().len(), self.ca.issued().len())
    }

    /// Serial numbers, in the order of signing.
    fn signed(&self) -> Vec<String> {
        self.ca.issued().iter().map(|issued| read::certificate(&issued.ders[0]).unwrap().serial).collect()
    }

    /// The account as Vault holds it.
    async fn account(&self) -> Value {
        self.home.house.admin.get(&self.home.house.kv, ACCOUNT).await.0
    }
}

fn is_renewed(ran: &Ran, name: &str) {
    assert!(ran.code == 0 && ran.out.starts_with(&format!("{name}: renewed by public, ends on ")), "{ran:?}");
}

#[tokio::test]
async fn what_is_missing_is_issued_stored_read_back_and_closed_and_renewed_when_it_is_due() {
    let wheel = Wheel::new(&["web"]).await;
    let (ca, home) = (&wheel.ca, &wheel.home);
    ca.change(|script| script.validity = SOON_DUE);
    assert_eq!(home.plan().await, rows(&[("web", "renew missing")]));
    is_renewed(&home.certd(&["renew"]).await, "web");
    assert_eq!((wheel.made(), home.version("tls/web").await, home.staged().await), ((1, 1), 1, 0));
    assert_eq!(wheel.leaf("tls/web").await.serial, wheel.signed()[0]);

    ca.change(|script| script.validity = (-3_600, 90 * DAY));
    while home.plan().await == rows(&[("web", "keep")]) {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    assert_eq!(home.plan().await, rows(&[("web", "renew due")]));
    is_renewed(&home.certd(&["renew"]).await, "web");
    assert_eq!((wheel.made(), home.version("tls/web").await, home.staged().await), ((1, 2), 2, 0));
    assert_eq!(wheel.leaf("tls/web").await.serial, wheel.signed()[1]);
    assert_eq!(home.plan().await, rows(&[("web", "keep")]));
    let journal = home.certd(&["journal", "--last", "1000"]).await.out;
    assert_eq!(journal.matches("read back and closed").count(), 2, "{journal}");
    // One that asks whether the key is known, and one that makes the account.
    assert_eq!(ca.count(Kind::NewAccount), 2);
}

#[tokio::test]
async fn what_else_was_in_a_secret_stays_there_byte_for_byte() {
    let wheel = Wheel::new(&["api"]).await;
    let home = &wheel.home;
    let mut old = home.old.secret(Leaf::due("api.example.org"));
    old["team"] = json!("payments");
    old["nested"] = json!({ "kept": [1, 2.50, null] });
    home.house.admin.put(&home.house.kv, "tls/api", old).await;
    let before = home.fields("tls/api").await;
    is_renewed(&home.certd(&["renew"]).await, "api");
    let after = home.fields("tls/api").await;
    for name in ["team", "nested"] {
        assert_eq!(after[name].get(), before[name].get());
    }
    assert_eq!((wheel.made(), home.version("tls/api").await), ((1, 1), 2));
    assert_eq!(wheel.leaf("tls/api").await.serial, wheel.signed()[0]);
}

#[tokio::test]
async fn hosts_that_keep_the_account_in_one_vault_have_one_account() {
    let wheel = Wheel::of_two_hosts().await;
    is_renewed(&wheel.home.certd(&["renew"]).await, "web");
    let account = wheel.account().await;
    assert_eq!(account["url"], wheel.ca.accounts()[0].url);
    is_renewed(&wheel.home.certd_of(SECOND, &["renew"]).await, "api");
    assert_eq!((wheel.made(), wheel.account().await), ((1, 2), account));
}

#[tokio::test]
async fn hosts_that_make_the_account_at_the_same_time_make_one() {
    let wheel = Wheel::of_two_hosts().await;
    let (first, second) = tokio::join!(wheel.home.certd(&["renew"]), wheel.home.certd_of(SECOND, &["renew"]));
    is_renewed(&first, "web");
    is_renewed(&second, "api");
    assert_eq!(wheel.made(), (1, 2));
    assert_eq!(wheel.account().await["url"], wheel.ca.accounts()[0].url);
}

#[tokio::test]
async fn an_account_that_was_deleted_in_vault_is_a_stop_and_no_new_account() {
    let wheel = Wheel::of_two_hosts().await;
    let home = &wheel.home;
    is_renewed(&home.certd(&["renew"]).await, "web");
    let version = home.version(ACCOUNT).await;
    home.delete(ACCOUNT).await;
    // The second host never saw an account.
    for (config, name) in [("certd.toml", "web"), (SECOND, "api")] {
        let stopped = home.certd_of(config, &["renew", "--force", name]).await;
        assert_eq!(stopped.code, 2, "{stopped:?}");
        assert!(stopped.out.contains("was deleted: restore that version"), "{stopped:?}");
    }
    assert_eq!((wheel.made(), home.version(ACCOUNT).await), ((1, 1), version));
    let undelete = format!("{}/undelete/{ACCOUNT}", home.house.kv);
    home.house.admin.admin("POST", &undelete, json!({ "versions": [version] })).await;
    is_renewed(&home.certd_of(SECOND, &["renew", "--force", "api"]).await, "api");
    assert_eq!(wheel.made(), (1, 2));
}
