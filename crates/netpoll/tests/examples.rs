//! The examples that other programs drive, as these programs see them: flags, first line, signals,
//! exit status.

mod example_path;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Nothing here takes half as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The example of this name.
fn example(name: &str) -> Command {
    Command::new(example_path::example(name))
}

/// Runs an example that ends by itself.
fn run(name: &str, args: &[&str]) -> Output {
    let mut command = example(name);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the example starts");
    wait(&mut child);
    child.wait_with_output().expect("its output")
}

fn wait(child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("waiting").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("an example did not end within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// An echo server in a process of its own.
struct Server {
    child: Child,
    addr: String,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let mut command = example("echo_server");
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a first line");
        let addr = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("got {line:?}"));
        Self { addr: addr.trim_end().to_owned(), child, _stdout: stdout }
    }

    fn connect(&self) -> TcpStream {
        let addr: SocketAddr = self.addr.parse().expect("an address");
        let stream = TcpStream::connect(addr).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Waits until the server has read all that was sent to it over `streams`. What is whole by then
    /// is handled, also if the server is told to end.
    fn has_read(&self, streams: &[TcpStream]) {
        let port = |addr: SocketAddr| format!(":{:04X}", addr.port());
        let here = port(self.addr.parse().expect("an address"));
        let mut peers: Vec<_> =
            streams.iter().map(|stream| port(stream.local_addr().expect("an address"))).collect();
        let deadline = Instant::now() + PATIENCE;
        while !peers.is_empty() {
            assert!(Instant::now() < deadline, "the server does not read");
            let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
            for line in table.lines() {
                // Number, local and remote address, state, bytes to send and to be read.
                let mut words = line.split_whitespace().skip(1);
                let (local, remote) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
                let is_drained = words.nth(1).is_some_and(|bytes| bytes.ends_with(":00000000"));
                if is_drained && local.ends_with(&here) {
                    peers.retain(|peer| !remote.ends_with(peer));
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: i32) {
        let pid = self.child.id().to_string();
        let kill = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
        assert!(kill.expect("a shell").success());
    }

    /// Waits for the end: whether the status was 0, what stderr says, and how long it took.
    fn end(mut self) -> (bool, String, Duration) {
        let start = Instant::now();
        wait(&mut self.child);
        let elapsed = start.elapsed();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().expect("a pipe");
        pipe.read_to_string(&mut stderr).expect("its stderr");
        (self.child.wait().expect("its status").success(), stderr, elapsed)
    }

    fn stop(self) {
        self.signal(SIGTERM);
        let (success, stderr, elapsed) = self.end();
        assert!(success && stderr.is_empty(), "stderr: {stderr:?}");
        assert!(elapsed < PATIENCE / 2, "it took {elapsed:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn echo(stream: &mut (impl Read + Write), body: &[u8]) {
    let sent = frame(body);
    stream.write_all(&sent).expect("the server takes it");
    let mut reply = vec![0; sent.len()];
    stream.read_exact(&mut reply).expect("the server answers");
    assert!(reply == sent, "the reply differs");
}

/// What `echo_client` says of a server: requests answered.
fn ask(server: &Server, args: &[&str]) -> u64 {
    let output = run("echo_client", &[&["--addr", &server.addr], args].concat());
    let stdout = String::from_utf8(output.stdout).expect("text");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    for figure in ["requests ", "bytes ", "seconds ", "requests/s ", "p50 ", "p99 "] {
        assert!(stdout.lines().any(|line| line.starts_with(figure)), "{stdout}");
    }
    let first = stdout.lines().next().expect("a first line");
    first.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

/// The example fails, and says why in one line that contains `what`.
#[track_caller]
fn refuses(name: &str, args: &[&str], what: &str) {
    let output = run(name, args);
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(output.stdout.is_empty());
    assert!(stderr.contains(what), "{stderr:?} does not contain {what:?}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn every_runner_echoes() {
    for runner in ["auto", "inline", "pool"] {
        let server =
            Server::start(&["--addr", "127.0.0.1:0", "--runner", runner, "--pollers", "2"]);
        assert!(!server.addr.ends_with(":0"), "the port that was taken: {}", server.addr);
        let mut stream = server.connect();
        for len in [0, 1, 4096, 100_000] {
            echo(&mut stream, &vec![len as u8; len]);
        }
        drop(stream);
        assert_eq!(ask(&server, &["--requests", "3000", "--connections", "20"]), 3000);
        server.stop();
    }
}

#[test]
fn the_client_pipelines_and_sends_what_is_large() {
    let server = Server::start(&["--addr", "127.0.0.1:0"]);
    let pipelined = ["--requests", "10000", "--connections", "3", "--pipeline", "64"];
    assert_eq!(ask(&server, &pipelined), 10_000);
    assert_eq!(ask(&server, &["--requests", "8", "--size", "5000000", "--pipeline", "4"]), 8);
    assert_eq!(ask(&server, &["--requests", "1000", "--size", "0"]), 1000);
    assert_eq!(ask(&server, &["--requests", "0"]), 0);
    server.stop();
}

#[test]
fn handlers_that_work_and_block() {
    let server = Server::start(&[
        "--addr",
        "127.0.0.1:0",
        "--pollers",
        "1",
        "--work-us",
        "200",
        "--work-every",
        "10",
        "--block-us",
        "20000",
        "--block-every",
        "50",
    ]);
    assert_eq!(ask(&server, &["--requests", "1000", "--connections", "10"]), 1000);
    server.stop();
}

#[test]
fn a_unix_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("echo.sock");
    let addr = format!("unix:{}", path.display());
    let server = Server::start(&["--addr", &addr]);
    assert_eq!(server.addr, addr);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("the server accepts");
    echo(&mut stream, b"over a path");
    drop(stream);
    assert_eq!(ask(&server, &["--requests", "2000", "--size", "10000"]), 2000);
    server.stop();
    assert!(!path.exists(), "a graceful end removes the socket's file");
}

#[test]
fn ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // This machine has none.
    }
    let server = Server::start(&["--addr", "[::1]:0"]);
    assert!(server.addr.starts_with("[::1]:"), "{}", server.addr);
    echo(&mut server.connect(), b"over v6");
    assert_eq!(ask(&server, &["--requests", "1000"]), 1000);
    server.stop();
}

#[test]
fn a_frame_over_the_limit_ends_its_connection_only() {
    let server = Server::start(&["--addr", "127.0.0.1:0"]);
    let mut good = server.connect();
    echo(&mut good, b"before");
    for header in [u32::MAX, 1 << 24] {
        let mut bad = server.connect();
        echo(&mut bad, b"fine so far");
        bad.write_all(&header.to_be_bytes()).expect("the server takes it");
        let mut byte = [0];
        // The end of the stream, or a reset: never a reply.
        assert!(!matches!(bad.read(&mut byte), Ok(1..)));
        echo(&mut good, b"meanwhile");
    }
    echo(&mut good, &vec![7; 1 << 20]);
    drop(good);
    server.stop();
}

#[test]
fn a_signal_lets_running_requests_finish() {
    for signal in [SIGTERM, SIGINT] {
        let server = Server::start(&["--addr", "127.0.0.1:0", "--block-us", "300000"]);
        let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
        let idle = server.connect();
        let sent = frame(b"a request that is running when the signal comes");
        for stream in &mut streams {
            stream.write_all(&sent).expect("the server takes it");
        }
        server.has_read(&streams);
        server.signal(signal);
        for stream in &mut streams {
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).expect("a reply, and a clean end");
            assert!(reply == sent, "{} bytes came", reply.len());
        }
        drop(idle);
        let (success, stderr, elapsed) = server.end();
        assert!(success && stderr.is_empty(), "stderr: {stderr:?}");
        assert!(elapsed < PATIENCE / 2, "it took {elapsed:?}");
    }
}

#[test]
fn a_signal_under_load() {
    let server = Server::start(&["--addr", "127.0.0.1:0"]);
    let mut client = example("echo_client");
    client.args(["--addr", &server.addr, "--requests", "1000000000", "--pipeline", "16"]);
    let mut client = client.stderr(Stdio::piped()).spawn().expect("the client starts");
    thread::sleep(Duration::from_millis(200));
    server.stop();
    // It was not done, and says so.
    wait(&mut client);
    let output = client.wait_with_output().expect("its output");
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

#[test]
fn handlers_that_do_not_end_do_not_keep_the_server() {
    let server = Server::start(&["--addr", "127.0.0.1:0", "--block-us", "20000000"]);
    let mut stream = server.connect();
    stream.write_all(&frame(b"stuck")).expect("the server takes it");
    server.has_read(std::slice::from_ref(&stream));
    server.signal(SIGTERM);
    let (success, stderr, elapsed) = server.end();
    assert!(success, "stderr: {stderr:?}");
    assert!(elapsed < PATIENCE / 2, "it took {elapsed:?}");
    assert_eq!(stderr.lines().count(), 1, "it says what it left: {stderr:?}");
}

#[test]
fn what_cannot_be_is_one_clear_line() {
    let server = Server::start(&["--addr", "127.0.0.1:0"]);
    refuses("echo_server", &["--addr", &server.addr], "in use");
    server.stop();
    for name in ["echo_server", "echo_client"] {
        refuses(name, &["--addr", "nowhere"], "nowhere");
        let args = ["--addr", "127.0.0.1:0", "--no-such-flag"];
        let output = run(name, &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains("--no-such-flag"), "{stderr}");
        assert!(!run(name, &[]).status.success(), "--addr is required");
    }
    refuses("echo_client", &["--addr", "127.0.0.1:1"], "127.0.0.1:1");
    refuses("echo_client", &["--addr", "unix:/no/such/socket"], "/no/such/socket");
}

#[test]
fn a_server_that_answers_wrong_is_found_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("its address").to_string();
    let liar = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client");
        let mut request = vec![0; 4 + 100];
        stream.read_exact(&mut request).expect("a request");
        request[50] ^= 1;
        stream.write_all(&request).expect("the client takes it");
        let _ = stream.read(&mut [0]);
    });
    let args = ["--addr", &addr, "--connections", "1", "--requests", "5", "--size", "100"];
    refuses("echo_client", &args, "other bytes");
    liar.join().expect("the liar");
}

#[test]
fn a_unix_path_can_be_served_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let addr = format!("unix:{}", dir.path().join("again.sock").display());
    for _ in 0..2 {
        let server = Server::start(&["--addr", &addr]);
        assert_eq!(ask(&server, &["--requests", "100"]), 100);
        server.stop();
    }
}
