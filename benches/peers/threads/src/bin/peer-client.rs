//! The client that others are compared with: a thread per connection, blocking calls of `std`, one
//! request at a time, every reply checked.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;

use clap::Parser;

#[derive(Clone, Debug, Parser)]
struct Flags {
    /// HOST:PORT of the server.
    #[arg(long)]
    addr: String,
    /// Requests over all connections.
    #[arg(long, default_value_t = 10_000)]
    requests: u64,
    #[arg(long, default_value_t = 1)]
    connections: u64,
    /// Bytes in each frame.
    #[arg(long, default_value_t = 1024)]
    size: u32,
}

fn main() -> io::Result<()> {
    let flags = Flags::parse();
    let clients: Vec<_> = (0..flags.connections)
        .map(|_| {
            let flags = flags.clone();
            thread::spawn(move || call(&flags))
        })
        .collect();
    clients.into_iter().try_for_each(|client| client.join().expect("no client panics"))
}

fn call(flags: &Flags) -> io::Result<()> {
    let mut stream = TcpStream::connect(&flags.addr)?;
    stream.set_nodelay(true)?;
    let mut request = flags.size.to_be_bytes().to_vec();
    request.extend((0..flags.size).map(|at| at as u8));
    let mut reply = vec![0; request.len()];
    for nth in 0..flags.requests / flags.connections {
        if let Some(last) = request[4..].last_mut() {
            *last = nth as u8;
        }
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
        if reply != request {
            return Err(io::Error::other("wrong bytes came back"));
        }
    }
    Ok(())
}
