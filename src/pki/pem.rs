//! PEM text (RFC 7468) of what certd holds as DER.

/// One block a certificate, in the order given, each line ended by `\n`.
pub fn certificates<D: AsRef<[u8]>>(ders: &[D]) -> String {
    ders.iter().map(|der| block("CERTIFICATE", der.as_ref())).collect()
}

pub fn csr(der: &[u8]) -> String {
    block("CERTIFICATE REQUEST", der)
}

pub(super) fn block(tag: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config)
}
