//! How the key-value stores are set up that certd looks at.

use super::finding::{About, Findings};
use crate::cycle::setup::Setup;
use crate::rights;
use crate::rights::mounts::Mounts;
use crate::vault::inspect::KvConfig;
use crate::vault::{Mount, Vault, VaultError};

/// With fewer, the second write after a mistake loses what was there before it.
const FEWEST_VERSIONS: u64 = 3;

pub(super) async fn examine(setup: &Setup, vault: &Vault, mounts: &Mounts, findings: &mut Findings) {
    for (mount, why) in mounts.assumed() {
        let what = format!("{mount}: what kind of mount it is could not be learned: {why}");
        let advice = "KV version 2 is assumed: grant what that needs, then look again";
        findings.unknown(About::Mount, what, advice);
    }
    let written = rights::written(setup, &vault.name);
    for mount in mounts.known() {
        let is_written = written.iter().any(|path| mounts.place(path).mount == mount.path);
        match (mount.kind.as_str(), mount.version) {
            ("kv", 2) => versioned(vault, mount, is_written, findings).await,
            ("kv" | "generic", 1) => unversioned(mount, is_written, findings),
            (kind, version) => {
                let what = format!("{} is no key-value store: it is {kind} version {version}", mount.path);
                findings.critical(About::Mount, what, "name a path in a key-value store");
            }
        }
    }
}

fn unversioned(mount: &Mount, is_written: bool, findings: &mut Findings) {
    let what = format!("{} is KV version 1", mount.path);
    match is_written {
        false => findings.ok(About::Mount, what),
        true => {
            let what = format!(
                "{what}: what somebody else writes in the moment of a renewal is lost, and so is what was there"
            );
            findings.warning(About::Mount, what, format!("upgrade it: kv enable-versioning {}", mount.path));
        }
    }
}

async fn versioned(vault: &Vault, mount: &Mount, is_written: bool, findings: &mut Findings) {
    match vault.kv_config(&mount.path).await {
        Ok(config) => judge(&mount.path, &config, is_written, findings),
        Err(error) => {
            let what = format!("{}: could not read how it keeps versions: {error}", mount.path);
            let advice = match error {
                VaultError::Denied { .. } => {
                    format!(r#"add to its policy: path "{}/config" {{ capabilities = ["read"] }}"#, mount.path)
                }
                _ => "look again".to_string(),
            };
            findings.unknown(About::Mount, what, advice);
        }
    }
}

fn judge(mount: &str, config: &KvConfig, is_written: bool, findings: &mut Findings) {
    let KvConfig { cas_required, max_versions, delete_version_after } = config;
    let before = findings.all.len();
    if delete_version_after != "0s" {
        let what = format!("{mount} deletes each version {delete_version_after} after it was written, the newest too");
        let advice = format!("turn it off: kv config or {mount}/config with delete_version_after=0s");
        match is_written {
            true => findings.critical(About::Mount, what, advice),
            false => findings.warning(About::Mount, what, advice),
        }
    }
    if is_written && (1..FEWEST_VERSIONS).contains(max_versions) {
        let what = format!("{mount} keeps {max_versions} version(s), too few to go back to");
        findings.warning(
            About::Mount,
            what,
            format!("raise max_versions of {mount}/config to at least {FEWEST_VERSIONS}"),
        );
    }
    if findings.all.len() == before {
        let cas = if *cas_required { ", and demands check-and-set, which certd always does" } else { "" };
        let versions = if *max_versions == 0 {
            "as many versions as Vault's default".to_string()
        } else {
            format!("{max_versions} versions")
        };
        findings.ok(About::Mount, format!("{mount} is KV version 2, keeps {versions}{cas}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::State;

    fn lines(config: KvConfig, is_written: bool) -> Vec<(State, String)> {
        let mut findings = Findings::new(&"main".into());
        judge("kv", &config, is_written, &mut findings);
        findings.all.into_iter().map(|finding| (finding.state, finding.what)).collect()
    }

    #[test]
    fn a_mount_that_loses_versions_is_told_where_certd_writes() {
        let sound = KvConfig { cas_required: false, max_versions: 0, delete_version_after: "0s".to_string() };
        let states = |config: KvConfig| [true, false].map(|is_written| lines(config.clone(), is_written)[0].0);
        let ok = "kv is KV version 2, keeps as many versions as Vault's default";
        assert_eq!(lines(sound.clone(), true), [(State::Ok, ok.to_string())]);
        let strict = KvConfig { cas_required: true, max_versions: 3, ..sound.clone() };
        let ok = "kv is KV version 2, keeps 3 versions, and demands check-and-set, which certd always does";
        assert_eq!(lines(strict, true), [(State::Ok, ok.to_string())]);
        assert_eq!(states(KvConfig { max_versions: 2, ..sound.clone() }), [State::Warning, State::Ok]);
        let fleeting = KvConfig { delete_version_after: "720h0m0s".to_string(), ..sound };
        assert_eq!(states(fleeting), [State::Critical, State::Warning]);
    }
}
