//! Bytes in, domain types out: certificates, bundles, keys, CSRs and trust. The only place that
//! knows x509-parser, rcgen's keys and rustls-webpki.
