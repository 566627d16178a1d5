//! `certd vault policy`: what it prints is enough for all that certd does, and nothing of it can be left out.

use serde_json::{Value, json};

use crate::home::{Home, Ran};
use crate::leaves::Leaf;
use crate::support::acme_server::{AcmeServer, Script};
use crate::support::server::free_port;

/// Each way in which certd uses a Vault. `OLD` is a mount of KV version 1, `AUTH` one of logins; `DIRECTORY` is an ACME
/// server's, and `LISTEN` where challenges are answered.
const CONFIG: &str = r#"
state_dir = "state"
[listen]
address = "none"
[vault.main]
address = "ADDRESS"
deadline = "5s"
auth.approle = { role_id_file = "role-id", secret_id_file = "secret-id", mount = "AUTH" }
[issuer.internal.vault_pki]
vault = "main"
mount = "PKI"
role = "servers"
[issuer.public.acme]
directory = "DIRECTORY"
ca_file = "acme-tls.pem"
roots = ["acme-roots.pem"]
terms_agreed = true
account.vault_kv = { vault = "main", path = "KV/accounts/public" }
challenge.http_01 = { listen = ["LISTEN"] }
[source.one-level.vault_kv]
vault = "main"
paths = ["KV/seen/*"]
[source.a-folder-between.vault_kv]
vault = "main"
paths = ["KV/teams/*/tls/**"]
[source.named.vault_kv]
vault = "main"
paths = ["KV/named"]
[source.old.vault_kv]
vault = "main"
paths = ["OLD/seen/**"]
[[adopt]]
name = "apps"
found.vault_kv = { vault = "main", paths = ["KV/tls/**"] }
names = ["*.example.org"]
roots = ["roots.pem"]
issuer = "internal"
[[adopt]]
name = "old-apps"
found.vault_kv = { vault = "main", paths = ["OLD/tls/*"] }
names = ["*.example.org"]
roots = ["roots.pem"]
issuer = "internal"
[[certificate]]
name = "declared"
names = ["declared.example.org"]
issuer = "internal"
store.vault_kv = { vault = "main", path = "KV/own/declared" }
[[certificate]]
name = "among-the-adopted"
names = ["among.example.org"]
issuer = "internal"
store.vault_kv = { vault = "main", path = "KV/tls/among" }
[[certificate]]
name = "old-declared"
names = ["old.example.org"]
issuer = "internal"
store.vault_kv = { vault = "main", path = "OLD/own/declared" }
[[certificate]]
name = "public"
names = ["public.example.org"]
issuer = "public"
store.file = { bundle = "public.pem" }
"#;

/// Without these certd renews as before, and only the doctor tells.
const TOLD_BY_THE_DOCTOR_ALONE: [&str; 12] = [
    "PKI/certs/ list",
    "auth/token/lookup-self read",
    "auth/token/renew-self update",
    "sys/capabilities-self update",
    "PKI/roles/servers read",
    "KV/config read",
    "PKI/certs/revoked/ list",
    "KV/delete/own/declared update",
    "KV/delete/tls/* update",
    "cubbyhole/certd create",
    "cubbyhole/certd update",
    "cubbyhole/certd (all of it)",
];

struct Wheel {
    home: Home,
    _ca: AcmeServer,
    old: String,
    auth: String,
    policy: String,
}

impl Wheel {
    async fn new() -> Self {
        let home = Home::new("").await;
        let admin = &home.house.admin;
        let names = ["old", "approle", "certd"].map(|name| format!("{name}-{}", home.house.kv));
        let [old, auth, policy] = names;
        admin.admin("POST", &format!("sys/mounts/{old}"), json!({ "type": "kv", "options": { "version": "1" } })).await;
        admin.admin("POST", &format!("sys/auth/{auth}"), json!({ "type": "approle" })).await;
        let role = json!({ "token_policies": [policy], "token_no_default_policy": true, "token_ttl": "1h" });
        admin.admin("POST", &format!("auth/{auth}/role/certd"), role).await;
        let role_id = admin.admin("GET", &format!("auth/{auth}/role/certd/role-id"), Value::Null).await;
        let secret_id = admin.admin("POST", &format!("auth/{auth}/role/certd/secret-id"), json!({})).await;
        for (file, text) in [("role-id", &role_id["data"]["role_id"]), ("secret-id", &secret_id["data"]["secret_id"])] {
            std::fs::write(home.path(file), text.as_str().unwrap()).unwrap();
        }
        let ca = AcmeServer::start(Script::default());
        ca.ca_file(&home.path("acme-tls.pem"));
        std::fs::write(home.path("acme-roots.pem"), ca.root_pem()).unwrap();
        let config = CONFIG.replace("DIRECTORY", &ca.directory_url());
        let config = config.replace("LISTEN", &format!("127.0.0.1:{}", free_port()));
        home.configure(&config.replace("OLD", &old).replace("AUTH", &auth));
        Self { home, _ca: ca, old, auth, policy }
    }

    async fn grant(&self, hcl: &str) {
        let path = format!("sys/policies/acl/{}", self.policy);
        self.home.house.admin.admin("PUT", &path, json!({ "policy": hcl })).await;
    }

    /// As an operator gets it: what is printed, once Vault says what kind of mount each is.
    async fn printed(&self) -> String {
        let print = async || {
            let printed = self.home.certd(&["vault", "policy"]).await;
            assert_eq!((printed.code, printed.err.as_str()), (0, ""), "{printed:?}");
            printed.out
        };
        self.grant("path \"none\" { capabilities = [\"read\"] }").await;
        let blind = print().await;
        assert!(blind.contains(&format!("# {} is taken for KV version 2", self.old)), "{blind}");
        self.grant(&blind).await;
        let seeing = print().await;
        assert!(!seeing.contains("is taken for"), "{seeing}");
        self.grant(&seeing).await;
        assert_eq!(print().await, seeing);
        // The first token could not be given back.
        self.alive().await;
        seeing
    }

    /// As it was before certd came.
    async fn set_the_scene(&self) {
        let (home, admin) = (&self.home, &self.home.house.admin);
        let _ = std::fs::remove_dir_all(home.path("state"));
        // What a turn without some right left open would be another instance's now.
        for path in admin.paths_below(&home.house.kv, "certd/pending").await {
            admin.admin("DELETE", &format!("{}/metadata/{path}", home.house.kv), Value::Null).await;
        }
        let _ = std::fs::remove_file(home.path("public.pem"));
        for path in ["own/declared", "tls/among", "tls/adopted", "accounts/public"] {
            admin.admin("DELETE", &format!("{}/metadata/{path}", home.house.kv), Value::Null).await;
        }
        for path in ["seen/web", "teams/a/tls/deep/web", "named"] {
            if home.version(path).await == 0 {
                home.put(path, Leaf::fresh("seen.example.org")).await;
            }
        }
        home.put("tls/adopted", Leaf::due("adopted.example.org")).await;
        admin.admin("DELETE", &format!("{}/own/declared", self.old), Value::Null).await;
        for (path, leaf) in [("tls/web", Leaf::due("web.example.org")), ("seen/a/web", Leaf::fresh("a.example.org"))] {
            admin.admin("POST", &format!("{}/{path}", self.old), home.old.secret(leaf)).await;
        }
    }

    /// All that certd does there; the first thing that is not as it should be.
    async fn turns(&self) -> Result<(), String> {
        self.set_the_scene().await;
        let secret = |path: &str| format!("vault:main:{}/{path}", self.home.house.kv);
        let adopted = secret("tls/adopted");
        let all_six = "6 managed, 6 were due\n";
        self.says(&["renew"], 0, all_six).await?;
        // Once more, upon what is there now.
        for name in ["declared", "among-the-adopted", "old-declared"] {
            self.says(&["renew", name], 0, "renewed").await?;
        }
        self.says(&["check"], 0, "10 ok, 0 warning, 0 critical, 0 unknown").await?;
        for path in [adopted.as_str(), &secret("own/declared")] {
            self.says(&["history", path, "--format", "json"], 0, "\"by\": \"certd\"").await?;
        }
        self.says(&["diff", &format!("{adopted}@1..2")], 0, "").await?;
        self.says(&["rollback", &adopted, "--to", "1"], 0, "").await?;
        match self.alive().await {
            0 => Ok(()),
            tokens => Err(format!("{tokens} tokens were not revoked")),
        }
    }

    async fn says(&self, arguments: &[&str], code: i32, words: &str) -> Result<(), String> {
        let ran = self.home.certd(arguments).await;
        match ran.code == code && ran.out.contains(words) {
            true => Ok(()),
            false => Err(format!("{arguments:?}: {ran:?}")),
        }
    }

    /// Tokens of logins that still live.
    async fn alive(&self) -> usize {
        let (admin, path) = (&self.home.house.admin, format!("sys/leases/lookup/auth/{}/login", self.auth));
        let (_, answer) = admin.call(&admin.root_token, "LIST", &path, Value::Null).await;
        let alive = answer["data"]["keys"].as_array().map_or(0, Vec::len);
        admin.admin("PUT", &format!("sys/leases/revoke-prefix/auth/{}/login", self.auth), Value::Null).await;
        alive
    }

    async fn doctor(&self) -> Ran {
        let ran = self.home.certd(&["vault", "doctor"]).await;
        self.alive().await;
        ran
    }

    /// As the tests write it.
    fn plain(&self, text: &str) -> String {
        text.replace(&self.old, "OLD").replace(&self.home.house.kv, "KV").replace(&self.home.house.ca.mount, "PKI")
    }
}

/// A policy as its rules: each a path and what is granted there.
type Rules = Vec<(String, Vec<String>)>;

fn parsed(hcl: &str) -> Rules {
    let quoted = |line: &str| line.split('"').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>();
    let lines: Vec<&str> = hcl.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let rules = lines.chunks(3).map(|block| match block {
        [path, capabilities, "}"] => (quoted(path).remove(0), quoted(capabilities)),
        other => panic!("{other:?}"),
    });
    rules.collect()
}

fn written(rules: &Rules) -> String {
    let rule =
        |(path, capabilities): &(String, Vec<String>)| format!("path {path:?} {{ capabilities = {capabilities:?} }}\n");
    rules.iter().map(rule).collect()
}

/// The policy without each rule, and without each capability of a rule that has several; named by what is gone.
fn one_less(rules: &Rules) -> Vec<(String, Rules)> {
    let mut all = Vec::new();
    for (nth, (path, capabilities)) in rules.iter().enumerate() {
        for (which, capability) in capabilities.iter().enumerate() {
            let mut fewer = rules.clone();
            fewer[nth].1.remove(which);
            fewer.retain(|(_, capabilities)| !capabilities.is_empty());
            all.push((format!("{path} {capability}"), fewer));
        }
        if capabilities.len() > 1 {
            let mut fewer = rules.clone();
            fewer.remove(nth);
            all.push((format!("{path} (all of it)"), fewer));
        }
    }
    all
}

#[tokio::test]
async fn what_is_printed_is_enough_and_with_anything_less_something_fails_or_is_told() {
    let wheel = Wheel::new().await;
    let printed = wheel.printed().await;
    wheel.turns().await.unwrap();
    let well = wheel.doctor().await;
    assert_eq!(well.code, 1, "{well:?}");
    assert!(well.out.contains(" 1 warning, 0 critical, 0 unknown"), "KV version 1 has no check-and-set: {well:?}");

    let rules = parsed(&printed);
    assert_eq!(rules.len(), printed.matches("path \"").count());
    let mut silent = Vec::new();
    for (gone, fewer) in one_less(&rules) {
        wheel.grant(&written(&fewer)).await;
        let told = wheel.doctor().await;
        assert!(told.code != well.code || told.out != well.out, "the doctor misses nothing without {gone}: {told:?}");
        if wheel.turns().await.is_ok() {
            silent.push(wheel.plain(&gone));
        }
    }
    silent.sort();
    let mut expected = TOLD_BY_THE_DOCTOR_ALONE.map(String::from);
    expected.sort();
    assert_eq!(silent, expected);
}

#[tokio::test]
async fn each_rule_says_for_whom_it_is() {
    let wheel = Wheel::new().await;
    let printed = wheel.plain(&wheel.printed().await);
    let block = "\n# adopt rule apps reads KV/tls/**\n# adopt rule apps renews what it adopted\n\
                 path \"KV/data/tls/*\" {\n  capabilities = [\"read\", \"update\"]\n}\n";
    assert!(printed.contains(block), "{printed}");
    let block = "\n# issuer public has its account kept there\n\
                 path \"KV/data/accounts/public\" {\n  capabilities = [\"create\", \"read\", \"update\"]\n}\n";
    assert!(printed.contains(block), "{printed}");
    assert_eq!(printed.matches("path \"").count(), printed.matches("}\n").count());
    let comments = printed.lines().filter(|line| line.starts_with('#')).count();
    assert!(comments > printed.matches("path \"").count(), "{printed}");
    let mistaken = wheel.home.certd(&["vault", "policy", "--vault", "mian"]).await;
    assert_eq!((mistaken.code, mistaken.err.as_str()), (3, "certd: no such vault: mian \u{2014} did you mean main?\n"));
}
