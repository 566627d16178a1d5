//! Where a target begins.

use std::path::PathBuf;

/// Before the fuzzer reads its corpus: into the folder that `CERTD_FUZZ_SEEDS` names, if it does.
pub fn write(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("CERTD_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (nth, seed) in seeds().into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{nth}")), seed).expect("tests/fuzz makes the folder");
    }
}
