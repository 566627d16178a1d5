//! The per-certificate families and all others that a snapshot can fill, as one page of text.
//!
//! At most eight series for a healthy certificate; a series is there only while its object is.

use aws_lc_rs::digest::{SHA256, digest};

use super::exposition::{Family, is_plain, label};
use crate::domain::cert::Certificate;
use crate::domain::inventory::{Location, Observation, Part, Sighting};
use crate::domain::plan::{Action, Origin};
use crate::domain::snapshot::{Entry, Snapshot};
use crate::domain::time::Timestamp;

/// Which certd this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub version: String,
    pub commit: String,
    /// Of the configuration in force; `None` without one.
    pub config_hash: Option<String>,
}

/// The bytes that the series of one certificate need beside its own labels: names and values.
const BYTES_BESIDE_LABELS: usize = 900;

/// Everything but the daemon's own counters.
pub fn render(snapshot: &Snapshot, about: &About) -> String {
    let labels = Labels::of(&snapshot.entries);
    let rows = || snapshot.entries.iter().enumerate().map(|(i, entry)| (entry, labels.cert(i)));
    let mut out = String::with_capacity(4 * labels.text.len() + snapshot.entries.len() * BYTES_BESIDE_LABELS);
    validity(snapshot, &labels, &mut out);
    next_update(snapshot, &labels, &mut out);
    info(rows(), &mut out);
    standing(rows(), &mut out);
    problems(rows(), &mut out);
    last_observed(rows(), &mut out);
    renewal_due(rows(), &mut out);
    renewal_records(rows(), &mut out);
    acting(snapshot, rows(), &mut out);
    probes(snapshot, &mut out);
    sources(snapshot, &mut out);
    issuers(snapshot, &mut out);
    vaults(snapshot, &mut out);
    phases(snapshot, &mut out);
    identity(about, &mut out);
    out
}

/// `cert`, and `cert,source,location,environment`, written once for each entry and used in many families.
struct Labels {
    text: String,
    /// Where the short and the long labels of each entry end. Each begins where the one before ends.
    ends: Vec<(usize, usize)>,
}

impl Labels {
    fn of(entries: &[Entry]) -> Self {
        let mut labels = Self { text: String::new(), ends: Vec::with_capacity(entries.len()) };
        for entry in entries {
            labels.push(entry);
        }
        labels
    }

    fn push(&mut self, entry: &Entry) {
        let out = &mut self.text;
        label(out, "cert", &series_name(entry));
        let short = out.len();
        out.push(',');
        label(out, "source", &entry.observation.source.0);
        out.push(',');
        label(out, "location", &entry.observation.location.to_string());
        if let Some(environment) = &entry.observation.environment {
            out.push(',');
            label(out, "environment", environment);
        }
        self.ends.push((short, out.len()));
    }

    fn start(&self, i: usize) -> usize {
        i.checked_sub(1).map_or(0, |before| self.ends[before].1)
    }

    fn cert(&self, i: usize) -> &str {
        &self.text[self.start(i)..self.ends[i].0]
    }

    fn place(&self, i: usize) -> &str {
        &self.text[self.start(i)..self.ends[i].1]
    }
}

/// The managed name, else a hash of source and place: a renewal does not start new series. A name that
/// a label would have to cut or escape is hashed too, lest two become one.
fn series_name(entry: &Entry) -> String {
    match &entry.managed {
        Some(managed) if is_plain(&managed.decision.certificate.0) => managed.decision.certificate.0.clone(),
        Some(_) | None => place_hash(&entry.observation),
    }
}

/// 16 hexadecimal digits that stand for a source and a place, whatever is found there.
pub fn place_hash(observation: &Observation) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default().into_bytes();
    let part_of = |of: &Option<Part>| part(&of.as_ref().map(Part::to_string));
    let fields = match &observation.location {
        Location::Endpoint { host, port, sni, address } => {
            let port = port.to_string() + &address.map_or(String::new(), |address| format!(" at {address}"));
            [b"endpoint".to_vec(), host.clone().into_bytes(), port.into_bytes(), part(sni)]
        }
        Location::Secret { vault, path, part: field } => {
            [b"secret".to_vec(), vault.0.clone().into_bytes(), path.clone().into_bytes(), part_of(field)]
        }
        Location::Pki { vault, mount, object } => {
            [b"pki".to_vec(), vault.0.clone().into_bytes(), mount.clone().into_bytes(), object.to_string().into_bytes()]
        }
        Location::File { path, part: field } => {
            let path = path.as_os_str().as_encoded_bytes().to_vec();
            [b"file".to_vec(), Vec::new(), path, part_of(field)]
        }
        Location::Listing { source, part: field } => {
            [b"listing".to_vec(), Vec::new(), source.0.clone().into_bytes(), part_of(field)]
        }
    };
    let whole = [observation.source.0.as_bytes(), &fields.join(&0)].join(&0);
    digest(&SHA256, &whole).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn validity(snapshot: &Snapshot, labels: &Labels, out: &mut String) {
    type End = fn(&crate::domain::cert::Chain) -> Timestamp;
    let families: [(&str, &str, End); 3] = [
        ("certd_certificate_not_after_timestamp_seconds", "When the leaf ends.", |chain| chain.leaf.not_after),
        ("certd_certificate_not_before_timestamp_seconds", "When the leaf begins.", |chain| chain.leaf.not_before),
        ("certd_certificate_chain_not_after_timestamp_seconds", "When leaf or intermediates first end.", |chain| {
            chain.not_after()
        }),
    ];
    for (name, help, end) in families {
        let mut family = Family::gauge(out, name, help);
        for (i, entry) in snapshot.entries.iter().enumerate() {
            if let Sighting::Found(found) = &entry.observation.sighting {
                family.series(labels.place(i), &[], end(&found.chain).0);
            }
        }
    }
}

fn next_update(snapshot: &Snapshot, labels: &Labels, out: &mut String) {
    let name = "certd_crl_next_update_timestamp_seconds";
    let mut family = Family::gauge(out, name, "By when the next revocation list is due.");
    for (i, entry) in snapshot.entries.iter().enumerate() {
        if let Sighting::Crl(list) = &entry.observation.sighting
            && let Some(next) = list.next_update
        {
            family.series(labels.place(i), &[], next.0);
        }
    }
}

fn leaf(entry: &Entry) -> Option<&Certificate> {
    entry.observation.sighting.leaf()
}

fn info<'a>(rows: impl Iterator<Item = (&'a Entry, &'a str)>, out: &mut String) {
    let mut family = Family::gauge(out, "certd_certificate_info", "What the leaf is; always 1.");
    for (entry, cert) in rows {
        let Some(leaf) = leaf(entry) else { continue };
        let managed = match entry.managed.as_ref().map(|managed| managed.origin) {
            Some(Origin::Declared) => "declared",
            Some(Origin::Adopted) => "adopted",
            None => "no",
        };
        let labels = [
            ("subject_cn", leaf.subject_cn.as_deref().unwrap_or_default()),
            ("issuer_cn", leaf.issuer_cn.as_deref().unwrap_or_default()),
            ("serial", &leaf.serial),
            ("fingerprint_sha256", &leaf.fingerprint.to_string()),
            ("key_type", &leaf.key.to_string()),
            ("signature", &leaf.signature.0),
            ("owner", entry.managed.as_ref().and_then(|managed| managed.owner.as_deref()).unwrap_or_default()),
            ("managed", managed),
        ];
        family.series(cert, &labels, 1);
    }
}

fn standing<'a>(rows: impl Iterator<Item = (&'a Entry, &'a str)>, out: &mut String) {
    let mut family = Family::gauge(out, "certd_certificate_state", "How it stands: the current state only; always 1.");
    for (entry, cert) in rows {
        family.series(cert, &[("state", entry.standing().as_str())], 1);
    }
}

fn problems<'a>(rows: impl Iterator<Item = (&'a Entry, &'a str)>, out: &mut String) {
    let mut family = Family::gauge(out, "certd_certificate_problem", "A check that fails; always 1.");
    for (entry, cert) in rows {
        for (i, problem) in entry.problems.iter().enumerate() {
            let said = entry.problems[..i].iter().any(|earlier| earlier.problem == problem.problem);
            if !said {
                family.series(cert, &[("problem", problem.problem.as_str())], 1);
            }
        }
    }
}

fn last_observed<'a>(rows: impl Iterator<Item = (&'a Entry, &'a str)>, out: &mut String) {
    let name = "certd_certificate_last_observed_timestamp_seconds";
    let mut family = Family::gauge(out, name, "When the place was last looked at.");
    for (entry, cert) in rows {
        family.series(cert, &[], entry.observation.observed_at.0);
    }
}

fn renewal_due<'a>(rows: impl Iterator<Item = (&'a Entry, &'a str)>, out: &mut String) {
    let name = "certd_certificate_renewal_due_timestamp_seconds";
    let mut family = Family::gauge(out, name, "When it is to be renewed, in the past while it is due, and why.");
    for (entry, cert) in rows {
        let Some(managed) = &entry.managed else { continue };
        let (at, reason) = match &managed.decision.action {
            Action::Keep { renew_at } => (*renew_at, "due"),
            Action::Renew { reason } => (entry.observation.observed_at, reason.as_str()),
            Action::Defer { until, renew, .. } => (*until, renew.as_str()),
            Action::Hold { .. } => continue,
        };
        family.series(cert, &[("reason", reason)], at.0);
    }
}

/// The failures are there only while there are some, which keeps a healthy certificate to eight series.
fn renewal_records<'a>(rows: impl Iterator<Item = (&'a Entry, &'a str)> + Clone, out: &mut String) {
    let records =
        || rows.clone().filter_map(|(entry, cert)| entry.managed.as_ref().map(|managed| (&managed.record, cert)));
    let name = "certd_renewal_consecutive_failures";
    let mut family = Family::gauge(out, name, "Renewals that failed in a row; absent when the last one did not.");
    for (record, cert) in records().filter(|(record, _)| record.consecutive_failures > 0) {
        family.series(cert, &[], record.consecutive_failures);
    }
    let name = "certd_renewal_last_success_timestamp_seconds";
    let mut family = Family::gauge(out, name, "When it was last renewed and read back.");
    for (record, cert) in records() {
        if let Some(at) = record.last_success {
            family.series(cert, &[], at.0);
        }
    }
}

/// The pauses are there only while they last.
fn acting<'a>(snapshot: &Snapshot, rows: impl Iterator<Item = (&'a Entry, &'a str)>, out: &mut String) {
    let paused = snapshot.paused_until.filter(|until| snapshot.taken_at < *until);
    let may_act = snapshot.act && paused.is_none() && snapshot.clock_doubt.is_none();
    let help = "Whether certd may renew: 0 by act = false, while it is paused, or by a clock that cannot be right.";
    Family::gauge(out, "certd_acting", help).series("", &[], u8::from(may_act));
    let help = "1 while this host's clock cannot be right: it differs from a Vault's, or shows a time that has passed.";
    Family::gauge(out, "certd_clock_doubtful", help).series("", &[], u8::from(snapshot.clock_doubt.is_some()));
    let help = "1 since a damaged journal was set aside, until `certd journal --acknowledge`.";
    Family::gauge(out, "certd_journal_set_aside", help).series("", &[], u8::from(snapshot.journal_lost.is_some()));
    let name = "certd_acting_paused_until_timestamp_seconds";
    let mut family = Family::gauge(out, name, "When the pause of all acting ends; absent without one.");
    if let Some(until) = paused {
        family.series("", &[], until.0);
    }
    let name = "certd_certificate_paused_until_timestamp_seconds";
    let mut family = Family::gauge(out, name, "When the pause of this certificate ends; absent without one.");
    for (entry, cert) in rows {
        if let Some(until) = entry.managed.as_ref().and_then(|managed| managed.paused_until(snapshot.taken_at)) {
            family.series(cert, &[], until.0);
        }
    }
}

fn probes(snapshot: &Snapshot, out: &mut String) {
    let name = "certd_endpoint_probe_duration_seconds";
    let mut family = Family::gauge(out, name, "How long the last look at the endpoint took.");
    for Entry { observation, .. } in &snapshot.entries {
        if let Some(took) = observation.took {
            let target = observation.location.to_string();
            let target = if is_plain(&target) { target } else { place_hash(observation) };
            family.series("", &[("target", &target)], took.as_secs_f64());
        }
    }
}

fn sources(snapshot: &Snapshot, out: &mut String) {
    let mut family = Family::gauge(out, "certd_source_up", "Whether the source could be read in its last sweep.");
    for status in &snapshot.sources {
        family.series("", &[("source", &status.source.0)], u8::from(status.up));
    }
    let name = "certd_source_last_success_timestamp_seconds";
    let mut family = Family::gauge(out, name, "When the source could last be read.");
    for status in &snapshot.sources {
        if let Some(at) = status.last_success {
            family.series("", &[("source", &status.source.0)], at.0);
        }
    }
    let mut family = Family::gauge(out, "certd_source_items", "Places seen in the last sweep.");
    for status in &snapshot.sources {
        family.series("", &[("source", &status.source.0)], status.items);
    }
    let mut family = Family::counter(out, "certd_source_errors_total", "Places that could not be seen, by obstacle.");
    for status in &snapshot.sources {
        for (reason, count) in &status.errors {
            family.series("", &[("source", &status.source.0), ("reason", reason.as_str())], count);
        }
    }
}

fn issuers(snapshot: &Snapshot, out: &mut String) {
    let mut family = Family::gauge(out, "certd_issuer_up", "Whether the issuer answered when it was last asked.");
    for status in &snapshot.issuers {
        if let Some(up) = status.up {
            family.series("", &[("issuer", &status.issuer.0)], u8::from(up));
        }
    }
    let name = "certd_issuer_not_after_timestamp_seconds";
    let mut family = Family::gauge(out, name, "When the issuer's own certificate ends.");
    for status in &snapshot.issuers {
        if let Some(at) = status.not_after {
            family.series("", &[("issuer", &status.issuer.0)], at.0);
        }
    }
    let name = "certd_issuer_backoff_until_timestamp_seconds";
    let mut family = Family::gauge(out, name, "The issuer is left alone until then.");
    for status in &snapshot.issuers {
        if let Some(at) = status.backoff_until {
            family.series("", &[("issuer", &status.issuer.0)], at.0);
        }
    }
}

fn vaults(snapshot: &Snapshot, out: &mut String) {
    let name = "certd_vault_token_expiry_timestamp_seconds";
    let mut family = Family::gauge(out, name, "When the token ends; absent for one without an end.");
    for status in &snapshot.vaults {
        if let Some(at) = status.token_expiry {
            family.series("", &[("vault", &status.vault.0)], at.0);
        }
    }
    let mut family = Family::counter(out, "certd_vault_requests_total", "Requests by HTTP status; 0 is no answer.");
    for status in &snapshot.vaults {
        for (operation, code, count) in &status.requests {
            let code = code.to_string();
            family.series("", &[("vault", &status.vault.0), ("operation", operation), ("code", &code)], count);
        }
    }
    let name = "certd_vault_cas_conflicts_total";
    let mut family = Family::counter(out, name, "Writes refused because somebody else wrote first.");
    for status in &snapshot.vaults {
        family.series("", &[("vault", &status.vault.0)], status.cas_conflicts);
    }
}

fn phases(snapshot: &Snapshot, out: &mut String) {
    let name = "certd_cycle_last_completed_timestamp_seconds";
    let mut family = Family::gauge(out, name, "When this part of a turn was last completed.");
    for status in &snapshot.phases {
        family.series("", &[("phase", status.phase.as_str())], status.completed_at.0);
    }
    let mut family = Family::gauge(out, "certd_cycle_last_success", "Whether its last completion was a success.");
    for status in &snapshot.phases {
        family.series("", &[("phase", status.phase.as_str())], u8::from(status.succeeded));
    }
}

fn identity(about: &About, out: &mut String) {
    if let Some(hash) = &about.config_hash {
        let help = "The configuration in force; always 1.";
        Family::gauge(out, "certd_config_hash_info", help).series("", &[("hash", hash)], 1);
    }
    let labels = [("version", about.version.as_str()), ("commit", &about.commit)];
    Family::gauge(out, "certd_build_info", "Which certd this is; always 1.").series("", &labels, 1);
}
