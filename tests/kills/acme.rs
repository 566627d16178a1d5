//! The CA of a way that goes by ACME. It takes every challenge for answered.

use std::fs;
use std::path::Path;

use crate::support::acme_server::{AcmeServer, Script};
use crate::support::server::free_port;

pub struct Ca {
    server: AcmeServer,
    /// Where certd answers.
    listen: String,
}

impl Ca {
    /// Puts what certd has to trust in the folder of its configuration.
    pub fn start(folder: &Path) -> Self {
        let server = AcmeServer::start(Script::default());
        server.ca_file(&folder.join("acme-tls.pem"));
        fs::write(folder.join("acme-roots.pem"), server.root_pem()).unwrap();
        Self { server, listen: format!("127.0.0.1:{}", free_port()) }
    }

    /// What follows `[issuer.NAME.`.
    pub fn table(&self) -> String {
        let (directory, listen) = (self.server.directory_url(), &self.listen);
        format!(
            "acme]\ndirectory = \"{directory}\"\nca_file = \"acme-tls.pem\"\nroots = [\"acme-roots.pem\"]\n\
             terms_agreed = true\nchallenge.http_01 = {{ listen = [\"{listen}\"] }}\n"
        )
    }

    pub fn accounts(&self) -> usize {
        self.server.accounts().len()
    }

    pub fn issued(&self) -> usize {
        self.server.issued().len()
    }

    /// Orders that no certificate came of.
    pub fn orders_in_vain(&self) -> usize {
        self.server.orders().iter().filter(|order| order.certificate.is_none()).count()
    }
}
