//! `[issuer.NAME.acme]` becomes an issuer.

use std::net::SocketAddr;
use std::sync::Arc;

use url::Url;

use super::{Anchors, Builder, Declared, Issuer, Roots, Spanned};
use crate::config::acme::{
    AccountPlace, AcmeIssuer, ChallengeTable, DnsChallenge, HttpChallenge, Servers, TlsChallenge,
};
use crate::domain::text::with_causes;
use crate::issuer::acme::account::{AccountSettings, External};
use crate::issuer::acme::challenges::Challenges;
use crate::issuer::acme::dns::{AcmeDns, Dns01, Exec, Lookup, Rfc2136, Updater};
use crate::issuer::acme::http::Http;
use crate::issuer::acme::http_01::Http01;
use crate::issuer::acme::keeper::Keeper;
use crate::issuer::acme::listening::Place;
use crate::issuer::acme::persist::DnsPersist01;
use crate::issuer::acme::tls_alpn_01::TlsAlpn01;
use crate::issuer::acme::{Acme, AcmeSettings};

/// Below the state directory.
const FOLDER: &str = "acme";

impl Builder<'_> {
    pub(super) fn acme(&mut self, name: &str, table: &Declared<Issuer>, acme: &AcmeIssuer) -> Option<Acme> {
        let folder = self.config.state_dir.join(FOLDER);
        let keeper = match acme.account.as_ref().map(Spanned::get_ref) {
            None => Keeper::File(folder.join(format!("{name}.json"))),
            Some(AccountPlace::File(path)) => Keeper::File(self.config.path(path)),
            Some(AccountPlace::VaultKv(kv)) => {
                Keeper::VaultKv { vault: self.vault(&kv.vault)?, path: kv.path.get_ref().clone() }
            }
        };
        let external = acme
            .eab
            .as_ref()
            .map(|eab| External { key_id: eab.key_id.clone(), hmac_file: self.config.path(&eab.hmac_file) });
        let account = AccountSettings {
            directory: acme.directory.get_ref().clone(),
            contact: acme.contact.iter().map(|contact| contact.get_ref().clone()).collect(),
            terms_agreed: acme.terms_agreed,
            external,
            marker: folder.join(format!("{name}.known")),
        };
        let http = self.http(table, acme)?;
        let challenges = self.challenges(table, acme.challenge.get_ref())?;
        Some(Acme::new(AcmeSettings {
            account,
            keeper,
            http,
            challenges,
            profile: acme.profile.clone(),
            preferred_chain: acme.preferred_chain.clone(),
            orders_per_hour: *acme.orders_per_hour.get_ref(),
            patience: acme.patience.get_ref().0,
            roots: self.acme_roots(table, acme)?,
        }))
    }

    /// A private CA mostly has its own server's certificate signed by the root that it signs for others with.
    fn acme_roots(&mut self, table: &Declared<Issuer>, acme: &AcmeIssuer) -> Option<Arc<Anchors>> {
        match (&acme.roots, &acme.ca_file) {
            (Some(roots), _) => self.roots(table, roots),
            (None, None) => self.roots(table, &Roots::System),
            (None, Some(ca_file)) => {
                let own = self.roots(table, &Roots::Files(vec![ca_file.clone()]))?;
                // A host without roots of its own can do without them here.
                let system = Anchors::system().ok().map(Arc::new);
                let all: Vec<_> = [Some(own), system].into_iter().flatten().collect();
                Some(Arc::new(Anchors::together(&all)))
            }
        }
    }

    fn http(&mut self, table: &Declared<Issuer>, acme: &AcmeIssuer) -> Option<Http> {
        let roots = match &acme.ca_file {
            None => None,
            Some(path) => {
                let read = super::certificates_in("ca_file", &self.config.path(path));
                Some(self.noted(table, table.span.clone(), read)?)
            }
        };
        let named = std::iter::once(&acme.directory).chain(&acme.also);
        let addresses: Vec<_> = named.filter_map(|address| Url::parse(address.get_ref()).ok()).collect();
        let made = Http::new(&addresses, roots.as_deref()).map_err(|error| with_causes(error.as_ref()));
        self.noted(table, acme.directory.span(), made)
    }

    fn challenges(&mut self, table: &Declared<Issuer>, challenge: &ChallengeTable) -> Option<Challenges> {
        let http_01 = challenge.http_01.as_ref().map(|it| self.http_01(table, it));
        let tls_alpn_01 = challenge.tls_alpn_01.as_ref().map(|it| self.tls_alpn_01(table, it));
        let dns_01 = challenge.dns_01.as_ref().map(|it| self.dns_01(table, it));
        let dns_persist_01 = challenge.dns_persist_01.as_ref().map(|it| self.persist(table, it));
        Some(Challenges {
            http_01: whole(http_01)?,
            tls_alpn_01: whole(tls_alpn_01)?,
            dns_01: whole(dns_01)?,
            dns_persist_01: whole(dns_persist_01)?,
        })
    }

    fn http_01(&mut self, table: &Declared<Issuer>, http: &Spanned<HttpChallenge>) -> Option<Arc<Http01>> {
        let HttpChallenge { listen, webroot, socket } = http.get_ref();
        match (listen, webroot, socket) {
            (Some(listen), None, None) => {
                let place = Place::Addresses(self.socket_addresses(table, listen)?);
                Some(self.listening_for_http(place))
            }
            (None, Some(webroot), None) => Some(Arc::new(Http01::Webroot(self.config.path(webroot)))),
            (None, None, Some(name)) => Some(self.listening_for_http(Place::Socket(name.clone()))),
            (_, _, _) => self.refused(table, http, "http_01 is one of: listen, webroot, socket"),
        }
    }

    /// Several issuers listen at one place together.
    fn listening_for_http(&mut self, place: Place) -> Arc<Http01> {
        let listening = self.http_01.entry(place.clone()).or_insert_with(|| Arc::new(Http01::listener(place)));
        listening.clone()
    }

    fn listening_for_tls(&mut self, place: Place) -> Arc<TlsAlpn01> {
        let listening = self.tls_alpn_01.entry(place.clone()).or_insert_with(|| Arc::new(TlsAlpn01::new(place)));
        listening.clone()
    }

    fn tls_alpn_01(&mut self, table: &Declared<Issuer>, tls: &Spanned<TlsChallenge>) -> Option<Arc<TlsAlpn01>> {
        let TlsChallenge { listen, socket } = tls.get_ref();
        match (listen, socket) {
            (Some(listen), None) => {
                let place = Place::Addresses(self.socket_addresses(table, listen)?);
                Some(self.listening_for_tls(place))
            }
            (None, Some(name)) => Some(self.listening_for_tls(Place::Socket(name.clone()))),
            (_, _) => self.refused(table, tls, "tls_alpn_01 is one of: listen, socket"),
        }
    }

    fn dns_01(&mut self, table: &Declared<Issuer>, dns: &Spanned<DnsChallenge>) -> Option<Arc<Dns01>> {
        let it = dns.get_ref();
        let updater = match (&it.rfc2136, &it.exec, &it.acme_dns) {
            (Some(update), None, None) => Updater::Rfc2136(Rfc2136 {
                server: self.socket_address(table, &update.server)?,
                zone: update.zone.clone(),
                key_file: self.config.path(&update.tsig_key_file),
            }),
            (None, Some(exec), None) => {
                let command = exec.command.get_ref();
                if !command.first().is_some_and(|path| path.starts_with('/')) {
                    let what = "a command begins with an absolute path, such as /usr/local/bin/dns-update";
                    return self.refused(table, &exec.command, what);
                }
                Updater::Exec(Exec { command: command.clone(), deadline: exec.deadline.get_ref().0 })
            }
            (None, None, Some(accounts)) => Updater::AcmeDns(AcmeDns {
                http: self.noted(table, dns.span(), plain_client())?,
                server: match &accounts.server {
                    None => None,
                    Some(server) => {
                        let parsed = Url::parse(server.get_ref()).map_err(|error| format!("not an address: {error}"));
                        Some(self.noted(table, server.span(), parsed)?)
                    }
                },
                accounts_file: self.config.path(&accounts.accounts_file),
            }),
            (_, _, _) => return self.refused(table, dns, "dns_01 is one of: rfc2136, exec, acme_dns"),
        };
        let lookup = self.lookup(table, it.resolver.as_ref(), &it.authoritative)?;
        Some(Arc::new(Dns01 { updater, lookup, propagation_within: it.propagation.get_ref().0 }))
    }

    fn persist(&mut self, table: &Declared<Issuer>, servers: &Spanned<Servers>) -> Option<Arc<DnsPersist01>> {
        let Servers { resolver, authoritative } = servers.get_ref();
        Some(Arc::new(DnsPersist01 { lookup: self.lookup(table, resolver.as_ref(), authoritative)? }))
    }

    fn lookup(
        &mut self,
        table: &Declared<Issuer>,
        resolver: Option<&Spanned<String>>,
        authoritative: &[Spanned<String>],
    ) -> Option<Lookup> {
        let resolver = match resolver {
            None => None,
            Some(address) => Some(self.socket_address(table, address)?),
        };
        Some(Lookup { resolver, authoritative: self.socket_addresses(table, authoritative)? })
    }

    fn socket_addresses(&mut self, table: &Declared<Issuer>, texts: &[Spanned<String>]) -> Option<Vec<SocketAddr>> {
        let mut addresses = Vec::new();
        for text in texts {
            addresses.push(self.socket_address(table, text));
        }
        addresses.into_iter().collect()
    }

    fn socket_address(&mut self, table: &Declared<Issuer>, text: &Spanned<String>) -> Option<SocketAddr> {
        let parsed = text.get_ref().parse();
        let what = || format!("not an address with a port, such as 192.0.2.1:53 or [::]:80: {:?}", text.get_ref());
        self.noted(table, text.span(), parsed.map_err(|_| what()))
    }

    fn refused<T, V>(&mut self, table: &Declared<Issuer>, at: &Spanned<V>, what: &str) -> Option<T> {
        self.noted(table, at.span(), Err(what.to_string()))
    }
}

/// `None` where it was refused; `Some(None)` where it is not configured.
#[allow(clippy::option_option)]
fn whole<T>(built: Option<Option<T>>) -> Option<Option<T>> {
    match built {
        None => Some(None),
        Some(None) => None,
        Some(Some(made)) => Some(Some(made)),
    }
}

/// For a server beside the CA: it verifies to the system's roots.
fn plain_client() -> Result<reqwest::Client, String> {
    let tls = crate::http::tls(None).map_err(|error| with_causes(error.as_ref()))?.with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(crate::issuer::acme::http::DEADLINE);
    client.build().map_err(|error| with_causes(&error))
}
