//! tokio's current-thread scheduler.

use std::io;

fn main() -> io::Result<()> {
    let flags = common::Flags::read();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(peer_tokio::run(flags))
}
