//! Keys out of passwords as PKCS#12 makes them (RFC 7292, appendix B), for its MAC and for its older ciphers.

use aws_lc_rs::digest::{Algorithm, Context};
use zeroize::Zeroizing;

use crate::pki::keystore::Password;

/// The diversifier (appendix B.3).
#[derive(Clone, Copy)]
pub enum Purpose {
    Key = 1,
    InitialVector = 2,
    Mac = 3,
}

/// `length` bytes. In the words of appendix B.2, `v` is the block and `u` the output of the digest.
pub fn derive(
    digest: &'static Algorithm,
    purpose: Purpose,
    password: &Password,
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Zeroizing<Vec<u8>> {
    let v = digest.block_len();
    let diversifier = vec![purpose as u8; v];
    let mut input = Zeroizing::new(filled(salt, v));
    input.extend_from_slice(&Zeroizing::new(filled(&bmp(password), v)));
    let mut key = Zeroizing::new(Vec::with_capacity(length + digest.output_len()));
    loop {
        let mut a = hash(digest, &[&diversifier, &input]);
        for _ in 1..iterations {
            a = hash(digest, &[&a]);
        }
        key.extend_from_slice(&a);
        if key.len() >= length {
            key.truncate(length);
            return key;
        }
        let b: Vec<u8> = a.iter().copied().cycle().take(v).collect();
        input.chunks_mut(v).for_each(|block| add(block, &b));
    }
}

/// UTF-16, big end first, ended by a zero (appendix B.1).
fn bmp(password: &Password) -> Zeroizing<Vec<u8>> {
    let units = password.0.encode_utf16().chain([0]);
    Zeroizing::new(units.flat_map(u16::to_be_bytes).collect())
}

/// Repeated up to the next whole block; nothing stays nothing.
fn filled(bytes: &[u8], block: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(bytes.len().div_ceil(block) * block).collect()
}

fn hash(digest: &'static Algorithm, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut context = Context::new(digest);
    parts.iter().for_each(|part| context.update(part));
    Zeroizing::new(context.finish().as_ref().to_vec())
}

/// `block + b + 1` as one number, the carry out of it dropped.
fn add(block: &mut [u8], b: &[u8]) {
    let mut carry = 1;
    for (byte, b) in block.iter_mut().zip(b).rev() {
        let sum = u16::from(*byte) + u16::from(*b) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
}
