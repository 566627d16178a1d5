//! Who else may read or write the pending keys of a configuration, as far as certd's token can see.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{About, Findings};
use crate::cycle::setup::Setup;
use crate::rights::mounts::Mounts;
use crate::rights::pattern::Pattern;
use crate::rights::{self, Need};
use crate::staging::vault_kv::{FOLDER, folder};
use crate::vault::inspect::Capability::{self, Create, Delete, List, Patch, Read, Sudo, Update};
use crate::vault::{Vault, VaultError};

const TOUCHES: [Capability; 7] = [Create, Read, Update, Patch, Delete, List, Sudo];

pub(super) async fn examine(
    setup: &Setup,
    vault: &Vault,
    mounts: &Mounts,
    needs: &[Need],
    own: &BTreeSet<String>,
    findings: &mut Findings,
) {
    let written = rights::written(setup, &vault.name);
    let keeps = |mount: &str| written.iter().any(|path| mounts.place(path).mount == mount);
    let mounts: Vec<&str> = mounts
        .known()
        .filter(|mount| mount.kind == "kv" && mount.version == 2 && keeps(&mount.path))
        .map(|mount| mount.path.as_str())
        .collect();
    for mount in &mounts {
        neighbours(vault, mount, findings).await;
    }
    if !mounts.is_empty() {
        policies(vault, needs, own, findings).await;
    }
}

/// What else lies where pending keys are kept. To list it is no right that certd needs.
async fn neighbours(vault: &Vault, mount: &str, findings: &mut Findings) {
    let place = format!("{mount}/{FOLDER}");
    let names = match vault.kv_list(&place).await {
        Ok(names) => names,
        Err(VaultError::Denied { .. }) => return,
        Err(error) => return findings.unknown(About::Rights, format!("could not list {place}: {error}"), "look again"),
    };
    let own = format!("{}/", vault.staging_group());
    let (groups, older): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.ends_with('/'));
    let others: Vec<&str> =
        groups.into_iter().filter(|name| **name != own).map(|name| name.trim_end_matches('/')).collect();
    if !others.is_empty() {
        let what = format!("{place} holds pending keys of other groups, too: {}", others.join(", "));
        findings.ok(About::Rights, what);
    }
    if !older.is_empty() {
        let what = format!("{place} holds {} records of an older certd, which sealed no pending keys", older.len());
        let advice = format!("once no older certd runs, remove each: bao kv metadata delete {place}/{}", older[0]);
        findings.warning(About::Rights, what, advice);
    }
}

/// Policies other than the token's own that open the pending keys of this configuration.
async fn policies(vault: &Vault, needs: &[Need], own: &BTreeSet<String>, findings: &mut Findings) {
    let pending = format!("/data/{FOLDER}/{}/", vault.staging_group());
    let places: BTreeSet<&Pattern> =
        needs.iter().map(|need| &need.pattern).filter(|pattern| pattern.as_str().contains(&pending)).collect();
    let all = match vault.policies().await {
        Ok(all) => all,
        Err(VaultError::Denied { .. }) => {
            let group = folder("MOUNT", vault.staging_group());
            let what =
                format!("which other policies open {group} is not visible to this token; what is kept there is sealed");
            return findings.ok(About::Rights, what);
        }
        Err(error) => {
            return findings.unknown(About::Rights, format!("could not read the policies: {error}"), "look again");
        }
    };
    for (name, text) in all.iter().filter(|(name, _)| !own.contains(*name)) {
        let touching = opened(text, &places);
        if let Some((path, _)) = touching.first_key_value() {
            let granted: BTreeSet<Capability> = touching.values().flatten().copied().collect();
            let granted: Vec<&str> = granted.into_iter().map(Capability::as_str).collect();
            let what =
                format!("policy {name} opens pending keys of this configuration by {path}: {}", granted.join(", "));
            let advice =
                "narrow it, unless those who have it may know and replace these keys; what they read is sealed";
            findings.warning(About::Rights, what, advice);
        }
    }
}

/// Rules of a policy that reach one of these places, with what they grant of importance.
fn opened(policy: &str, places: &BTreeSet<&Pattern>) -> BTreeMap<String, BTreeSet<Capability>> {
    let mut opened = BTreeMap::new();
    for (path, granted) in rules(policy) {
        let pattern = Pattern::new(path.as_str());
        let granted: BTreeSet<Capability> = granted.into_iter().filter(|it| TOUCHES.contains(it)).collect();
        if !granted.is_empty() && places.iter().any(|place| place.meets(&pattern)) {
            opened.insert(path, granted);
        }
    }
    opened
}

/// The rules of a policy in HCL, comments aside. Anything else in it is passed over.
fn rules(policy: &str) -> Vec<(String, BTreeSet<Capability>)> {
    let lines = policy.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
    let text = lines.collect::<Vec<_>>().join("\n");
    let blocks = text.split('}').filter_map(|block| {
        let (head, body) = block.split_once('{')?;
        let path = head.trim().strip_prefix("path")?.trim().trim_matches('"').to_string();
        let listed = body.split_once("capabilities")?.1.split_once('[')?.1.split(']').next()?;
        let words = listed.split(',').map(|word| word.trim().trim_matches('"'));
        let named = |word: &str| TOUCHES.into_iter().find(|capability| capability.as_str() == word);
        Some((path, words.filter_map(named).collect()))
    });
    blocks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_reaches_a_pending_key_is_told_with_what_it_grants() {
        let place = Pattern::new("kv/data/certd/pending/prod/tls/*");
        let places = BTreeSet::from([&place]);
        let policy = "# path \"kv/*\" { capabilities = [\"sudo\"] }\n\
                      path \"kv/data/*\" {\n  capabilities = [\"read\", \"update\"]\n}\n\
                      path \"kv/data/certd/pending/dev/*\" { capabilities = [\"read\"] }\n\
                      path \"kv/data/certd/pending/+/tls/web/+\" { capabilities = [\"deny\"] }\n";
        let expected = BTreeMap::from([("kv/data/*".to_string(), BTreeSet::from([Read, Update]))]);
        assert_eq!(opened(policy, &places), expected);
        assert_eq!(opened("no policy {", &places), BTreeMap::new());
    }
}
