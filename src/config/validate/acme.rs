//! The rules over `[issuer.NAME.acme]`.

use url::Url;

use super::{LONGEST_DEADLINE, Mistakes};
use crate::config::acme::{AccountPlace, AcmeIssuer};
use crate::config::{Declared, Issuer, rules};

impl Mistakes<'_> {
    pub(super) fn acme(&mut self, table: &Declared<Issuer>, acme: &AcmeIssuer) {
        let file = table.file;
        let directory = Url::parse(acme.directory.get_ref());
        if !directory.is_ok_and(|url| url.scheme() == "https" && url.host().is_some()) {
            let hint = "write the address that the CA gives, such as https://acme.example.org/directory";
            self.say(file, acme.directory.span(), "not the address of an ACME directory", hint);
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
            let propagation = &dns.get_ref().propagation;
            if propagation.get_ref().0 > LONGEST_DEADLINE {
                self.say(table.file, propagation.span(), "the time to wait is out of bounds", "up to 5m");
            }
        }
    }
}
