//! What certd believes of Vault's policies, asked of a real server.

mod house;
mod support;

use std::collections::BTreeSet;

use certd::rights::pattern::Pattern;
use certd::rights::policy::{hcl, least};
use certd::rights::{Need, Weight, needed};
use certd::vault::inspect::Capability::{self, Create, List, Patch, Read, Update};
use house::client;
use support::vault::{Vault, server};

/// Ways to write rules that share paths with others of them.
const PATTERNS: [&str; 16] = [
    "kv/*",
    "kv/data/*",
    "kv/data/t*",
    "kv/data/tls/*",
    "kv/data/tls/w*",
    "kv/data/tls/+",
    "kv/data/tls/web",
    "kv/data/tls/web/",
    "kv/data/tls/web/*",
    "kv/data/+",
    "kv/data/+/web",
    "kv/data/+/*",
    "kv/data/+/w*",
    "kv/data/+/+",
    "kv/+/tls/web",
    "kv/+/+/*",
];

/// Each pattern above stands for some of them.
const PATHS: [&str; 8] = [
    "kv/data/tls",
    "kv/data/tls/",
    "kv/data/tls/web",
    "kv/data/tls/web/",
    "kv/data/tls/web/deep",
    "kv/data/tls/api",
    "kv/data/a/web",
    "kv/metadata/tls/web",
];

fn paths() -> BTreeSet<String> {
    PATHS.map(String::from).into()
}

/// What the server grants at each path to a token of this policy.
async fn granted(admin: &Vault, policy: &str) -> Vec<(String, BTreeSet<Capability>)> {
    let vault = client(&admin.address, &admin.token(policy).await);
    vault.capabilities(&paths()).await.unwrap().into_iter().collect()
}

fn rule(pattern: &str, capability: Capability) -> String {
    format!("path \"{pattern}\" {{ capabilities = [\"{capability}\"] }}\n")
}

#[tokio::test]
async fn a_pattern_stands_for_just_the_paths_that_vault_says() {
    let admin = server().await;
    for text in PATTERNS {
        let pattern = Pattern::new(text);
        for (path, granted) in granted(&admin, &rule(text, Read)).await {
            // A rule for a path stands for the folder of that name, too, which is listed by its slash.
            let expected = pattern.matches(&path) || pattern.matches(path.trim_end_matches('/'));
            assert_eq!(granted.contains(&Read), expected, "{text} {path}");
        }
    }
}

#[tokio::test]
async fn of_two_rules_for_a_path_vault_goes_by_the_one_of_the_higher_rank() {
    let admin = server().await;
    let mut pairs = 0;
    for (nth, one) in PATTERNS.iter().enumerate() {
        for other in &PATTERNS[nth + 1..] {
            let (a, b) = (Pattern::new(*one), Pattern::new(*other));
            let policy = rule(one, Read) + &rule(other, Update);
            for (path, granted) in granted(&admin, &policy).await {
                if a.matches(&path) && b.matches(&path) {
                    let higher = if a.rank() > b.rank() { Read } else { Update };
                    assert_eq!(granted, BTreeSet::from([higher]), "{one} {other} {path}");
                    assert!(a.meets(&b), "{one} {other}");
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs > 100, "{pairs}");
}

#[tokio::test]
async fn the_least_policy_grants_all_that_is_needed_however_rules_cross() {
    let admin = server().await;
    for seed in 0..60_usize {
        // Every needs of its own, and the same in each run.
        let pick = |nth: usize| PATTERNS[(seed * 7 + nth * nth * 5 + nth) % PATTERNS.len()];
        let needs: Vec<Need> = [Create, Read, Update, Patch, List]
            .into_iter()
            .enumerate()
            .map(|(nth, capability)| Need {
                pattern: Pattern::new(pick(nth + seed % 3)),
                capabilities: BTreeSet::from([capability]),
                weight: Weight::Required,
                why: "it was picked".to_string(),
            })
            .collect();
        let rules = least(&needs);
        for (path, granted) in granted(&admin, &hcl(&rules)).await {
            let mut needed = needed(&needs, &path);
            // The path of a folder is listed, and nothing else is done with it.
            needed.retain(|capability| !path.ends_with('/') || *capability == List);
            assert!(needed.is_subset(&granted), "{path}: {needed:?} of {granted:?}\n{}", hcl(&rules));
        }
    }
}

#[tokio::test]
async fn thousands_of_paths_are_asked_in_several_requests() {
    let admin = server().await;
    let token = admin.token(&rule("kv/data/tls/*", Read)).await;
    let vault = client(&admin.address, &token);
    let paths: BTreeSet<String> = (0..2_001).map(|n| format!("kv/data/tls/{n}")).collect();
    let granted = vault.capabilities(&paths).await.unwrap();
    assert_eq!(granted.len(), 2_001);
    assert!(granted.values().all(|granted| *granted == BTreeSet::from([Read])));
    assert_eq!(vault.status().requests, [("capabilities", 200, 9)]);
}
