//! The reaper comes when something is kept, goes when nothing is, and comes again.

#![cfg(all(target_os = "linux", not(netpoll_loom), not(miri)))]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use mcache::Cache;

fn reapers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("proc");
    let name =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().map(name).filter(|name| name.trim() == "mcache-reaper").count()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "still not: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn there_is_one_reaper_while_something_is_kept() {
    assert_eq!(reapers(), 0);
    let settings = Cache::builder().decay(Some(Duration::from_millis(200)));
    let caches = [settings.clone().build(), settings.build()];
    for _ in 0..2 {
        for cache in &caches {
            drop(cache.malloc(4096));
        }
        eventually("a reaper", || reapers() == 1);
        eventually("nothing kept", || caches.iter().all(|cache| cache.stats().bytes_held == 0));
        eventually("no reaper", || reapers() == 0);
    }
    // A cache that is dropped meanwhile is not waited for, nor one that never lets go.
    drop(caches[0].malloc(4096));
    eventually("a reaper", || reapers() == 1);
    caches[0].set_decay(None);
    eventually("no reaper", || reapers() == 0);
    assert_eq!(caches[0].stats().bytes_held, 4096);
    caches[0].set_decay(Some(Duration::from_millis(20)));
    eventually("nothing kept", || caches[0].stats().bytes_held == 0);
    drop(caches[1].malloc(4096));
    drop(caches);
    eventually("no reaper", || reapers() == 0);
}
