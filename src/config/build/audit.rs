//! Where the head of the audit log is noted.

use super::Builder;
use crate::audit::head::HeadExport;

impl Builder<'_> {
    pub(super) fn audit_head(&self) -> HeadExport {
        let head = &self.config.audit.head;
        let vault = head.vault_kv.as_ref().and_then(|kv| {
            let path = kv.path.get_ref().trim_matches('/').to_string();
            Some((self.vault(&kv.vault)?, path))
        });
        HeadExport { vault, syslog: head.syslog.as_ref().map(|path| self.config.path(path)) }
    }
}
