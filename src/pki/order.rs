//! The order and the form of a chain where it is kept, so that a new one comes alike.

use crate::domain::cert::{Certificate, Fingerprint};
use crate::domain::renewal::CertifiedKey;

/// The certificates of one place as they stood there, each with its DER.
pub type Stood = Vec<(Certificate, Vec<u8>)>;

/// The new chain in the order that the old one had, with the root if it was there and still is the root. `leaf` says
/// whether the leaf is among them, and `before` which one was.
pub fn like(stood: &Stood, certified: &CertifiedKey, leaf: bool, before: Option<Fingerprint>) -> Vec<Vec<u8>> {
    let chain = certified.chain();
    let top = chain.intermediates.last().unwrap_or(&chain.leaf);
    let mut ders = certified.ders()[usize::from(!leaf)..].to_vec();
    let is_root =
        |old: &Certificate| old.is_self_issued() && top.names_as_issuer(old) && top.fingerprint != old.fingerprint;
    let root = stood.iter().find(|(old, _)| is_root(old)).map(|(_, der)| der.clone());
    ders.extend(root.filter(|_| !top.is_self_issued()));
    let leaf_last = stood.len() > 1 && stood.last().map(|(old, _)| old.fingerprint) == before;
    if downwards(stood) {
        ders.reverse();
    } else if leaf && leaf_last {
        ders.rotate_left(1);
    }
    ders
}

/// Whether each certificate was signed by the one before it.
fn downwards(stood: &Stood) -> bool {
    let below =
        |two: &[(Certificate, Vec<u8>)]| two[1].0.names_as_issuer(&two[0].0) && !two[0].0.names_as_issuer(&two[1].0);
    stood.len() > 1 && stood.windows(2).all(below)
}
