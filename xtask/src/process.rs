//! Child processes that end: their output passes through, their tests are counted, and a limit of time
//! stops them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::AddAssign;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How many tests ran, as their runners said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// Exit status 0, and in time.
    pub(crate) success: bool,
    pub(crate) timed_out: bool,
    /// Everything it printed, standard output and standard error each in order.
    pub(crate) output: String,
}

/// Prints what is about to happen.
pub(crate) fn announce(title: &str, command: &Command) {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    eprintln!("\n── {title}: cargo {}", args.join(" "));
}

/// Runs a command to its end; an error unless it succeeds.
pub(crate) fn run(title: &str, command: &mut Command) -> Result<()> {
    announce(title, command);
    let status = command.stdin(Stdio::null()).status().with_context(|| title.to_owned())?;
    if !status.success() {
        bail!("{title} failed ({status})");
    }
    Ok(())
}

/// Whether the output of a command passes through to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    Through,
    Quiet,
}

/// Runs a command for at most `limit` and counts the tests that it reports.
pub(crate) fn watch(command: &mut Command, limit: Duration, echo: Echo) -> Result<Outcome> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let out = child.stdout.take().expect("piped above");
    let err = child.stderr.take().expect("piped above");
    let out = thread::spawn(move || pass(out, echo, false));
    let err = thread::spawn(move || pass(err, echo, true));

    let (status, timed_out) = wait(&mut child, limit)?;
    let mut output = out.join().expect("passing output on does not panic");
    output.push_str(&err.join().expect("passing output on does not panic"));

    let mut counts = Counts::default();
    output.lines().filter_map(count).for_each(|more| counts += more);
    Ok(Outcome { counts, success: status.success() && !timed_out, timed_out, output })
}

fn wait(child: &mut Child, limit: Duration) -> Result<(ExitStatus, bool)> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if start.elapsed() >= limit {
            kill_tree(child.id());
            return Ok((child.wait()?, true));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Kills a process and everything it started, which would otherwise keep our pipes open.
fn kill_tree(pid: u32) {
    let mut family = vec![pid];
    let mut at = 0;
    while at < family.len() {
        let children = format!("/proc/{0}/task/{0}/children", family[at]);
        let children = fs::read_to_string(children).unwrap_or_default();
        family.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        at += 1;
    }
    let _ = Command::new("kill").arg("-9").args(family.iter().map(u32::to_string)).status();
}

fn pass(from: impl Read, echo: Echo, to_stderr: bool) -> String {
    let mut all = String::new();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        if echo == Echo::Through {
            // A reader of ours that went away is no reason to stop the tests.
            let _ = match to_stderr {
                true => std::io::stderr().write_all(text.as_bytes()),
                false => std::io::stdout().write_all(text.as_bytes()),
            };
        }
        all.push_str(&text);
        line.clear();
    }
    all
}

/// The counts in a closing line of libtest or of nextest.
fn count(line: &str) -> Option<Counts> {
    let line = without_colours(line);
    let line = line.trim_start();
    let libtest = line.starts_with("test result:");
    let nextest = line.starts_with("Summary [");
    if !libtest && !nextest {
        return None;
    }
    let words: Vec<&str> =
        line.split([' ', ';', ',', ':', '(', ')']).filter(|w| !w.is_empty()).collect();
    let before = |name: &str| {
        let at = words.iter().skip(1).position(|word| *word == name)?;
        words[at].parse::<u64>().ok()
    };
    let failed = before("failed").unwrap_or(0) + before("timed").unwrap_or(0);
    Some(Counts { passed: before("passed").unwrap_or(0), failed })
}

/// Leaves out the escape sequences that colour a terminal.
fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64) -> Option<Counts> {
        Some(Counts { passed, failed })
    }

    #[test]
    fn closing_lines_are_counted() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(count(line), counts(12, 0));
        let line = "test result: FAILED. 3 passed; 2 failed; 0 ignored; finished in 0.1s";
        assert_eq!(count(line), counts(3, 2));
        let line = "     Summary [   0.012s] 7 tests run: 5 passed (1 slow), 1 failed, 1 timed out, 0 skipped";
        assert_eq!(count(line), counts(5, 2));
        let line =
            "\u{1b}[32;1m     Summary\u{1b}[0m [   0.012s] 1 test run: \u{1b}[1m1\u{1b}[0m passed";
        assert_eq!(count(line), counts(1, 0));
        assert_eq!(count("running 3 tests"), None);
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo started; wait"]);
        let start = Instant::now();
        let outcome = watch(&mut command, Duration::from_millis(300), Echo::Quiet).unwrap();
        assert!(outcome.timed_out && !outcome.success);
        assert_eq!(outcome.output, "started\n");
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
