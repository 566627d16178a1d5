//! The rules over `[audit]`.

use super::Mistakes;
use crate::config::{Audit, Declared, rules};

/// In MiB. A megabyte is some thousands of records; a terabyte is no file to verify.
const SIZES: std::ops::RangeInclusive<u32> = 1..=1_048_576;

impl Mistakes<'_> {
    pub(super) fn audit(&mut self, audit: &Declared<Audit>) {
        let size = &audit.rotate_at_mib;
        if !SIZES.contains(size.get_ref()) {
            let what = "the size of a file of the audit log is out of bounds";
            self.say(audit.file, size.span(), what, "from 1 to 1048576");
        }
        if let Some(kv) = &audit.head.vault_kv {
            self.judge(audit.file, &kv.path, rules::vault_segments);
            // certd is of no environment itself, so that any Vault will do.
            let vault = self.config.vaults.get(kv.vault.get_ref());
            self.vault(audit.file, &kv.vault, &vault.and_then(|vault| vault.environment.clone()));
        }
    }
}
