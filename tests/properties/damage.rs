//! What the fuzz target `leaks` finds by itself, tried place by place: each damage of each form of a key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::leaks::{PIECES, canaries, check, hexadecimal, seeds};

/// Each byte and each line of a text dropped, doubled and swapped with the next, and a blank line before each line.
fn damaged(text: &[u8], step: usize) -> Vec<Vec<u8>> {
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    let mut all = Vec::new();
    for (parts, step) in [(&lines, 1), (&bytes, step)] {
        for at in (0..parts.len()).step_by(step) {
            let (before, rest) = parts.split_at(at);
            all.push([before.concat(), rest[1..].concat()].concat());
            all.push([before.concat(), rest[0].to_vec(), rest.concat()].concat());
            if let [one, other, after @ ..] = rest {
                all.push([before.concat(), other.to_vec(), one.to_vec(), after.concat()].concat());
            }
            all.push([before.concat(), b"\n".to_vec(), rest.concat()].concat());
        }
    }
    all
}

/// How many inputs were tried, at so many places of each text.
pub fn every_damage_of_every_form(places: usize) -> usize {
    let mut tried = 0;
    for form in seeds() {
        let step = form.len().div_ceil(places);
        for damaged in damaged(&form, step) {
            check(&damaged);
            tried += 1;
        }
    }
    tried
}

/// The search finds what the crate `pem` says of damage, and what anybody could quote.
pub fn finds_a_piece() {
    let damaged = canaries()[0].replace('\n', "\n\n");
    let quoted = ::pem::parse_many(&damaged).unwrap_err().to_string();
    let der = ::pem::parse(canaries()[0].as_str()).unwrap().into_contents();
    let hex = String::from_utf8(hexadecimal(&der[20..32])).unwrap();
    for said in [&quoted, &hex.to_uppercase(), &BASE64.encode(&der[20..33]), &BASE64.encode(&canaries()[0])] {
        assert!(PIECES.are_in(said));
    }
    assert!(!PIECES.are_in("the PEM is damaged in line 3: a blank line stands within the block: remove it"));
}
