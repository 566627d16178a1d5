//! The rules over `[issuer.NAME.acme]`.

use toml::Spanned;
use url::Url;

use super::{LONGEST_DEADLINE, Mistakes};
use crate::config::acme::{AccountPlace, AcmeIssuer};
use crate::config::value::Period;
use crate::config::{Certificate, Declared, Issuer, rules};
use crate::domain::name::San;
use crate::issuer::acme::MOST_NAMES;

impl Mistakes<'_> {
    pub(super) fn acme(&mut self, table: &Declared<Issuer>, acme: &AcmeIssuer) {
        let file = table.file;
        let directory = Url::parse(acme.directory.get_ref());
        if !directory.is_ok_and(|url| url.scheme() == "https" && url.host().is_some()) {
            let hint = "write the address that the CA gives, such as https://acme.example.org/directory";
            self.say(file, acme.directory.span(), "not the address of an ACME directory", hint);
        }
        for also in &acme.also {
            let url = Url::parse(also.get_ref());
            if !url.is_ok_and(|url| url.scheme() == "https" && url.host().is_some()) {
                let hint = "write it such as https://certificates.example.org";
                self.say(file, also.span(), "not the address of a server of the CA", hint);
            }
        }
        for contact in &acme.contact {
            if !contact.get_ref().starts_with("mailto:") {
                let hint = format!("write it as \"mailto:{}\"", contact.get_ref());
                self.say(file, contact.span(), "a contact that is no address of mail", hint);
            }
        }
        if let Some(place) = &acme.account
            && let AccountPlace::VaultKv(kv) = place.get_ref()
        {
            self.vault(file, &kv.vault, &acme.environment);
            self.judge(file, &kv.path, rules::vault_segments);
        }
        if *acme.orders_per_hour.get_ref() == 0 {
            let hint = "at least 1; to stop all acting write act = false";
            self.say(file, acme.orders_per_hour.span(), "no order is ever allowed", hint);
        }
        let patience = acme.patience.get_ref().0;
        if patience.is_zero() || patience > LONGEST_DEADLINE {
            self.say(file, acme.patience.span(), "the time to wait is out of bounds", "over 0s and up to 5m");
        }
        self.one_challenge_at_least(table, acme);
    }

    fn one_challenge_at_least(&mut self, table: &Declared<Issuer>, acme: &AcmeIssuer) {
        let it = acme.challenge.get_ref();
        if it.http_01.is_none() && it.tls_alpn_01.is_none() && it.dns_01.is_none() && it.dns_persist_01.is_none() {
            let hint = "one of http_01, tls_alpn_01, dns_01, dns_persist_01";
            self.say(table.file, acme.challenge.span(), "no challenge by which a name could be proved", hint);
        }
        if let Some(dns) = &it.dns_01 {
            self.deadline(table.file, &dns.get_ref().propagation);
            dns.get_ref().exec.iter().for_each(|exec| self.deadline(table.file, &exec.deadline));
        }
        let http = it.http_01.as_ref().and_then(|it| it.get_ref().listen.as_ref().map(|listen| (listen, it.span())));
        let tls = it.tls_alpn_01.as_ref().and_then(|it| it.get_ref().listen.as_ref().map(|listen| (listen, it.span())));
        for (_, span) in [http, tls].into_iter().flatten().filter(|(listen, _)| listen.is_empty()) {
            self.say(table.file, span, "no address to listen at", "write one such as 0.0.0.0:80, or remove the table");
        }
    }

    /// What no order could ever be carried out for.
    pub(super) fn provable(&mut self, certificate: &Declared<Certificate>) {
        let config = self.config;
        for issuer in &certificate.issuer {
            let Some(Issuer::Acme(acme)) = config.issuers.get(issuer.get_ref()).map(|table| &**table) else { continue };
            if certificate.names.get_ref().len() > MOST_NAMES {
                let what = format!("more names than {MOST_NAMES}, which is the most by ACME");
                self.say(certificate.file, certificate.names.span(), what, "make two certificates of it");
            }
            let it = acme.challenge.get_ref();
            let by_dns = it.dns_01.is_some() || it.dns_persist_01.is_some();
            let elsewhere = it.http_01.is_some() || it.tls_alpn_01.is_some();
            for name in certificate.names.get_ref() {
                let (needs, is_met) = match San::from_text(&rules::ascii(name.get_ref())) {
                    San::Dns(text) if text.starts_with("*.") => ("dns_01 or dns_persist_01", by_dns),
                    San::Dns(_) => continue,
                    San::Ip(_) => ("http_01 or tls_alpn_01", elsewhere),
                    San::Email(_) | San::Uri(_) | San::Other(_) => ("another issuer", false),
                };
                if !is_met {
                    let what = format!("issuer {} cannot have this proved: {:?}", issuer.get_ref(), name.get_ref());
                    self.say(certificate.file, name.span(), what, format!("it takes {needs}"));
                }
            }
        }
    }

    /// By ACME a certificate lives for as long as the CA's profile has it.
    pub(super) fn lifetime_can_be_asked_for(
        &mut self,
        file: usize,
        lifetime: &Option<Spanned<Period>>,
        issuers: &[Spanned<String>],
    ) {
        let Some(lifetime) = lifetime else { return };
        let is_acme = |name: &Spanned<String>| {
            matches!(self.config.issuers.get(name.get_ref()).map(|table| &**table), Some(Issuer::Acme(_)))
        };
        if !issuers.is_empty() && issuers.iter().all(is_acme) {
            let hint = "leave it out; where the CA has several, its profile decides: set profile in the issuer's table";
            self.say(file, lifetime.span(), "no lifetime can be asked for by ACME", hint);
        }
    }
}
