//! Where the system refuses a thread: what needed it waits, is tried again by the watchdog, and whoever runs
//! the loop is told.
//!
//! A filter of system calls (seccomp) makes the kernel refuse threads to the one that has asked for it, as it
//! does at its limits, and to nobody else.

mod common;

use std::{
    cell::Cell,
    fs,
    io::{self, Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use common::{PATIENCE, connect, echo, eventually, ping, process, serve, serve_on};
use netpoll::{BuildError, Callbacks, EventLoop, Handle, Notice, Reader, Writer};

/// From here on the calling thread gets no other.
fn refuse_threads() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD, 0, 0, 0), // The call's number.
        step(JUMP_IF, 1, 0, libc::SYS_clone as u32),
        step(JUMP_IF, 0, 1, libc::SYS_clone3 as u32),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: `program` and its steps live until the kernel has copied them.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(done, "no filter can be had: {}", io::Error::last_os_error());
    assert!(thread::Builder::new().spawn(|| ()).is_err(), "the filter has no effect");
}

/// Threads of this process with this name and a number.
fn named(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let number =
        |one: &str| Some(one.trim_end().strip_prefix(name)?.strip_prefix('-')?.parse::<u32>());
    names.filter(|one| matches!(number(one), Some(Ok(_)))).count()
}

#[test]
fn a_role_that_no_thread_can_be_had_for_is_tried_again() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let service = Callbacks::new(|_: &Handle| Ok(())).on_request(move |conn, ()| {
        thread_local!(static FILTERED: Cell<bool> = const { Cell::new(false) });
        if !FILTERED.replace(true) {
            refuse_threads();
        }
        count.fetch_add(1, SeqCst);
        // Who drives the only poller passes that on before it waits.
        let got = conn.next(3)?.to_vec();
        conn.write_binary(&got)?;
        Ok(conn.flush().map(drop)?)
    });
    let builder = EventLoop::builder()
        .pollers(1)
        .read_timeout(Some(2 * PATIENCE))
        .on_notice(move |notice| tell.lock().unwrap().push(notice.clone()));
    let (event_loop, addr) = serve(builder, service);
    // At once, unless the watchdog has brought other threads meanwhile: then these wait as well.
    let mut clients = Vec::new();
    eventually("a refusal", || {
        if begun.load(SeqCst) == clients.len() && event_loop.stats().threads_refused == 0 {
            let mut client = connect(addr);
            client.write_all(b"a").unwrap();
            clients.push(client);
        }
        event_loop.stats().threads_refused > 0
    });
    // Nobody is there to read what the last handler waits for, until somebody is.
    for client in &mut clients {
        client.write_all(b"bc").unwrap();
        let mut answer = [0; 3];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"abc");
    }
    eventually("a notice", || {
        let told = told.lock().unwrap();
        told.iter().any(|one| matches!(one, Notice::ThreadsRefused { refused } if *refused > 0))
    });
    // The thread that gets no other goes on as a spare, and so does the loop.
    for _ in 0..20 {
        let other = serve_on(&event_loop, echo());
        ping(&mut connect(other), b"others");
    }
}

#[test]
fn pollers_that_are_added_where_threads_are_refused_get_them() {
    const MANY: usize = 3;
    let mut rounds = 0;
    // Where the watchdog has brought a thread to spare meanwhile, that brings the others.
    eventually("a refusal", || {
        rounds += 1;
        let name = format!("added{rounds}");
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1).name(&name), echo());
        ping(&mut connect(addr), b"one");
        // The watchdog sleeps by then.
        thread::sleep(Duration::from_millis(300));
        let set = event_loop.clone();
        let setting = thread::spawn(move || {
            refuse_threads();
            set.set_pollers(MANY)
        });
        setting.join().unwrap().unwrap();
        let refused = event_loop.stats().threads_refused > 0;
        // Nothing comes that would wake anybody.
        eventually("their threads", || named(&name) >= MANY);
        for _ in 0..2 * MANY {
            ping(&mut connect(addr), b"all of them");
        }
        refused
    });
}

#[test]
fn a_loop_without_threads_is_not_built() {
    if !process::in_child("a_loop_without_threads_is_not_built") {
        return;
    }
    let threads = process::threads();
    drop(EventLoop::builder().pollers(2).build().unwrap());
    eventually("their end", || process::threads() == threads);
    let before = process::descriptors();
    let building = thread::spawn(|| {
        refuse_threads();
        let error = EventLoop::builder().pollers(3).build().expect_err("no thread");
        assert!(matches!(error, BuildError::Threads(_)), "{error}");
    });
    building.join().unwrap();
    eventually("all is given back", || process::descriptors() == before);
    let (_event_loop, addr) = serve(EventLoop::builder(), echo());
    ping(&mut connect(addr), b"later");
}
