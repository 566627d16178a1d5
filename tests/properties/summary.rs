//! A certificate: its dates are those that another parser reads, and what is shown of it moves no cursor.

use certd::domain::cert::Certificate;
use certd::domain::time::Timestamp;
use certd::pki::read;
use certd::report::table::Look;
use certd::report::{Format, render};
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use serde_json::Value;

use crate::{archive, sample};

pub fn check(data: &[u8]) -> bool {
    let Ok(certificate) = read::certificate(data) else { return false };
    let dates = dates(data);
    if let Ok(dates) = dates {
        assert_eq!((certificate.not_before.0, certificate.not_after.0), dates);
    }
    is_shown_as_it_is(certificate);
    dates.is_ok()
}

fn is_shown_as_it_is(certificate: Certificate) {
    let found = sample::found(certificate.clone(), vec![certificate.clone()]);
    let snapshot = sample::snapshot(vec![sample::entry(sample::endpoint("www.example.org"), found)]);
    let shown = |format| render(format, &snapshot, Look::default(), &sample::about());
    for format in [Format::Table, Format::Json, Format::Nagios, Format::Prometheus] {
        let text = shown(format);
        let odd = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(odd, None, "{format:?}: {text:?}");
    }
    let json: Value = serde_json::from_str(&shown(Format::Json)).unwrap();
    let leaf = &json["certificates"][0]["leaf"];
    let instant = |name: &str| leaf[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!((instant("not_before"), instant("not_after")), (certificate.not_before, certificate.not_after));
    let said = [&leaf["subject"], &leaf["issuer"], &leaf["serial"]];
    assert_eq!(said, [&certificate.subject, &certificate.issuer, &certificate.serial].map(|text| text.as_str()));
    let names: Vec<String> = certificate.names.iter().map(ToString::to_string).collect();
    assert_eq!(leaf["sans"], Value::from(names));
}

/// Seconds since 1970, by way of nothing but tags and lengths (RFC 5280, section 4.1). An error where the encoding is
/// not that of DER, or a date is before 1970.
fn dates(certificate: &[u8]) -> der::Result<(i64, i64)> {
    let whole = AnyRef::decode(&mut SliceReader::new(certificate)?)?;
    let to_be_signed = AnyRef::decode(&mut SliceReader::new(whole.value())?)?;
    let mut fields = SliceReader::new(to_be_signed.value())?;
    let mut field = AnyRef::decode(&mut fields)?;
    if field.tag() != Tag::Integer {
        // The version; the serial number follows.
        field = AnyRef::decode(&mut fields)?;
    }
    field.tag().assert_eq(Tag::Integer)?;
    let [_algorithm, _issuer, validity] = [(); 3].map(|()| AnyRef::decode(&mut fields));
    let validity = validity?;
    let mut dates = SliceReader::new(validity.value())?;
    Ok((second(&mut dates)?, second(&mut dates)?))
}

fn second<'a>(reader: &mut impl Reader<'a>) -> der::Result<i64> {
    let field = AnyRef::decode(reader)?;
    let since = match field.tag() {
        Tag::UtcTime => field.decode_as::<UtcTime>()?.to_unix_duration(),
        _ => field.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(since.as_secs().try_into().expect("a year has four digits"))
}

pub fn seeds() -> Vec<Vec<u8>> {
    archive::objects()
}
