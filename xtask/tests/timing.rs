//! Tests that judge time: integration tests with such a name run alone (see `.config/nextest.toml`,
//! which needs at least one of them to exist).

use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn tidy_is_quick_enough_to_be_a_test() {
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("tidy").output().unwrap();
    let took = start.elapsed();
    // Whether it finds anything is another test's business.
    let ended = output.status.code().is_some_and(|code| code <= 1);
    assert!(ended, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(took < Duration::from_secs(20), "{took:?}");
}
