//! The daemon's own counters and histograms, in a registry of their own.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::domain::name::IssuerName;
use crate::domain::plan::Reason;
use crate::domain::snapshot::Phase;
use crate::domain::time::Timestamp;

/// From a glance at a few files to a sweep that fills its interval, in seconds.
const PHASE_BUCKETS: [f64; 9] = [0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0];

const START_TIME: &str = "process_start_time_seconds";

/// How an attempt to renew ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Written and read back.
    Renewed,
    /// Not carried through: what is stored changed meanwhile, and the next turn plans on that.
    Pending,
    Failed,
}

impl Ending {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

pub struct OwnMetrics {
    registry: Registry,
    renewal_attempts: IntCounterVec,
    phase_durations: HistogramVec,
    start_time: IntGauge,
    audit: IntGauge,
}

impl OwnMetrics {
    /// `started_at` is when the process began: the crate derives it from /proc/stat, which is hidden
    /// from a sandboxed service, and would then say 1970.
    pub fn new(started_at: Timestamp) -> Self {
        let renewal_attempts = IntCounterVec::new(
            Opts::new(
                "certd_renewal_attempts_total",
                "Attempts to renew, by issuer, how they ended and why they began.",
            ),
            &["issuer", "result", "reason"],
        );
        let phase_durations = HistogramVec::new(
            HistogramOpts::new("certd_cycle_duration_seconds", "How long each part of a turn took.")
                .buckets(PHASE_BUCKETS.to_vec()),
            &["phase"],
        );
        let start_time = IntGauge::new(START_TIME, "Start time of the process since unix epoch in seconds.");
        let help = "Whether the audit log can be written, and its head be noted where the configuration says.";
        let audit = IntGauge::new("certd_audit_ok", help).expect("its name is valid");
        audit.set(1);
        let own = Self {
            audit,
            registry: Registry::new(),
            renewal_attempts: renewal_attempts.expect("its name and labels are valid"),
            phase_durations: phase_durations.expect("its name and labels are valid"),
            start_time: start_time.expect("its name is valid"),
        };
        own.start_time.set(started_at.0);
        let collectors: [Box<dyn Collector>; 4] = [
            Box::new(own.renewal_attempts.clone()),
            Box::new(own.phase_durations.clone()),
            Box::new(own.audit.clone()),
            Box::new(ProcessCollector::for_self()),
        ];
        for collector in collectors {
            own.registry.register(collector).expect("each collector is registered once");
        }
        own
    }

    /// The label is empty where there was no issuer to ask.
    pub fn renewal_attempted(&self, issuer: Option<&IssuerName>, result: Ending, reason: Reason) {
        let issuer = issuer.map_or("", |issuer| issuer.0.as_str());
        self.renewal_attempts.with_label_values(&[issuer, result.as_str(), reason.as_str()]).inc();
    }

    pub fn audit_is_well(&self, is_well: bool) {
        self.audit.set(i64::from(is_well));
    }

    pub fn phase_took(&self, phase: Phase, took: Duration) {
        self.phase_durations.with_label_values(&[phase.as_str()]).observe(took.as_secs_f64());
    }

    /// The text of now.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.retain(|family| family.name() != START_TIME);
        families.extend(self.start_time.collect());
        TextEncoder::new().encode_to_string(&families)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_attempts_and_times_phases() {
        let own = OwnMetrics::new(Timestamp(1_800_000_000));
        own.renewal_attempted(Some(&"internal".into()), Ending::Renewed, Reason::Due);
        own.renewal_attempted(Some(&"internal".into()), Ending::Renewed, Reason::Due);
        own.renewal_attempted(Some(&"internal".into()), Ending::Failed, Reason::Missing);
        own.phase_took(Phase::Observe, Duration::from_millis(300));
        let text = own.encode().unwrap();
        for line in [
            "certd_renewal_attempts_total{issuer=\"internal\",reason=\"due\",result=\"renewed\"} 2",
            "certd_renewal_attempts_total{issuer=\"internal\",reason=\"missing\",result=\"failed\"} 1",
            "certd_cycle_duration_seconds_bucket{phase=\"observe\",le=\"0.25\"} 0",
            "certd_cycle_duration_seconds_bucket{phase=\"observe\",le=\"1\"} 1",
            "process_start_time_seconds 1800000000",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\nis not in\n{text}");
        }
        assert_eq!(text.matches("\nprocess_start_time_seconds ").count(), 1);
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
