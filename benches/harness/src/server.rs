//! A server as a process of its own: started on its cores, asked for its figures, ended.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::proc::ProcStatus;
use crate::sys::{self, CpuClock};

/// How long a server may take until it accepts connections, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    clock: CpuClock,
    stderr: Option<JoinHandle<String>>,
    pub(crate) addr: SocketAddrV4,
}

impl Server {
    /// Starts a command in which `{addr}` and `{work}` stand for what they say.
    pub(crate) fn start(
        command: &str,
        work: &[String],
        cores: &[usize],
        envs: &[(&str, &Path)],
        root: &Path,
    ) -> Result<Server> {
        let addr = free_address()?;
        let args = fill_in(command, &[("{addr}", &[addr.to_string()]), ("{work}", work)]);
        let mut command = on_cores(&args, cores, root)?;
        command.envs(envs.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {}", args[0]))?;
        let stderr = child.stderr.take().expect("piped above");
        let stderr = Some(thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.take(64 << 10).read_to_string(&mut text);
            text
        }));
        let clock = CpuClock::of(child.id())?;
        let mut server = Server { child, clock, stderr, addr };
        server.await_listening()?;
        Ok(server)
    }

    fn await_listening(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if TcpStream::connect_timeout(&SocketAddr::V4(self.addr), PATIENCE).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ended ({status}){}", self.complaint());
            }
            if start.elapsed() > PATIENCE {
                bail!("accepts no connections after {PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The last line that it printed to its standard error.
    fn complaint(&mut self) -> String {
        let text = self.stderr.take().and_then(|text| text.join().ok()).unwrap_or_default();
        text.lines().last().map_or_else(String::new, |line| format!(": {line}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time only: what is read right at the edges of a measurement.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        self.clock.now().context("the server is gone")
    }

    pub(crate) fn status(&self) -> Result<ProcStatus> {
        ProcStatus::of(self.pid()).context("the server is gone")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        sys::signal(self.child.id(), libc::SIGTERM);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A command bound to cores, that ends when we do.
pub(crate) fn on_cores(args: &[String], cores: &[usize], root: &Path) -> Result<Command> {
    let program = args.first().context("an empty command")?;
    // A path is one from the root, a bare name one from PATH.
    let program = if program.contains('/') { root.join(program) } else { program.into() };
    let mut command = Command::new(program);
    command.args(&args[1..]).current_dir(root).stdin(Stdio::null());
    let cores = cores.to_vec();
    // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
    unsafe {
        command.pre_exec(move || {
            sys::end_with_parent()?;
            sys::pin(&cores)
        });
    }
    Ok(command)
}

/// The words of a command, with marks replaced by what they stand for.
pub(crate) fn fill_in(command: &str, marks: &[(&str, &[String])]) -> Vec<String> {
    let mut words = Vec::new();
    for word in command.split_whitespace() {
        match marks.iter().find(|(mark, _)| *mark == word) {
            Some((_, values)) => words.extend_from_slice(values),
            None => {
                let filled = marks.iter().fold(word.to_owned(), |word, (mark, values)| {
                    word.replace(mark, &values.join(" "))
                });
                words.push(filled);
            }
        }
    }
    words
}

/// A loopback port that is free just now.
fn free_address() -> Result<SocketAddrV4> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    match listener.local_addr()? {
        SocketAddr::V4(addr) => Ok(addr),
        SocketAddr::V6(addr) => bail!("{addr} is no IPv4 address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_filled_in() {
        let (addr, work) = (["h:1".to_owned()], ["-a", "-b"].map(str::to_owned));
        let marks: [(&str, &[String]); 2] = [("{addr}", &addr), ("{work}", &work)];
        assert_eq!(
            fill_in("x --addr={addr} {work} y", &marks),
            ["x", "--addr=h:1", "-a", "-b", "y"]
        );
        assert_eq!(fill_in("x {work}", &[("{work}", &[])]), ["x"]);
    }

    #[test]
    fn a_server_that_ends_says_why() {
        let root = Path::new("/");
        let cores = sys::cores().unwrap();
        let error = Server::start("sh -c nonsense-{addr}", &[], &cores, &[], root).unwrap_err();
        assert!(error.to_string().contains("ended"), "{error}");
        assert!(error.to_string().contains("not found"), "{error}");
    }
}
