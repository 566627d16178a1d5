//! What kind of token certd has, and for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use super::finding::{About, Findings};
use super::grants::Grants;
use crate::domain::inventory::ObstacleKind;
use crate::report::span;
use crate::vault::inspect::TokenFacts;
use crate::vault::{LOGINS_APART, Vault, VaultError};

/// Whoever keeps a token alive renews it long before so small a part of its life is left.
const NEAR_ITS_END: u64 = 10;

pub(super) enum Token {
    Known(TokenFacts),
    /// It may not look at itself, or it has ended: Vault says the same of both.
    Hidden,
    /// There is none, or no way to ask with it.
    Unusable(VaultError),
}

impl Token {
    pub async fn look(vault: &Vault) -> Self {
        match vault.token_facts().await {
            Ok(facts) => Self::Known(facts),
            Err(VaultError::Denied { .. }) => Self::Hidden,
            Err(error) => Self::Unusable(error),
        }
    }

    /// The policies that it has, its entity's among them; none where it may not look at itself.
    pub fn policies(&self) -> BTreeSet<String> {
        match self {
            Self::Known(facts) => {
                facts.policies.iter().chain(facts.identity_policies.iter().flatten()).cloned().collect()
            }
            Self::Hidden | Self::Unusable(_) => BTreeSet::new(),
        }
    }

    pub fn is_usable(&self) -> bool {
        !matches!(self, Self::Unusable(_))
    }

    /// Vault denies it all that a token may do with no policy at all.
    pub fn is_refused(&self, grants: &Grants) -> bool {
        matches!((self, &grants.refused), (Self::Hidden, Some(VaultError::Denied { .. })))
    }

    pub fn judge(&self, vault: &Vault, grants: &Grants, findings: &mut Findings) {
        match self {
            Self::Unusable(error) => {
                let obstacle = error.obstacle("look up the token");
                let advice = "mend the way in: token_file or auth of this vault, and the files that it names";
                match obstacle.obstacle == ObstacleKind::Denied {
                    true => findings.critical(About::Token, obstacle.message, advice),
                    false => findings.unknown(About::Token, obstacle.message, advice),
                }
            }
            Self::Hidden if self.is_refused(grants) => {
                let what = "Vault refuses the token: it has ended, is of another Vault or namespace, or may do nothing";
                let advice = "give certd one that lives, with the policy that `certd vault policy` prints";
                findings.critical(About::Token, what, advice);
            }
            Self::Hidden => {
                let advice = r#"let it look: path "auth/token/lookup-self" { capabilities = ["read"] }"#;
                findings.unknown(About::Token, "the token may not look at itself, so its end is not known", advice);
            }
            Self::Known(facts) => judge(facts, vault.logs_in(), findings),
        }
    }
}

fn judge(facts: &TokenFacts, logs_in: bool, findings: &mut Findings) {
    findings.ok(About::Token, description(facts, logs_in));
    if policies(facts).contains("root") {
        let advice = "give certd a token with the policy that `certd vault policy` prints, and revoke this one";
        findings.critical(About::Token, "it is a root token: whoever gets hold of it owns this Vault", advice);
    }
    if facts.num_uses > 0 {
        let advice = "give certd one that may be used any number of times";
        findings.warning(About::Token, format!("it ends after {} more requests", facts.num_uses), advice);
    }
    match logs_in {
        true => judge_own(facts, findings),
        false => judge_given(facts, findings),
    }
}

fn judge_own(facts: &TokenFacts, findings: &mut Findings) {
    if facts.expire_time.is_some() && facts.creation_ttl <= LOGINS_APART.as_secs() {
        let what = format!("a token of a login lives {}, and certd logs in no more often", seconds(facts.creation_ttl));
        findings.warning(About::Token, what, "give its role a longer token_ttl, such as 1h");
    }
}

/// Of a file: somebody else keeps it alive.
fn judge_given(facts: &TokenFacts, findings: &mut Findings) {
    if facts.expire_time.is_some() && facts.ttl <= facts.creation_ttl / NEAR_ITS_END {
        let what = format!("it ends in {}, and nobody has renewed it", seconds(facts.ttl));
        let advice = "renew it by whatever writes token_file (an agent), or let certd log in: auth";
        findings.warning(About::Token, what, advice);
    }
    if !facts.orphan {
        let what = "it is the child of another token, and ends with that";
        let advice = "make it an orphan (token create -orphan), or let certd log in: auth";
        findings.warning(About::Token, what, advice);
    }
}

fn description(facts: &TokenFacts, logs_in: bool) -> String {
    let policies = policies(facts).into_iter().collect::<Vec<_>>().join(", ");
    let end = match facts.expire_time {
        Some(_) => format!("ends in {}", seconds(facts.ttl)),
        None => "never ends".to_string(),
    };
    let renewal = match (facts.renewable, facts.period) {
        (false, _) if facts.expire_time.is_none() => String::new(),
        (false, _) => ", not renewable".to_string(),
        (true, Some(period)) => format!(", renewable for ever by {} each time", seconds(period)),
        (true, None) if facts.explicit_max_ttl > 0 => {
            format!(", renewable up to {} in all", seconds(facts.explicit_max_ttl))
        }
        (true, None) => ", renewable".to_string(),
    };
    let whose = if logs_in { "certd logs in for a" } else { "certd was given a" };
    format!("{whose} {} token with policies {policies}; it {end}{renewal}", facts.kind)
}

fn policies(facts: &TokenFacts) -> BTreeSet<&str> {
    let all = facts.policies.iter().chain(facts.identity_policies.iter().flatten());
    all.map(String::as_str).collect()
}

fn seconds(seconds: u64) -> String {
    span(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::State;

    fn facts() -> TokenFacts {
        TokenFacts {
            policies: BTreeSet::from(["certd".to_string()]),
            identity_policies: None,
            kind: "service".to_string(),
            renewable: true,
            expire_time: Some("2027-01-01T00:00:00Z".to_string()),
            ttl: 3000,
            creation_ttl: 3600,
            explicit_max_ttl: 0,
            period: None,
            orphan: true,
            num_uses: 0,
        }
    }

    fn lines(facts: &TokenFacts, logs_in: bool) -> Vec<(State, String)> {
        let mut findings = Findings::new(&"main".into());
        judge(facts, logs_in, &mut findings);
        findings.all.into_iter().map(|finding| (finding.state, finding.what)).collect()
    }

    #[test]
    fn what_a_token_is_is_said_in_one_line() {
        let said = |facts: TokenFacts| lines(&facts, false).remove(0);
        let told = |end: &str| (State::Ok, format!("certd was given a service token with policies certd; it {end}"));
        assert_eq!(said(facts()), told("ends in 50 min, renewable"));
        let periodic = TokenFacts { period: Some(3600), ..facts() };
        assert_eq!(said(periodic), told("ends in 50 min, renewable for ever by 60 min each time"));
        let bound = TokenFacts { explicit_max_ttl: 7200, ..facts() };
        assert_eq!(said(bound), told("ends in 50 min, renewable up to 2 h in all"));
        let fixed = TokenFacts { renewable: false, ..facts() };
        assert_eq!(said(fixed.clone()), told("ends in 50 min, not renewable"));
        assert_eq!(said(TokenFacts { expire_time: None, ..fixed }), told("never ends"));
        let of_an_entity = TokenFacts { identity_policies: Some(BTreeSet::from(["a".to_string()])), ..facts() };
        assert!(
            lines(&of_an_entity, true)[0].1.starts_with("certd logs in for a service token with policies a, certd;")
        );
    }

    #[test]
    fn a_token_that_nobody_renews_or_that_ends_with_another_is_told() {
        let told = |facts: TokenFacts, logs_in| {
            let rest: Vec<_> = lines(&facts, logs_in).into_iter().skip(1).collect();
            rest
        };
        let warning = |what: &str| vec![(State::Warning, what.to_string())];
        assert_eq!(told(facts(), false), []);
        assert_eq!(told(TokenFacts { ttl: 361, ..facts() }, false), []);
        let late = TokenFacts { ttl: 360, ..facts() };
        assert_eq!(told(late.clone(), false), warning("it ends in 6 min, and nobody has renewed it"));
        assert_eq!(told(late, true), []);
        let child = TokenFacts { orphan: false, ..facts() };
        assert_eq!(told(child.clone(), false), warning("it is the child of another token, and ends with that"));
        assert_eq!(told(child, true), []);
        let short = TokenFacts { creation_ttl: 60, ttl: 59, ..facts() };
        assert_eq!(told(short, true), warning("a token of a login lives 60 s, and certd logs in no more often"));
        let few = TokenFacts { num_uses: 5, ..facts() };
        assert_eq!(told(few, false), warning("it ends after 5 more requests"));
        let root = TokenFacts { policies: BTreeSet::from(["root".to_string()]), ..facts() };
        assert_eq!(told(root, false)[0].0, State::Critical);
    }
}
