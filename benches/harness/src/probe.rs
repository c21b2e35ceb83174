//! What costs too much to count while time is measured: system calls and allocations, in short runs of
//! their own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::contender::Contender;
use crate::load::Load;
use crate::run::Stage;
use crate::scenario::Setup;
use crate::sys;

/// The library that counts allocations, from the root.
const COUNTER: &str = "benches/peers/target/release/liballocs.so";
const SHORT: Duration = Duration::from_millis(150);

/// Counts per request; where there is none, why.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Probe {
    pub(crate) syscalls: Option<f64>,
    /// The most frequent ones.
    pub(crate) by_name: BTreeMap<String, f64>,
    pub(crate) allocations: Option<f64>,
    pub(crate) problems: Vec<String>,
}

/// Counts for one server.
pub(crate) fn run(stage: &Stage<'_>, contender: &Contender, setup: &Setup) -> Probe {
    let mut probe = Probe::default();
    match syscalls(stage, contender, setup) {
        Ok(by_name) => {
            probe.syscalls = Some(by_name.values().sum());
            probe.by_name = by_name.into_iter().filter(|(_, calls)| *calls >= 0.005).collect();
        }
        Err(error) => probe.problems.push(format!("system calls: {error:#}")),
    }
    match allocations(stage, contender, setup) {
        Ok(count) => probe.allocations = Some(count),
        Err(error) => probe.problems.push(format!("allocations: {error:#}")),
    }
    probe
}

fn syscalls(
    stage: &Stage<'_>,
    contender: &Contender,
    setup: &Setup,
) -> Result<BTreeMap<String, f64>> {
    let (server, plan) = stage.start(contender, setup, &[])?;
    let mut load = Load::connect(plan)?;
    // Accepting and growing are behind it then.
    load.run(SHORT)?;
    load.drain()?;
    let mut strace = Command::new("strace")
        .args(["-c", "-f", "-p", &server.pid().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("strace")?;
    let mut stderr = BufReader::new(strace.stderr.take().expect("piped above"));
    let mut first = String::new();
    // Its first line says that it is attached, or why not.
    stderr.read_line(&mut first)?;
    let counted = first.contains("attached").then(|| -> Result<u64> {
        // It attaches to one thread after the other.
        thread::sleep(SHORT);
        Ok(load.run(SHORT)?.replies + load.drain()?)
    });
    sys::signal(strace.id(), libc::SIGINT);
    let mut text = String::new();
    stderr.read_to_string(&mut text)?;
    strace.wait()?;
    let replies = counted.with_context(|| first.trim().to_owned())??;
    ensure!(replies > 0, "no reply while strace counted");
    let calls = parse(&text);
    ensure!(!calls.is_empty(), "strace counted nothing");
    Ok(calls.into_iter().map(|(name, calls)| (name, calls as f64 / replies as f64)).collect())
}

/// The calls in a table of `strace -c`.
fn parse(table: &str) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(share), Some(name)) = (words.first(), words.last()) else { continue };
        let is_row = share.parse::<f64>().is_ok() && words.len() >= 5 && *name != "total";
        if let (true, Ok(count)) = (is_row, words.get(3).map_or(Ok(0), |count| count.parse())) {
            calls.insert((*name).to_owned(), count);
        }
    }
    calls
}

fn allocations(stage: &Stage<'_>, contender: &Contender, setup: &Setup) -> Result<f64> {
    let counter = stage.root.join(COUNTER);
    ensure!(counter.is_file(), "{COUNTER} is not built");
    let file = CountFile::create()?;
    let envs = [("LD_PRELOAD", &*counter), ("NETPOLL_ALLOCS", &*file.0)];
    let (server, plan) = stage.start(contender, setup, &envs)?;
    let mut load = Load::connect(plan)?;
    load.run(stage.settings.warm.max(SHORT))?;
    let before = file.read()?;
    let replies = load.run(SHORT)?.replies;
    let count = file.read()? - before;
    drop(server);
    ensure!(replies > 0, "no reply while they were counted");
    ensure!(before > 0, "it does not allocate by libc's malloc");
    Ok(count as f64 / replies as f64)
}

/// The file in which a server's allocations are counted.
struct CountFile(PathBuf);

impl CountFile {
    fn create() -> Result<CountFile> {
        let path = std::env::temp_dir().join(format!("netpoll-allocs-{}", std::process::id()));
        fs::write(&path, [0; 8])?;
        Ok(CountFile(path))
    }

    fn read(&self) -> Result<u64> {
        let bytes = fs::read(&self.0)?;
        let bytes = bytes.first_chunk().context("the file of the count is too short")?;
        Ok(u64::from_ne_bytes(*bytes))
    }
}

impl Drop for CountFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(Path::new(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_strace_is_read() {
        let table = "strace: Process 7 detached\n\
            % time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
             60.00    0.000600           1       500         3 recvfrom\n\
             40.00    0.000400           1       400           sendto\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.001000           1       900         3 total\n";
        let calls = parse(table);
        assert_eq!(calls.len(), 2);
        assert_eq!((calls["recvfrom"], calls["sendto"]), (500, 400));
    }
}
