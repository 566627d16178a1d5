//! Named steps at which a test may end the process, with the feature `failpoints` alone: in a release this is nothing.

/// Which step is to be the last: its name, or `name#3` for the third time that it is reached.
#[cfg(feature = "failpoints")]
const LAST_STEP: &str = "CERTD_FAILPOINT";

/// A file to which each step is added when it is reached, as `name#3` and a line end.
#[cfg(feature = "failpoints")]
const RECORD: &str = "CERTD_FAILPOINT_RECORD";

/// Ends the process as `kill -9` would, if a test asked for it here.
#[cfg(feature = "failpoints")]
pub fn reached(step: &str) {
    use std::collections::BTreeMap;
    use std::io::Write;
    use std::sync::Mutex;
    static TIMES: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

    let mut times = TIMES.lock().expect("nothing panics with it");
    let count = times.entry(step.to_string()).or_default();
    *count += 1;
    if let Some(record) = std::env::var_os(RECORD) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(record);
        let noted = file.and_then(|mut file| writeln!(file, "{step}#{count}"));
        noted.expect("a test can be told what is reached");
    }
    let Ok(asked) = std::env::var(LAST_STEP) else { return };
    let (name, nth) = asked.split_once('#').unwrap_or((&asked, "1"));
    if name == step && nth == count.to_string() {
        std::process::abort();
    }
}

#[cfg(not(feature = "failpoints"))]
pub fn reached(_: &str) {}
