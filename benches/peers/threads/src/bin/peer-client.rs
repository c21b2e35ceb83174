//! The client that others are compared with: blocking calls of `std`, one request at a time, every reply
//! checked. Prints a line `NAME VALUE` for each figure.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use clap::Parser;

#[derive(Clone, Debug, Parser)]
struct Flags {
    /// HOST:PORT of the server.
    #[arg(long)]
    addr: String,
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Bytes in each frame.
    #[arg(long, default_value_t = 1024)]
    size: u32,
}

fn main() -> io::Result<()> {
    let flags = Flags::parse();
    let mut stream = TcpStream::connect(&flags.addr)?;
    stream.set_nodelay(true)?;
    let mut request = flags.size.to_be_bytes().to_vec();
    request.extend((0..flags.size).map(|at| at as u8));
    let mut reply = vec![0; request.len()];
    let mut nanos = Vec::with_capacity(flags.requests);
    let begin = Instant::now();
    for nth in 0..flags.requests {
        if let Some(last) = request[4..].last_mut() {
            *last = nth as u8;
        }
        let start = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
        nanos.push(start.elapsed().as_nanos() as u64);
        if reply != request {
            return Err(io::Error::other("wrong bytes came back"));
        }
    }
    println!("requests_per_s {:.1}", flags.requests as f64 / begin.elapsed().as_secs_f64());
    nanos.sort_unstable();
    for (name, part) in [("p50_us", 0.5), ("p99_us", 0.99)] {
        let at = (nanos.len() as f64 * part) as usize;
        println!("{name} {:.3}", nanos.get(at).map_or(0.0, |nanos| *nanos as f64 / 1e3));
    }
    Ok(())
}
