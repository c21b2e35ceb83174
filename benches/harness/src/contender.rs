//! The servers that are compared: how they are configured, built and started.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

/// A server, and how it is started.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Contender {
    pub(crate) name: String,
    /// With `{addr}`, and `{work}` if it can pretend to work.
    pub(crate) command: Option<String>,
    /// The client of the same library, for the scenario that measures clients.
    pub(crate) client: Option<String>,
    /// How it is configured, for whoever judges whether it is treated fairly.
    pub(crate) configuration: &'static str,
    /// Whether it is the project's own.
    pub(crate) ours: bool,
    /// It differs from another only where handlers work, and takes part only there.
    pub(crate) only_at_work: bool,
    /// Why it cannot take part.
    pub(crate) problem: Option<String>,
    #[serde(skip)]
    build: Option<Build>,
}

/// What cargo has to build for it.
#[derive(Clone, Debug)]
struct Build {
    /// From the root.
    manifest: &'static str,
    args: &'static [&'static str],
}

const PEERS: &str = "benches/peers/Cargo.toml";

impl Contender {
    /// One that somebody else built: `name=command with {addr}`.
    pub(crate) fn given(text: &str) -> Result<Contender> {
        let (name, command) = text.split_once('=').context("not `name=command with {addr}`")?;
        ensure!(command.contains("{addr}"), "the command of {name} has no {{addr}}");
        Ok(Contender {
            name: name.trim().to_owned(),
            command: Some(command.trim().to_owned()),
            client: None,
            configuration: "as given on the command line",
            ours: false,
            only_at_work: false,
            problem: None,
            build: None,
        })
    }

    /// The same server under another name.
    pub(crate) fn renamed(&self, name: &str) -> Contender {
        Contender { name: name.to_owned(), ..self.clone() }
    }

    /// Whether it comes from the command line.
    pub(crate) fn is_given(&self) -> bool {
        self.build.is_none()
    }

    /// One that differs only where handlers work, by more flags.
    fn at_work(self, name: &str, flags: &str, configuration: &'static str) -> Contender {
        let command = self.command.map(|command| format!("{command} {flags}"));
        let name = name.to_owned();
        let (client, ours) = (None, false);
        Contender { name, command, configuration, client, ours, only_at_work: true, ..self }
    }

    /// Whether it can pretend to work.
    pub(crate) fn works(&self) -> bool {
        self.command.as_ref().is_some_and(|command| command.contains("{work}"))
    }
}

/// Our server and its peers.
pub(crate) fn known() -> Vec<Contender> {
    let peer =
        |name: &str, args: &'static [&'static str], program: &str, configuration| Contender {
            name: name.to_owned(),
            command: Some(format!(
                "benches/peers/target/release/{program} --addr {{addr}} {{work}}"
            )),
            client: None,
            configuration,
            ours: false,
            only_at_work: false,
            problem: None,
            build: Some(Build { manifest: PEERS, args }),
        };
    let echo = "target/release/examples/echo_server --addr {addr} {work}";
    let tokio = peer(
        "tokio",
        &["-p=peer-tokio", "--bin=peer-tokio-current"],
        "peer-tokio-current",
        "current-thread scheduler; a task per connection, read_buf into BytesMut, write_all; heavy \
         work in spawn_blocking",
    );
    let ours = Contender {
        name: "netpoll".to_owned(),
        command: Some(echo.to_owned()),
        client: Some("target/release/pingpong --addr {addr} {client}".to_owned()),
        configuration: "the example echo_server: a poller per core it may use, runner auto",
        ours: true,
        only_at_work: false,
        problem: None,
        build: Some(Build {
            manifest: "Cargo.toml",
            args: &["-p=netpoll", "-p=benches", "--example=echo_server", "--bin=pingpong"],
        }),
    };
    let pool = ours.clone().at_work(
        "netpoll-pool",
        "--runner=pool",
        "as netpoll, but every handler runs on a pool of up to 128 threads",
    );
    let mut all = vec![
        peer(
            "epoll",
            &["-p=peer-epoll"],
            "peer-epoll",
            "by hand: one thread, edge-triggered, registered once; replies from the buffer of the read; \
             a short read ends reading",
        ),
        ours,
        pool,
        peer(
            "io_uring",
            &["-p=peer-uring"],
            "peer-uring",
            "by hand: one thread, multishot accept and receive, 2,048 provided buffers of 16 KiB, replies \
             from those; single issuer, deferred task work",
        ),
        tokio.clone(),
        tokio.at_work(
            "tokio-naive",
            "--naive",
            "as tokio, but whatever a request does, it does on the scheduler's thread",
        ),
        peer(
            "tokio-multi",
            &["-p=peer-tokio", "--bin=peer-tokio-multi"],
            "peer-tokio-multi",
            "multi-thread scheduler, a worker per core it may use; otherwise as tokio",
        ),
        peer(
            "mio",
            &["-p=peer-mio"],
            "peer-mio",
            "one thread, both interests registered once, reads until it would block, as mio asks",
        ),
        peer(
            "monoio",
            &["-p=peer-monoio"],
            "peer-monoio",
            "one thread, FusionDriver (io_uring where it works), owned buffers; heavy work in \
             spawn_blocking",
        ),
        peer(
            "may",
            &["-p=peer-may"],
            "peer-may",
            "a coroutine per connection, a worker per core it may use, 16 KiB stacks; sleeps with may's \
             own sleep",
        ),
        peer(
            "threads",
            &["-p=peer-threads", "--bin=peer-threads"],
            "peer-threads",
            "a thread per connection with 128 KiB of stack, blocking reads and writes of std",
        ),
    ];
    all[0].build = Some(Build { manifest: PEERS, args: &["-p=peer-epoll", "-p=allocs"] });
    all.push(Contender {
        command: None,
        client: Some("benches/peers/target/release/peer-client --addr {addr} {client}".to_owned()),
        only_at_work: true,
        ..peer(
            "std::net",
            &["-p=peer-threads", "--bin=peer-client"],
            "",
            "a client: blocking reads and writes",
        )
    });
    all
}

/// Builds what is to be built; one that does not build is left with its problem.
pub(crate) fn build(contenders: &mut [Contender], root: &Path) {
    for contender in contenders {
        let Some(build) = &contender.build else { continue };
        let bar = ProgressBar::new_spinner().with_message(format!("building {}", contender.name));
        bar.enable_steady_tick(Duration::from_millis(100));
        let result = cargo(build, root, &bar, &contender.name);
        bar.finish_and_clear();
        match result {
            Ok(()) => eprintln!("built {}", contender.name),
            Err(error) => {
                eprintln!("cannot build {}: {error:#}", contender.name);
                contender.problem = Some(format!("does not build: {error:#}"));
            }
        }
    }
}

fn cargo(build: &Build, root: &Path, bar: &ProgressBar, name: &str) -> Result<()> {
    if !root.join(build.manifest).is_file() {
        bail!("{} is missing", build.manifest);
    }
    let mut child = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--manifest-path", build.manifest])
        .args(build.args)
        .current_dir(root)
        // Ours and the peers' each have their own; one that is set would mix them.
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cargo")?;
    let stderr = child.stderr.take().expect("piped above");
    let (lines, came) = mpsc::channel();
    let reader = thread::spawn(move || {
        use std::io::{BufRead, BufReader};
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    let mut reason = None;
    for line in came {
        if reason.is_none() && line.starts_with("error") {
            reason = Some(line.clone());
        }
        bar.set_message(format!("building {name}: {}", line.trim()));
    }
    let _ = reader.join();
    if child.wait()?.success() {
        return Ok(());
    }
    bail!("{}", reason.unwrap_or_else(|| "cargo failed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_peer_needs_a_place_for_the_address() {
        let peer = Contender::given("go=./server -a {addr} -v").unwrap();
        assert_eq!((&*peer.name, peer.command.as_deref()), ("go", Some("./server -a {addr} -v")));
        assert!(!peer.works());
        assert!(Contender::given("x=y {addr} {work}").unwrap().works());
        assert!(Contender::given("go=./server").is_err());
        assert!(Contender::given("./server {addr}").is_err());
    }
}
