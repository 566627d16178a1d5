//! Reading a file that holds secrets: within bounds, wiped afterwards.

use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use crate::files::regular;

/// In bytes. A key takes 200, an account of acme-dns 300.
const LARGEST_FILE: u64 = 1024 * 1024;

pub(super) async fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    regular::read_beside(path, LARGEST_FILE).await
}
