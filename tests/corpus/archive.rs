//! The files of `certificates.tar.xz`.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::collections::BTreeMap;
use std::io::Cursor;

const ARCHIVE: &[u8] = include_bytes!("certificates.tar.xz");

/// The bytes of every object, certificate or not.
pub fn objects() -> Vec<Vec<u8>> {
    unpack().into_iter().filter(|(path, _)| path.ends_with(".der")).map(|(_, der)| der).collect()
}

/// The files of the archive by path. Headers are those of POSIX ustar (512 bytes, sizes in octal).
pub fn unpack() -> BTreeMap<String, Vec<u8>> {
    let mut tar = Vec::new();
    lzma_rs::xz_decompress(&mut Cursor::new(ARCHIVE), &mut tar).unwrap();
    let mut files = BTreeMap::new();
    let mut rest = tar.as_slice();
    while let Some((header, body)) = rest.split_at_checked(512).filter(|(header, _)| header[0] != 0) {
        let text = |range: std::ops::Range<usize>| {
            std::str::from_utf8(&header[range]).unwrap().trim_end_matches(['\0', ' ']).to_string()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap();
        if header[156] == b'0' {
            files.insert(text(0..100), body[..size].to_vec());
        }
        rest = &body[size.next_multiple_of(512)..];
    }
    files
}
