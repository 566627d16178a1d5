//! The page of metrics: another parser finds in it the samples and the labels that the snapshot has, whatever its texts.

use std::collections::BTreeMap;

use certd::domain::inventory::{Obstacle, ObstacleKind, Sighting};
use certd::domain::plan::{Action, Record};
use certd::domain::snapshot::{IssuerStatus, Snapshot, SourceStatus, VaultStatus};
use certd::domain::text::printable;
use certd::domain::time::Timestamp;
use certd::metrics::render::{About, render};
use openmetrics_parser::prometheus::parse_prometheus;
use openmetrics_parser::{PrometheusType, PrometheusValue};

use crate::sample;

/// Texts with this byte between them, which is of no UTF-8.
const BETWEEN: u8 = 0xff;

type Labels = BTreeMap<String, String>;

pub fn check(data: &[u8]) -> bool {
    let texts: Vec<String> =
        data.split(|byte| *byte == BETWEEN).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let text = |nth: usize| texts.get(nth).cloned().unwrap_or_default();
    let number = i64::from_be_bytes(std::array::from_fn(|i| data.get(i).copied().unwrap_or(0)));
    let snapshot = snapshot(&text, Timestamp(number));
    let about = About { version: text(0), commit: text(1), config_hash: Some(text(2)) };
    let page = render(&snapshot, &about);
    assert!(!page.chars().any(|c| c.is_control() && c != '\n'), "{page:?}");
    let samples = samples(&page);
    assert_eq!(samples.len(), page.lines().filter(|line| !line.starts_with('#')).count(), "{page}");
    hold_the_snapshot(&samples, &snapshot, number);
    let build = [("version", printable(&text(0))), ("commit", printable(&text(1)))];
    assert_eq!(of(&samples, "certd_build_info"), [(labels(&build), 1.0)]);
    assert_eq!(of(&samples, "certd_config_hash_info"), [(labels(&[("hash", printable(&text(2)))]), 1.0)]);
    true
}

fn snapshot(text: &dyn Fn(usize) -> String, at: Timestamp) -> Snapshot {
    let mut leaf = sample::certificate("www.example.org", 60);
    (leaf.subject_cn, leaf.issuer_cn) = (Some(text(3)), Some(text(4)));
    (leaf.serial, leaf.not_after) = (text(5), at);
    let host =
        certd::domain::inventory::Location::Endpoint { host: text(6), port: 443, sni: Some(text(7)), address: None };
    let mut watched = sample::entry(host, sample::found(leaf.clone(), vec![]));
    let kept = sample::entry(sample::secret(&text(8)), sample::found(leaf, vec![]));
    let keep = Action::Keep { renew_at: at };
    let record = Record { consecutive_failures: 2, last_error: Some(text(9)), ..Record::default() };
    let mut kept = sample::managed(kept, &text(10), keep, record);
    for entry in [&mut watched, &mut kept] {
        entry.observation.environment = Some(text(11));
        entry.observation.source = text(12).as_str().into();
    }
    kept.managed.as_mut().expect("it was made so").owner = Some(text(13));
    let unknown = Sighting::Unknown(Obstacle::new(ObstacleKind::Timeout, text(14)));
    let entries = vec![watched, kept, sample::entry(sample::secret(&(text(8) + "/")), unknown)];
    Snapshot {
        sources: vec![SourceStatus {
            source: text(12).as_str().into(),
            up: false,
            last_success: Some(at),
            items: data_length(text),
            errors: vec![(ObstacleKind::Dns, at.0.unsigned_abs())],
        }],
        issuers: vec![IssuerStatus {
            issuer: text(15).as_str().into(),
            up: Some(true),
            not_after: Some(at),
            backoff_until: Some(at),
        }],
        vaults: vec![VaultStatus {
            vault: text(16).as_str().into(),
            token_expiry: Some(at),
            requests: vec![("read", 200, 41)],
            cas_conflicts: 0,
        }],
        ..sample::snapshot(entries)
    }
}

fn data_length(text: &dyn Fn(usize) -> String) -> usize {
    (0..17).map(|nth| text(nth).len()).sum()
}

/// By name: labels, and value.
fn samples(page: &str) -> Vec<(String, Labels, f64)> {
    let read = parse_prometheus(page).unwrap_or_else(|error| panic!("{error:?}:\n{page}"));
    let mut samples = Vec::new();
    for (name, family) in read.families {
        let is_counter = name.ends_with("_total");
        assert_eq!(family.family_type == PrometheusType::Counter, is_counter, "{name}");
        for sample in family.iter_samples() {
            let value = match &sample.value {
                PrometheusValue::Gauge(value) => value.as_f64(),
                PrometheusValue::Counter(counter) => counter.value.as_f64(),
                other => panic!("{name}: {other:?}"),
            };
            let all = sample.get_labelset().unwrap();
            let all = all.iter().map(|(name, text)| (name.clone(), text.clone())).collect();
            samples.push((name.clone(), all, value));
        }
    }
    samples
}

fn hold_the_snapshot(samples: &[(String, Labels, f64)], snapshot: &Snapshot, at: i64) {
    let [watched, kept, _] = &snapshot.entries[..] else { panic!("there are three") };
    let info = of(samples, "certd_certificate_info");
    assert_eq!(info.len(), 2);
    for (entry, managed) in [(watched, "no"), (kept, "declared")] {
        let leaf = entry.observation.sighting.leaf().unwrap();
        let expected = [
            ("subject_cn", printable(leaf.subject_cn.as_deref().unwrap())),
            ("issuer_cn", printable(leaf.issuer_cn.as_deref().unwrap())),
            ("serial", printable(&leaf.serial)),
            ("owner", printable(entry.managed.as_ref().and_then(|kept| kept.owner.as_deref()).unwrap_or_default())),
        ];
        let (found, _) = info.iter().find(|(labels, _)| labels["managed"] == managed).unwrap();
        expected.iter().for_each(|(name, text)| assert_eq!(&found[*name], text, "{name}"));
    }
    let ends = of(samples, "certd_certificate_not_after_timestamp_seconds");
    assert_eq!(ends.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [at as f64; 2]);
    for entry in [watched, kept] {
        let seen = &entry.observation;
        let place = |labels: &&(Labels, f64)| labels.0["location"] == printable(&seen.location.to_string());
        let (found, _) = ends.iter().find(place).unwrap();
        assert_eq!(found["source"], printable(&seen.source.0));
        assert_eq!(found["environment"], printable(seen.environment.as_ref().unwrap()));
    }
    let source = &snapshot.sources[0];
    let errors = of(samples, "certd_source_errors_total");
    let reason = [("source", printable(&source.source.0)), ("reason", "dns".to_string())];
    assert_eq!(errors, [(labels(&reason), at.unsigned_abs() as f64)]);
    let issuer = labels(&[("issuer", printable(&snapshot.issuers[0].issuer.0))]);
    assert_eq!(of(samples, "certd_issuer_backoff_until_timestamp_seconds"), [(issuer, at as f64)]);
    let vault = [("vault", &*printable(&snapshot.vaults[0].vault.0)), ("operation", "read"), ("code", "200")];
    let vault = labels(&vault.map(|(name, text)| (name, text.to_string())));
    assert_eq!(of(samples, "certd_vault_requests_total"), [(vault, 41.0)]);
}

fn of(samples: &[(String, Labels, f64)], name: &str) -> Vec<(Labels, f64)> {
    let of_it = samples.iter().filter(|(found, _, _)| found == name);
    of_it.map(|(_, labels, value)| (labels.clone(), *value)).collect()
}

fn labels(all: &[(&str, String)]) -> Labels {
    all.iter().map(|(name, text)| (name.to_string(), text.clone())).collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = ["plain", "a\\n\"b\\", "\u{202e}\n# TYPE x", "ü} 1"]
        .map(|text| vec![text.as_bytes(); 17].join(&BETWEEN))
        .to_vec();
    // Longer than a label may be.
    seeds.push(vec![&[b'\\'; 300][..]; 17].join(&BETWEEN));
    seeds.push(Vec::new());
    seeds
}
