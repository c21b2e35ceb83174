//! Tests in processes of their own, where descriptors, threads and memory can be counted, and their
//! clients in another one.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use super::{PATIENCE, stress};

const ALONE: &str = "NETPOLL_TEST_ALONE";
const ARGUMENT: &str = "NETPOLL_TEST_ARGUMENT_";

/// Whether this process runs `test` alone; if not, runs it in one that does.
pub fn in_child(test: &str) -> bool {
    if env::var(ALONE).is_ok_and(|name| name == test) {
        return true;
    }
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, test)
        .status()
        .unwrap();
    assert!(status.success(), "{test}: {status}");
    false
}

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Resident memory, in KiB.
pub fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many connections this process and one with their other ends may have: `wanted`, or what the
/// limit on descriptors leaves, and then it says so.
pub fn as_many(wanted: usize) -> usize {
    let limit = poller::sys::raise_nofile_limit().unwrap_or(1024);
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(200);
    if most < wanted {
        eprintln!(
            "SCALED DOWN: {most} connections instead of {wanted}: {limit} descriptors allowed"
        );
    }
    wanted.min(most)
}

/// Sets the limit on descriptors of this process.
pub fn set_limit(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel reads and writes one live rlimit.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = soft;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

/// CPU time that this process has used.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a live one.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A test that is ignored, run in another process as the clients of this one.
pub struct Other {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<String>,
}

/// What the other process was started with.
pub fn argument(name: &str) -> Option<String> {
    env::var(format!("{ARGUMENT}{name}")).ok()
}

/// Tells the process that started this one.
pub fn say(what: impl std::fmt::Display) {
    println!("> {what}");
}

/// Waits until the process that started this one says something, or is gone.
pub fn hear() -> String {
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    line.trim_end().to_owned()
}

impl Other {
    pub fn start(test: &str, arguments: &[(&str, String)]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture"]);
        for (name, value) in arguments {
            command.env(format!("{ARGUMENT}{name}"), value);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (say, said) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test harness writes in front of it.
                if let Some((_, what)) = line.trim_end().split_once("> ") {
                    let _ = say.send(what.to_owned());
                }
            }
        });
        Self { child, stdin, said }
    }

    pub fn tell(&mut self, what: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{what}").unwrap();
    }

    /// The next thing that it says; fails if it ends instead, or takes too long for its counts.
    #[track_caller]
    pub fn next(&mut self) -> String {
        let patience = PATIENCE * stress(10) as u32;
        self.said.recv_timeout(patience).expect("the clients say nothing")
    }

    /// Waits for its end, which has to be a success.
    pub fn end(mut self) {
        drop(self.stdin.take());
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "the clients do not end");
            thread::sleep(Duration::from_millis(2));
        }
        assert!(self.child.wait().unwrap().success(), "the clients failed");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
