//! A renewal over a network that fails once, at each request that it makes: nothing is lost, the CA signs once, and when
//! the network is well again all is as it should be.
//!
//! Which requests there are is what a renewal makes that nobody spoils. `CERTD_TEST_MATRIX=full` spoils each in every way;
//! otherwise each is spoilt in some.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::home::{ADOPT, Home, config_with_head, declared, rows};
use crate::leaves::Leaf;
use crate::support::fault_proxy::{Fault, FaultProxy, Spot};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// Declared, and nothing is there; by a token.
    Missing,
    /// Found by a listing, adopted and due; by an AppRole.
    Due,
    /// The CA's answer was lost in a run before, and this one looks for what it has signed.
    Recovering,
}

const STORIES: [Story; 3] = [Story::Missing, Story::Due, Story::Recovering];

/// What must be among them, in whatever story.
const AT_LEAST: [(Story, &str, usize); 12] = [
    (Story::Missing, "POST /v1/PKI/sign/servers", 1),
    (Story::Missing, "GET /v1/PKI/cert/", 1),
    (Story::Missing, "POST /v1/KV/data/tls/web", 1),
    (Story::Due, "POST /v1/auth/APPROLE/login", 1),
    (Story::Due, "LIST /v1/KV/metadata/tls/", 1),
    // Before, to see whether it is the same still, upon the write, and read back.
    (Story::Due, "GET /v1/KV/data/tls/web", 4),
    (Story::Due, "POST /v1/KV/data/certd/pending/", 3),
    (Story::Due, "GET /v1/KV/data/certd/pending/", 2),
    (Story::Due, "PATCH /v1/KV/metadata/tls/web", 1),
    (Story::Due, "PUT /v1/KV/destroy/certd/pending/", 1),
    (Story::Recovering, "LIST /v1/PKI/certs", 1),
    (Story::Recovering, "GET /v1/KV/data/certd/pending/", 1),
];

/// A sample takes one of so many cases; with nine faults each request is among them.
const ONE_IN: usize = 9;

/// How often one looks for what a CA has signed is a matter of time.
const MOST_OF_A_KIND: usize = 8;

const AT_ONCE: usize = 6;

/// Far over all deadlines of a renewal together.
const ENDS_WITHIN: Duration = Duration::from_secs(18);

struct Scene {
    home: Home,
    story: Story,
    config: String,
    approle: String,
}

impl Scene {
    async fn new(story: Story) -> Self {
        let home = Home::new("").await;
        let approle = format!("approle-{}", home.house.kv);
        let tables = if story == Story::Due { ADOPT.to_string() } else { declared("web") };
        let mut config = config_with_head(&tables).replace("deadline = \"5s\"", "deadline = \"1s\"");
        if story == Story::Due {
            home.put("tls/web", Leaf::due("web.example.org")).await;
            let by = format!(
                "auth.approle = {{ role_id_file = \"role-id\", secret_id_file = \"secret-id\", mount = \"{approle}\" }}"
            );
            config = config.replace("token_file = \"token\"", &by);
        }
        let scene = Self { home, story, config, approle };
        scene.make_approle().await;
        if story == Story::Recovering {
            scene.lose_what_the_ca_says().await;
        }
        scene
    }

    /// It may do in the two mounts whatever certd does there.
    async fn make_approle(&self) {
        let (admin, role) = (&self.home.house.admin, format!("auth/{}/role/certd", self.approle));
        let all = r#"{ capabilities = ["create", "read", "update", "delete", "list", "patch"] }"#;
        let policy = format!("path \"{}/*\" {all}\npath \"{}/*\" {all}", self.home.house.kv, self.home.house.ca.mount);
        admin.admin("PUT", &format!("sys/policies/acl/{}", self.approle), json!({ "policy": policy })).await;
        admin.admin("POST", &format!("sys/auth/{}", self.approle), json!({ "type": "approle" })).await;
        admin.admin("POST", &role, json!({ "token_policies": [self.approle], "token_ttl": "1h" })).await;
        let role_id = admin.admin("GET", &format!("{role}/role-id"), Value::Null).await;
        let secret_id = admin.admin("POST", &format!("{role}/secret-id"), json!({})).await;
        for (file, id) in [("role-id", &role_id["data"]["role_id"]), ("secret-id", &secret_id["data"]["secret_id"])] {
            std::fs::write(self.home.path(file), id.as_str().unwrap()).unwrap();
        }
    }

    async fn lose_what_the_ca_says(&self) {
        let sign = Spot { beginning: format!("POST /v1/{}/sign", self.home.house.ca.mount), nth: 1 };
        let proxy = self.renewed(vec![(sign, Fault::Lose)]).await.unwrap();
        assert!(proxy.was_met());
        assert_eq!((self.home.version("tls/web").await, self.home.signed().await), (0, 1));
    }

    /// Once, by a way that is spoilt so.
    async fn renewed(&self, rules: Vec<(Spot, Fault)>) -> Result<FaultProxy, String> {
        let proxy = FaultProxy::new(&self.home.house.admin.address, rules);
        self.home.configure_by(&proxy.address, &self.config);
        let begun = Instant::now();
        let ran = self.home.certd(&["renew"]).await;
        if begun.elapsed() > ENDS_WITHIN {
            return Err(format!("it took {:?}", begun.elapsed()));
        }
        if [&ran.out, &ran.err].iter().any(|text| text.contains("panicked")) {
            return Err(format!("it panics: {ran:?}"));
        }
        if ran.code != 0 && ran.out.trim().is_empty() && ran.err.trim().is_empty() {
            return Err("it fails and says nothing".to_string());
        }
        Ok(proxy)
    }

    /// By the straight way again, with so many signatures at most.
    async fn converges(&self, most: usize) -> Result<(), String> {
        self.home.configure(&self.config.replace("deadline = \"1s\"", "deadline = \"10s\""));
        let second = self.home.certd(&["renew"]).await;
        let (name, versions) = if self.story == Story::Due { ("tls/web", 2) } else { ("web", 1) };
        let plan = self.home.plan().await;
        if plan != rows(&[(name, "keep")]) {
            return Err(format!("it does not converge: {plan:?} {second:?}"));
        }
        match (self.home.version("tls/web").await, self.home.signed().await, self.staged().await) {
            (version, signed, 0) if version == versions && (1..=most).contains(&signed) => Ok(()),
            counts => Err(format!("versions, signed, keys that are still staged: {counts:?}: {second:?}")),
        }
    }

    /// Versions of staging records that can still be read.
    async fn staged(&self) -> usize {
        self.home.staged().await
    }

    /// As it is in every scene: without the names of this one's mounts, and without what follows a path.
    fn kind(&self, request: &str) -> String {
        let path = request.split('?').next().unwrap();
        // What follows is the number of a certificate, of an issuer or of a renewal, and another one each time.
        let before_a_number = ["/pending/", "/PKI/issuer/", "/PKI/cert/"];
        let names = [(&self.approle, "APPROLE"), (&self.home.house.kv, "KV"), (&self.home.house.ca.mount, "PKI")];
        let path = names.iter().fold(path.to_string(), |text, (name, word)| text.replace(name.as_str(), word));
        let cut = before_a_number.iter().find_map(|before| Some(path.find(before)? + before.len()));
        path[..cut.unwrap_or(path.len())].to_string()
    }

    fn spot(&self, kind: &str, nth: usize) -> Spot {
        let names = [("APPROLE", &self.approle), ("KV", &self.home.house.kv), ("PKI", &self.home.house.ca.mount)];
        let beginning = names.iter().fold(kind.to_string(), |text, (word, name)| text.replace(word, name));
        Spot { beginning, nth }
    }
}

/// Each request of a renewal that nobody spoils: its kind, and the how many-eth of its kind it is.
async fn requests(story: Story) -> Vec<(String, usize)> {
    let scene = Scene::new(story).await;
    let proxy = scene.renewed(Vec::new()).await.unwrap();
    assert_eq!(scene.converges(1).await, Ok(()), "{story:?}");
    let all: Vec<String> = proxy.requests().iter().map(|request| scene.kind(request)).collect();
    let mut kinds = all.clone();
    kinds.sort();
    kinds.dedup();
    let times = |kind: &String| all.iter().filter(|other| other.starts_with(kind.as_str())).count();
    // Certificates of a register are read side by side until one is found: how many that are is chance.
    let most = |kind: &String| if kind == "GET /v1/PKI/cert/" { 1 } else { MOST_OF_A_KIND };
    kinds.into_iter().flat_map(|kind| (1..=times(&kind).min(most(&kind))).map(move |nth| (kind.clone(), nth))).collect()
}

/// Whether the request came.
async fn spoilt(story: Story, kind: &str, nth: usize, fault: Fault) -> Result<bool, String> {
    let scene = Scene::new(story).await;
    let proxy = scene.renewed(vec![(scene.spot(kind, nth), fault)]).await?;
    // Another request's answer may be a refusal in Vault's own words: whoever forges one is believed, and asked again.
    let is_forged = fault == Fault::Swap && kind.contains("/sign/");
    scene.converges(if is_forged { 2 } else { 1 }).await?;
    Ok(proxy.was_met())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_request_the_network_spoils_the_ca_signs_once_and_it_is_stored() {
    let mut spots = Vec::new();
    for story in STORIES {
        spots.extend(requests(story).await.into_iter().map(|(kind, nth)| (story, kind, nth)));
    }
    let missed: Vec<_> = AT_LEAST
        .iter()
        .filter(|(story, kind, nth)| !spots.iter().any(|spot| spot.0 == *story && spot.1 == *kind && spot.2 == *nth))
        .collect();
    assert!(missed.is_empty(), "a renewal makes no such requests: {missed:?}, but {spots:?}");
    let is_full = std::env::var("CERTD_TEST_MATRIX").is_ok_and(|which| which == "full");
    let cases = spots.iter().enumerate().flat_map(|(at, spot)| {
        let chosen = move |nth: usize| is_full || (at + nth).is_multiple_of(ONE_IN);
        let faults = Fault::ALL.into_iter().enumerate().filter(move |(nth, _)| chosen(*nth));
        faults.map(move |(_, fault)| (spot.clone(), fault))
    });
    let run = async |((story, kind, nth), fault): ((Story, String, usize), Fault)| {
        let ended = spoilt(story, &kind, nth, fault).await;
        ((story, kind, nth), fault, ended)
    };
    let ended: Vec<_> = stream::iter(cases).map(run).buffer_unordered(AT_ONCE).collect().await;
    for spot in &spots {
        let words = ended.iter().filter(|(of, _, _)| of == spot).map(|(_, fault, ended)| match ended {
            Ok(true) => format!("{fault:?} ok"),
            Ok(false) => format!("{fault:?} not met"),
            Err(_) => format!("{fault:?} FAILED"),
        });
        println!("{:10?} {:40} {} {}", spot.0, spot.1, spot.2, words.collect::<Vec<_>>().join(", "));
    }
    println!("{} requests, {} cases", spots.len(), ended.len());
    let failed: Vec<String> = ended
        .iter()
        .filter_map(|(spot, fault, ended)| Some(format!("{spot:?} {fault:?}: {}", ended.as_ref().err()?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let unmet: Vec<_> = ended.iter().filter(|(_, _, ended)| *ended == Ok(false)).map(|it| (&it.0, it.1)).collect();
    assert!(unmet.is_empty(), "requests that were not made again: {unmet:?}");
}
