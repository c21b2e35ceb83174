//! The first command of the README, in a process of its own.

mod example_path;

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

#[test]
fn quickstart_finds_everything_right() {
    let mut command = Command::new(example_path::example("quickstart"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("quickstart is built beside this test");
    let deadline = Instant::now() + Duration::from_secs(40);
    while child.try_wait().expect("waiting").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("quickstart did not end");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("its output");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stderr.is_empty(), "{stderr}");
    for word in ["requests", "bytes", "requests/s", "p50", "p99", "allocations", "shutdown", "lost"]
    {
        assert!(stdout.contains(word), "no {word} in:\n{stdout}");
    }
}
