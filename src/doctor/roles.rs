//! How the roles are set up that certd has certificates signed by.

use std::time::Duration;

use super::finding::{About, Findings};
use crate::cycle::setup::Setup;
use crate::domain::name::IssuerName;
use crate::issuer::vault_pki::VaultPki;
use crate::report::span;
use crate::rights;
use crate::vault::inspect::PkiRole;
use crate::vault::{Vault, VaultError};

/// What is asked of one issuer by certificates and rules.
#[derive(Default)]
struct Orders {
    /// Of those that are asked for without a common name, the first, and whether a rule adopts some.
    nameless: Option<String>,
    has_rules: bool,
    /// With who wants it.
    longest: Option<(Duration, String)>,
}

pub(super) async fn examine(setup: &Setup, vault: &Vault, findings: &mut Findings) {
    for (name, pki) in rights::issuers(setup, &vault.name) {
        match vault.pki_role(&pki.mount, &pki.role).await {
            Ok(Some(role)) => {
                let mount = vault.mount_of(&pki.mount).await.ok().map_or(0, |mount| mount.max_lease_ttl);
                let longest = if role.max_ttl > 0 { role.max_ttl } else { mount };
                let place = format!("role {} of {}", pki.role, pki.mount);
                judge(&place, &role, longest, &Orders::of(setup, name), findings);
            }
            Ok(None) => {
                let what = format!("{} has no role {}, which issuer {name} names", pki.mount, pki.role);
                findings.critical(About::Role, what, "make the role, or name another in the configuration");
            }
            Err(error) => unreadable(name, pki, &error, findings),
        }
    }
}

fn unreadable(name: &IssuerName, pki: &VaultPki, error: &VaultError, findings: &mut Findings) {
    let VaultPki { mount, role, .. } = pki;
    let what = format!("could not read role {role} of {mount}, which issuer {name} names: {error}");
    let advice = match error {
        VaultError::Denied { .. } => {
            format!(r#"add to its policy: path "{mount}/roles/{role}" {{ capabilities = ["read"] }}"#)
        }
        _ => "check the mount that the issuer names".to_string(),
    };
    findings.unknown(About::Role, what, advice);
}

/// `longest` in seconds, 0 where it is not known.
fn judge(place: &str, role: &PkiRole, longest: u64, orders: &Orders, findings: &mut Findings) {
    let before = findings.all.len();
    if role.generate_lease {
        let what = format!("{place} ties certificates to the life of certd's token, so certd has it sign nothing");
        findings.critical(About::Role, what, "set generate_lease=false on it");
    }
    if role.no_store {
        let what = format!("{place} keeps nothing of what it signs, so a certificate whose answer is lost stays lost");
        findings.warning(About::Role, what, "set no_store=false on it");
    }
    if role.require_cn {
        requires_names(place, orders, findings);
    }
    if let Some((wanted, who)) = &orders.longest {
        let granted = Duration::from_secs(longest);
        if longest > 0 && granted < *wanted {
            let what = format!("{place} signs for {} at most, and {who} wants {}", span(granted), span(*wanted));
            let advice = "raise max_ttl of the role or its mount, or lower the lifetime in the configuration";
            // certd refuses what lives for less than half of what was asked for.
            match granted * 2 < *wanted {
                true => findings.critical(About::Role, what, advice),
                false => findings.warning(About::Role, what, advice),
            }
        }
    }
    if findings.all.len() == before {
        findings.ok(About::Role, format!("{place} leases nothing, and signs all that is asked for long enough"));
    }
}

fn requires_names(place: &str, orders: &Orders, findings: &mut Findings) {
    let advice = "set require_cn=false on it, or common_name in the certificate";
    if let Some(who) = &orders.nameless {
        let what = format!("{place} signs nothing without a common name, and {who} has none");
        findings.critical(About::Role, what, advice);
    } else if orders.has_rules {
        let what = format!("{place} signs nothing without a common name, which what is adopted may lack");
        findings.warning(About::Role, what, advice);
    }
}

impl Orders {
    fn of(setup: &Setup, issuer: &IssuerName) -> Self {
        let mut orders = Self::default();
        for managed in setup.declared.iter().filter(|managed| managed.issuers.contains(issuer)) {
            let who = format!("certificate {}", managed.name);
            if managed.spec.common_name.is_none() {
                orders.nameless.get_or_insert_with(|| who.clone());
            }
            orders.wants(managed.spec.lifetime, who);
        }
        for rule in setup.adopted.iter().map(|adopted| &adopted.rule).filter(|rule| rule.issuers.contains(issuer)) {
            orders.has_rules = true;
            orders.wants(rule.lifetime, format!("adopt rule {}", rule.name));
        }
        orders
    }

    fn wants(&mut self, lifetime: Option<Duration>, who: String) {
        if let Some(lifetime) = lifetime.filter(|wanted| self.longest.as_ref().is_none_or(|(most, _)| most < wanted)) {
            self.longest = Some((lifetime, who));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::State;

    const DAY: u64 = 86_400;

    fn states(role: PkiRole, longest: u64, orders: &Orders) -> Vec<State> {
        let mut findings = Findings::new(&"main".into());
        judge("role a of b", &role, longest, orders, &mut findings);
        findings.all.into_iter().map(|finding| finding.state).collect()
    }

    #[test]
    fn a_role_is_judged_by_what_is_asked_of_it() {
        let sound = PkiRole { generate_lease: false, no_store: false, require_cn: false, max_ttl: 0 };
        let wants = |days: u64| Orders {
            longest: Some((Duration::from_secs(days * DAY), "certificate a".to_string())),
            ..Orders::default()
        };
        assert_eq!(states(sound.clone(), 0, &wants(90)), [State::Ok]);
        assert_eq!(states(sound.clone(), 90 * DAY, &wants(90)), [State::Ok]);
        assert_eq!(states(sound.clone(), 90 * DAY - 1, &wants(90)), [State::Warning]);
        assert_eq!(states(sound.clone(), 45 * DAY, &wants(90)), [State::Warning]);
        assert_eq!(states(sound.clone(), 45 * DAY - 1, &wants(90)), [State::Critical]);
        let leasing = PkiRole { generate_lease: true, no_store: true, ..sound.clone() };
        assert_eq!(states(leasing, 0, &Orders::default()), [State::Critical, State::Warning]);
        let naming = PkiRole { require_cn: true, ..sound };
        assert_eq!(states(naming.clone(), 0, &Orders::default()), [State::Ok]);
        assert_eq!(states(naming.clone(), 0, &Orders { has_rules: true, ..Orders::default() }), [State::Warning]);
        let nameless = Orders { nameless: Some("certificate a".to_string()), has_rules: true, ..Orders::default() };
        assert_eq!(states(naming, 0, &nameless), [State::Critical]);
    }
}
