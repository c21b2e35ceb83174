//! What a figure was measured on: the machine, the kernel, the commit.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    /// With a `+` where files differ from it.
    pub(crate) commit: String,
    pub(crate) when: String,
}

impl Machine {
    pub(crate) fn look(root: &Path, cores: usize) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
            value.unwrap_or("unknown").to_owned()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = memory.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
        let mut commit = say(root, "git", &["rev-parse", "--short=12", "HEAD"]);
        if !say(root, "git", &["status", "--porcelain"]).is_empty() {
            commit.push('+');
        }
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores,
            memory_gib: kilobytes / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: say(root, "rustc", &["--version"]),
            commit,
            when: say(root, "date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        }
    }
}

/// What a command prints; nothing if it cannot run.
fn say(root: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(root).stderr(Stdio::null()).output();
    output.map_or_else(
        |_| String::new(),
        |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    )
}
