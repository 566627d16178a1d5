//! 1,751 objects from seven corpora: certificates are read to the second, and nothing else is taken for one.

#[path = "corpus/archive.rs"]
mod archive;

use std::time::{Duration, Instant};

use archive::unpack;
use certd::domain::time::Timestamp;
use certd::pki::read;

struct Truth<'a> {
    sha256: &'a str,
    corpus: &'a str,
    /// `None` for what is not a certificate.
    dates: Option<(Timestamp, Timestamp)>,
}

#[test]
fn every_certificate_is_read_to_the_second_and_nothing_else_is_taken_for_one() {
    let files = unpack();
    let truth = std::str::from_utf8(&files["dev/truth.tsv"]).unwrap();
    let (mut read, mut padded, mut refused, mut slowest, mut wrong) = (0, 0, 0, Duration::ZERO, Vec::new());
    for object in truth.lines().skip(1).map(parse) {
        let der = &files[&format!("dev/{}.der", object.sha256)];
        let begun = Instant::now();
        let found = read::certificate(der);
        slowest = slowest.max(begun.elapsed());
        match (found, object.dates) {
            (Ok(found), Some(dates)) if (found.not_before, found.not_after) == dates => {
                read += 1;
                padded += usize::from(found.fingerprint.to_string() != object.sha256);
            }
            (Err(_), None) => refused += 1,
            (found, dates) => {
                let found = found.map(|c| (c.not_before, c.not_after));
                wrong.push(format!("{} {}: {found:?} where {dates:?} is true", object.corpus, object.sha256));
            }
        }
    }
    println!(
        "{read} certificates read with exact dates, {refused} other objects refused; the slowest took {slowest:?}"
    );
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), files.len() - 1, wrong.join("\n"));
    assert_eq!((read, refused), (1_680, 71));
    assert_eq!(padded, 1, "one object has zero bytes after the certificate, which are not part of its fingerprint");
}

#[test]
fn bytes_after_a_certificate_are_refused_unless_they_are_zero() {
    let files = unpack();
    let der = &files["dev/046c677d28b1ab055630cf846913028524dc2c8c896d977402f98ab187825b23.der"];
    let after = |tail: &[u8]| read::certificate(&[der, tail].concat());
    assert_eq!(after(&[0, 0]), read::certificate(der));
    assert_eq!(after(&[0, 1]).unwrap_err().to_string(), "2 bytes follow the certificate");
    assert_eq!(after(der).unwrap_err().to_string(), format!("{} bytes follow the certificate", der.len()));
    assert!(read::certificate(&der[..der.len() - 1]).is_err());
}

fn parse(line: &str) -> Truth<'_> {
    let columns: Vec<&str> = line.split('\t').collect();
    let second = |text: &str| Timestamp(text.parse().unwrap());
    Truth {
        sha256: columns[0],
        corpus: columns[1],
        dates: match columns[2] {
            "VALID" => Some((second(columns[3]), second(columns[4]))),
            "INVALID" => None,
            other => panic!("no such class: {other}"),
        },
    }
}
