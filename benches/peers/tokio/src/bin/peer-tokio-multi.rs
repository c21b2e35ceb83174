//! tokio's multi-thread scheduler, with as many workers as the process may use cores.

use std::io;

fn main() -> io::Result<()> {
    let flags = common::Flags::read();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = flags.pollers {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_io().build()?;
    // Accepting in a task of its own, not in `block_on`, whose thread is no worker.
    runtime
        .block_on(async { tokio::spawn(peer_tokio::run(flags)).await.map_err(io::Error::other)? })
}
