//! PEM text (RFC 7468) of what certd holds as DER, and back.

mod damage;
mod label;

pub use ::pem::Pem;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub use damage::{Damage, Flaw};
pub use label::{Label, labels};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
/// What closes a mark.
const DASHES: &str = "-----";
/// OpenPGP's.
const ARMOR: &[u8] = b"-----BEGIN PGP ";

/// In bytes: most certificates fit.
const LIKELY_BODY: usize = 2_048;

/// One block a certificate, in the order given, each line ended by `\n`.
pub fn certificates<D: AsRef<[u8]>>(ders: &[D]) -> String {
    ders.iter().map(|der| block("CERTIFICATE", der.as_ref())).collect()
}

pub fn csr(der: &[u8]) -> String {
    block("CERTIFICATE REQUEST", der)
}

pub(super) fn block(tag: &str, der: &[u8]) -> String {
    let config = ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF);
    ::pem::encode_config(&Pem::new(tag, der), config)
}

/// Every block, in order. The common form, of nothing but base64 between its marks, is read here in a fifth of the time
/// that the crate takes; every other is left to it. A mark that begins or ends no block that is read is damage: nobody may
/// take the place for one without it, and write over it.
pub fn parse_many(text: impl AsRef<[u8]>) -> Result<Vec<Pem>, Damage> {
    let text = text.as_ref();
    if let Some(blocks) = plain_blocks(text) {
        return Ok(blocks);
    }
    let text = &without_armor(text);
    let marks = |mark: &str| text.windows(mark.len()).filter(|at| *at == mark.as_bytes()).count();
    // The crate's errors quote the text, that of a key too.
    let blocks =
        ::pem::parse_many(text).ok().filter(|blocks| [BEGIN, END].iter().all(|mark| marks(mark) == blocks.len()));
    blocks.ok_or_else(|| Damage::locate(text))
}

/// Leaves out the ASCII armor of OpenPGP (RFC 9580, section 6.2), whose checksum is no base64 and damages no other block.
fn without_armor(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut rest = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut end: Option<Vec<u8>> = None;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match (&end, line.trim_ascii().strip_prefix(ARMOR)) {
            (None, Some(label)) if label.ends_with(b"-----") => end = Some([b"-----END PGP ", label].concat()),
            (None, _) => rest.extend_from_slice(line),
            (Some(last), _) if line.trim_ascii() == last.as_slice() => end = None,
            (Some(_), _) => {}
        }
    }
    // Armor without an end is damage, and nothing after its mark is what it seems.
    if end.is_some() { Zeroizing::new(text.to_vec()) } else { rest }
}

fn plain_blocks(text: &[u8]) -> Option<Vec<Pem>> {
    of_lines(std::str::from_utf8(text).ok()?.lines())
}

/// The same of lines without their ends; `None` where one of the other forms is among them.
pub(super) fn of_lines<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<Vec<Pem>> {
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(tag) = line.strip_prefix(BEGIN) {
            let tag = tag.split_once("-----").filter(|(_, after)| after.trim_end().is_empty())?.0;
            blocks.push(Pem::new(tag, plain_body(tag, &mut lines)?));
        } else if line.contains(BEGIN) || line.contains(END) {
            // Behind one more dash neither the crate nor OpenSSL sees it, and an end without a beginning neither.
            return None;
        }
    }
    Some(blocks)
}

/// Lines of whole groups, as everybody writes it, up to the end of the block. After a blank line, which ends headers
/// (RFC 1421, section 4.6) where there are any, there is nothing more in this form.
fn plain_body<'a>(tag: &str, lines: &mut impl Iterator<Item = &'a str>) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(LIKELY_BODY);
    let mut is_over = false;
    for line in lines.map(str::trim_end) {
        if let Some(end) = line.strip_prefix(END) {
            return (end.strip_suffix("-----") == Some(tag)).then_some(body);
        }
        if is_over && !line.is_empty() {
            return None;
        }
        STANDARD.decode_vec(line, &mut body).ok()?;
        is_over = line.is_empty() || line.ends_with('=');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAEC\nAwQ=\n-----END PRIVATE KEY-----\n";

    #[test]
    fn what_is_read_here_is_what_the_crate_reads() {
        let windows = KEY.replace('\n', "\r\n");
        let between = format!("a word\n{KEY}and\n{KEY}");
        let others = KEY.replace("PRIVATE KEY", "X");
        let trailing = KEY.replace("AwQ=", "AwQ= \t");
        for text in [KEY, KEY.trim_end(), &windows, &between, &(KEY.to_string() + &others), &trailing, "", "no block"] {
            let here = plain_blocks(text.as_bytes()).expect("it is of the common form");
            assert_eq!(here, ::pem::parse_many(text).unwrap(), "{text:?}");
        }
    }

    /// OpenSSL and the crate refuse it, Go reads it, and so did certd ever.
    #[test]
    fn a_blank_line_before_the_end_is_no_damage() {
        for text in [KEY.replace("AwQ=\n", "AwQ=\n\n"), KEY.replace("AwQ=\n", "AwQ=\r\n\r\n \n")] {
            assert_eq!(parse_many(&text).unwrap()[0].contents(), [0, 1, 2, 3, 4], "{text:?}");
        }
    }

    #[test]
    fn every_other_form_is_the_crates_to_read_or_to_refuse() {
        let headed = KEY.replace("-----\nAAEC", "-----\nProc-Type: 4,ENCRYPTED\n\nAAEC");
        let blank = KEY.replace("AAEC\n", "AAEC\n\n");
        let open = KEY.replace("-----END PRIVATE KEY-----", "");
        let other_end = KEY.replace("END PRIVATE", "END PUBLIC");
        let damaged = KEY.replace("AAEC", "A!EC");
        let [uneven, early] = ["AAECA\nwQ=", "AA==\nAwQ="].map(|body| KEY.replace("AAEC\nAwQ=", body));
        let [behind, dashed, joined] = [format!("a word {KEY}"), format!("-{KEY}"), KEY.trim_end().repeat(2)];
        let [longer, marked] = ["KEY------", "KEY-----x-----"].map(|end| KEY.replace("KEY-----", end));
        for text in
            [&headed, &blank, &open, &other_end, &damaged, &uneven, &early, &behind, &dashed, &joined, &longer, &marked]
        {
            assert_eq!(plain_blocks(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_many(&headed).unwrap()[0].contents(), [0, 1, 2, 3, 4]);
        assert_eq!(parse_many(&uneven).unwrap()[0].contents(), [0, 1, 2, 3, 4]);
        assert_eq!([&behind, &joined].map(|text| parse_many(text).unwrap().len()), [1, 2]);
        let armor = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAEC\n=aBcD\n-----END PGP PRIVATE KEY BLOCK-----\n";
        assert_eq!(parse_many(format!("{armor}{KEY}{armor}")).unwrap().len(), 1);
        assert!(parse_many(format!("{armor}{KEY}{}", &armor[..60])).is_err());
        for damaged in [&damaged, &early, &longer, &marked] {
            assert!(parse_many(damaged).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn a_block_that_begins_and_is_not_read_is_damage_and_not_absence() {
        let cut_off = format!("{KEY}{}", KEY.replace("-----END PRIVATE KEY-----\n", ""));
        let dashed = format!("{KEY}-{KEY}");
        let headless = format!("{KEY}{}", KEY.replace("-----BEGIN", "----BEGIN"));
        for (text, line, flaw) in
            [(cut_off, 5, Flaw::NoEnd), (dashed, 5, Flaw::OpenBegin), (headless, 8, Flaw::NoBegin)]
        {
            assert_eq!(::pem::parse_many(&text).map(|blocks| blocks.len()), Ok(1), "the crate passes over it");
            assert_eq!(parse_many(&text), Err(Damage { line, flaw }), "{text}");
        }
    }
}
