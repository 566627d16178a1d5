//! Which challenge answers for which name, and the answers to many at once.

use std::sync::Arc;

use instant_acme::{AuthorizationState, ChallengeType, Identifier};
use serde::Deserialize;

use super::account::Account;
use super::dns::{Dns01, DnsError, Presented, Record};
use super::http::AcmeError;
use super::http_01::Http01;
use super::listening::ChallengeError;
use super::persist::{DnsPersist01, PersistError};
use super::session::{not_understood, object};
use super::tls_alpn_01::TlsAlpn01;
use crate::domain::name::San;
use crate::domain::text::printable;
use crate::domain::time::Timestamp;

/// Those that are configured.
#[derive(Clone, Default)]
pub struct Challenges {
    pub http_01: Option<Arc<Http01>>,
    pub tls_alpn_01: Option<Arc<TlsAlpn01>>,
    pub dns_01: Option<Arc<Dns01>>,
    pub dns_persist_01: Option<Arc<DnsPersist01>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http01,
    TlsAlpn01,
    Dns01,
    DnsPersist01,
}

/// In order of preference: what needs no open port comes first.
const KINDS: [Kind; 4] = [Kind::DnsPersist01, Kind::Dns01, Kind::Http01, Kind::TlsAlpn01];

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
            Self::DnsPersist01 => "dns-persist-01",
        }
    }

    pub fn instant(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Dns01 => ChallengeType::Dns01,
            Self::DnsPersist01 => ChallengeType::Unknown("dns-persist-01".to_string()),
        }
    }

    /// Wildcards are proved in the DNS alone (RFC 8555, section 8.4), addresses never there (RFC 8738, section 7).
    fn is_for(self, identifier: &Identifier, is_wildcard: bool) -> bool {
        let is_of_dns = matches!(self, Self::Dns01 | Self::DnsPersist01);
        match identifier {
            Identifier::Ip(_) => !is_of_dns,
            _ => is_of_dns || !is_wildcard,
        }
    }
}

/// A challenge that was chosen.
pub struct Pending {
    pub kind: Kind,
    pub identifier: Identifier,
    pub is_wildcard: bool,
    /// Its address.
    pub authorization: String,
    pub token: String,
    pub key_authorization: String,
    pub dns_value: String,
}

/// What was put where, to be taken away again.
#[derive(Default)]
pub struct Answered {
    http: Vec<String>,
    tls: Vec<San>,
    dns: Option<Presented>,
}

#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("could not answer the http-01 challenge for {name}")]
    Http {
        name: String,
        #[source]
        source: ChallengeError,
    },
    #[error("could not answer the tls-alpn-01 challenge for {name}")]
    Tls {
        name: String,
        #[source]
        source: ChallengeError,
    },
    #[error("could not answer the dns-01 challenges")]
    Dns(#[source] DnsError),
    #[error("the dns-persist-01 challenge for {name} is not answered")]
    Persist {
        name: String,
        #[source]
        source: PersistError,
    },
}

impl Challenges {
    /// The first that is configured, offered by the CA and good for the name.
    pub async fn choose(
        &self,
        account: &Account,
        state: &AuthorizationState,
        url: &str,
        now: Timestamp,
    ) -> Result<Kind, AcmeError> {
        let authorized = state.identifier();
        let offered = |kind: Kind| state.challenges.iter().any(|challenge| challenge.r#type == kind.instant());
        let fits = |kind: &Kind| self.has(*kind) && kind.is_for(authorized.identifier, authorized.wildcard);
        let mut fitting = KINDS.into_iter().filter(fits).filter(|kind| offered(*kind));
        let Some(first) = fitting.next() else { return Err(self.none_fits(state)) };
        // A record that was never put there is answered by another way, where there is one.
        match (first, &self.dns_persist_01, fitting.next()) {
            (Kind::DnsPersist01, Some(persist), Some(second)) => {
                let domains = issuer_domains(account, url).await?;
                let name = authorized.identifier;
                let stands = persist.insist(account, &domains, &dns_name(name), authorized.wildcard, now).await;
                Ok(if stands.is_ok() { first } else { second })
            }
            (first, _, _) => Ok(first),
        }
    }

    /// Whether nothing else that is configured can prove the name.
    pub fn rests_on_a_record(&self, name: &San) -> bool {
        let San::Dns(name) = name else { return false };
        let (identifier, is_wildcard) = (Identifier::Dns(name.clone()), name.starts_with("*."));
        let fits = |kind: &Kind| self.has(*kind) && kind.is_for(&identifier, is_wildcard);
        KINDS.into_iter().filter(fits).eq([Kind::DnsPersist01])
    }

    fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Http01 => self.http_01.is_some(),
            Kind::TlsAlpn01 => self.tls_alpn_01.is_some(),
            Kind::Dns01 => self.dns_01.is_some(),
            Kind::DnsPersist01 => self.dns_persist_01.is_some(),
        }
    }

    fn none_fits(&self, state: &AuthorizationState) -> AcmeError {
        let name = printable(&state.identifier().to_string());
        let has: Vec<&str> = KINDS.into_iter().filter(|kind| self.has(*kind)).map(Kind::as_str).collect();
        let offered = KINDS.into_iter().filter(|kind| state.challenges.iter().any(|it| it.r#type == kind.instant()));
        let offered: Vec<&str> = offered.map(Kind::as_str).collect();
        let detail = format!(
            "no challenge that is configured ({}) can prove {name}, for which the CA offers {}; a wildcard needs one of \
             DNS, an address http-01 or tls-alpn-01",
            has.join(", "),
            offered.join(", "),
        );
        AcmeError::Unprepared(detail)
    }

    /// Returns when the CA can see every answer. What was put somewhere is in `answered` even where this fails.
    pub async fn present(
        &self,
        account: &Account,
        pending: &[Pending],
        answered: &mut Answered,
        now: Timestamp,
    ) -> Result<(), AnswerError> {
        for it in pending {
            match it.kind {
                Kind::Http01 => self.present_http(it, answered).await?,
                Kind::TlsAlpn01 => self.present_tls(it, answered).await?,
                Kind::DnsPersist01 => self.insist_persistently(account, it, now).await?,
                Kind::Dns01 => {}
            }
        }
        let records: Vec<Record> = pending
            .iter()
            .filter(|it| it.kind == Kind::Dns01)
            .map(|it| Record { name: dns_name(&it.identifier), value: it.dns_value.clone() })
            .collect();
        match &self.dns_01 {
            Some(dns) if !records.is_empty() => {
                answered.dns = Some(dns.present(&records).await.map_err(AnswerError::Dns)?);
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn present_http(&self, it: &Pending, answered: &mut Answered) -> Result<(), AnswerError> {
        let Some(http) = &self.http_01 else { return Ok(()) };
        let presented = http.present(&it.token, &it.key_authorization).await;
        presented.map_err(|source| AnswerError::Http { name: it.name(), source })?;
        answered.http.push(it.token.clone());
        Ok(())
    }

    async fn present_tls(&self, it: &Pending, answered: &mut Answered) -> Result<(), AnswerError> {
        let Some(tls) = &self.tls_alpn_01 else { return Ok(()) };
        let san = san(&it.identifier);
        let presented = tls.present(&san, &it.key_authorization).await;
        presented.map_err(|source| AnswerError::Tls { name: it.name(), source })?;
        answered.tls.push(san);
        Ok(())
    }

    async fn insist_persistently(&self, account: &Account, it: &Pending, now: Timestamp) -> Result<(), AnswerError> {
        let Some(persist) = &self.dns_persist_01 else { return Ok(()) };
        let failed = |source| AnswerError::Persist { name: it.name(), source };
        let domains = issuer_domains(account, &it.authorization).await;
        let domains = domains.map_err(|error| failed(PersistError::Ca(error.to_string())))?;
        persist.insist(account, &domains, &dns_name(&it.identifier), it.is_wildcard, now).await.map_err(failed)
    }

    /// What stays behind does no harm, and is told.
    pub async fn withdraw(&self, answered: &Answered) {
        if let Some(http) = &self.http_01 {
            for token in &answered.http {
                http.withdraw(token).await;
            }
        }
        if let Some(tls) = &self.tls_alpn_01 {
            for san in &answered.tls {
                tls.withdraw(san).await;
            }
        }
        if let (Some(dns), Some(presented)) = (&self.dns_01, &answered.dns)
            && let Err(error) = dns.withdraw(presented).await
        {
            tracing::warn!("{}", crate::domain::text::with_causes(&error));
        }
    }
}

impl Pending {
    fn name(&self) -> String {
        printable(&self.identifier.authorized(self.is_wildcard).to_string())
    }
}

/// Who the CA is, as records in the DNS name it: of the challenge itself, which instant-acme does not know.
async fn issuer_domains(account: &Account, authorization: &str) -> Result<Vec<String>, AcmeError> {
    #[derive(Deserialize)]
    struct Authorization {
        challenges: Vec<Challenge>,
    }
    #[derive(Deserialize)]
    struct Challenge {
        r#type: String,
        // The draft has written it in both ways.
        #[serde(rename = "issuer-domain-names", alias = "issuerDomainNames", default)]
        issuer_domain_names: Vec<String>,
    }
    let answer = account.session().post(authorization, None).await?;
    let read: Authorization = object(&answer.body).map_err(|error| not_understood("an authorization", &error))?;
    let persist = read.challenges.into_iter().find(|challenge| challenge.r#type == "dns-persist-01");
    Ok(persist.map(|challenge| challenge.issuer_domain_names).unwrap_or_default())
}

fn dns_name(identifier: &Identifier) -> String {
    san(identifier).to_string()
}

fn san(identifier: &Identifier) -> San {
    match identifier {
        Identifier::Ip(ip) => San::Ip(*ip),
        Identifier::Dns(name) => San::Dns(name.clone()),
        other => San::Other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_proved_in_the_dns_and_addresses_elsewhere() {
        let name = Identifier::Dns("a.example.org".to_string());
        let ip = Identifier::Ip([127, 0, 0, 1].into());
        let fit = |identifier: &Identifier, wildcard| {
            KINDS.into_iter().filter(|kind| kind.is_for(identifier, wildcard)).collect::<Vec<_>>()
        };
        assert_eq!(fit(&name, false), KINDS);
        assert_eq!(fit(&name, true), [Kind::DnsPersist01, Kind::Dns01]);
        assert_eq!(fit(&ip, false), [Kind::Http01, Kind::TlsAlpn01]);
    }

    #[test]
    fn a_name_rests_on_a_record_where_no_other_challenge_is_configured_for_it() {
        use crate::issuer::acme::dns::Lookup;
        let persist = Arc::new(DnsPersist01 { lookup: Lookup::default() });
        let alone = Challenges { dns_persist_01: Some(persist), ..Challenges::default() };
        let with_http = Challenges { http_01: Some(Arc::new(Http01::Webroot("/srv".into()))), ..alone.clone() };
        let rest = |challenges: &Challenges| {
            let names = ["a.example.org", "*.example.org"].map(|name| San::Dns(name.to_string()));
            let names = names.into_iter().chain([San::Ip([127, 0, 0, 1].into())]);
            names.map(|name| challenges.rests_on_a_record(&name)).collect::<Vec<_>>()
        };
        assert_eq!(rest(&alone), [true, true, false]);
        assert_eq!(rest(&with_http), [false, true, false]);
        assert_eq!(rest(&Challenges::default()), [false; 3]);
    }
}
