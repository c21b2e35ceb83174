//! What `/proc` tells of a process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

/// A process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcStatus {
    /// Resident memory.
    pub(crate) resident: u64,
    /// By their numbers.
    pub(crate) threads: BTreeMap<u32, Thread>,
}

/// A thread at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) cpu: Duration,
    /// Context switches, of its own accord or not.
    pub(crate) switches: u64,
}

impl ProcStatus {
    pub(crate) fn of(pid: u32) -> io::Result<ProcStatus> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = field(&status, "VmRSS:") * 1024;
        let mut threads = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            let number = task.file_name().to_string_lossy().parse().unwrap_or(0);
            // A thread that ended since is gone with its figures.
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let nanos = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok());
            let switches = field(&status, "voluntary_ctxt_switches:")
                + field(&status, "nonvoluntary_ctxt_switches:");
            let cpu = Duration::from_nanos(nanos.unwrap_or(0));
            threads.insert(number, Thread { cpu, switches });
        }
        Ok(ProcStatus { resident, threads })
    }

    /// What each thread did since `before`, the busiest first.
    pub(crate) fn since(&self, before: &ProcStatus) -> Vec<Thread> {
        let mut all: Vec<Thread> = self
            .threads
            .iter()
            .map(|(number, now)| {
                let then = before.threads.get(number).copied().unwrap_or_default();
                Thread {
                    cpu: now.cpu.saturating_sub(then.cpu),
                    switches: now.switches.saturating_sub(then.switches),
                }
            })
            .collect();
        all.sort_by_key(|thread| std::cmp::Reverse(thread.cpu));
        all
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures() {
        let status = ProcStatus::of(std::process::id()).unwrap();
        assert!(status.resident > 4096 && !status.threads.is_empty());
    }

    #[test]
    fn fields_are_not_mistaken_for_each_other() {
        let status = "voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t5\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), 7);
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), 5);
        assert_eq!(field(status, "VmRSS:"), 0);
    }

    #[test]
    fn differences_are_by_thread_and_the_busiest_is_first() {
        let status = |figures: &[(u32, u64, u64)]| ProcStatus {
            resident: 0,
            threads: figures
                .iter()
                .map(|(number, micros, switches)| {
                    let cpu = Duration::from_micros(*micros);
                    (*number, Thread { cpu, switches: *switches })
                })
                .collect(),
        };
        let before = status(&[(1, 100, 1), (2, 5, 2), (9, 50, 0)]);
        let since = status(&[(1, 110, 3), (2, 45, 2), (3, 20, 7)]).since(&before);
        let figures: Vec<_> = since.iter().map(|t| (t.cpu.as_micros(), t.switches)).collect();
        assert_eq!(figures, [(40, 0), (20, 7), (10, 2)]);
    }
}
