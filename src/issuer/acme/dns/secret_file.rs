//! Reading a file that holds secrets: within bounds, wiped afterwards.

use std::io;
use std::path::Path;

use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

/// In bytes. A key takes 200, an account of acme-dns 300.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Pipes and devices are never opened: that may wait for ever.
pub(super) async fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let other = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    let found = tokio::fs::metadata(path).await?;
    if !found.is_file() {
        return Err(other("it is no file"));
    }
    // Room for everything at once: a buffer that grows leaves copies behind.
    let room = usize::try_from(found.len().min(LARGEST_FILE)).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    tokio::fs::File::open(path).await?.take(LARGEST_FILE + 1).read_to_end(&mut bytes).await?;
    match bytes.len() as u64 > LARGEST_FILE {
        true => Err(other("it is far too large")),
        false => Ok(bytes),
    }
}
