//! Certificates that begin and end so many days from now.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa};

/// With an empty subject; a day is long enough for whatever a test does.
pub fn params(names: &[&str], from: i64, to: i64) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let day = |days: i64| time::OffsetDateTime::now_utc() + time::Duration::days(days);
    (params.not_before, params.not_after) = (day(from), day(to));
    params
}

/// Of a root that was there long before, and will be.
pub fn root_params(name: &str) -> CertificateParams {
    let mut params = params(&[], -1_000, 3_650);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}
