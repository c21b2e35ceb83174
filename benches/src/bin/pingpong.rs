//! Our client in its plainest form: dial once, write a request, wait for the reply, check it. Prints a line
//! `NAME VALUE` for each figure: `pingpong --addr=HOST:PORT --requests=N --size=BYTES`.

use std::env;
use std::error::Error;
use std::time::Instant;

use netpoll::{EventLoop, Reader, ReaderExt, Writer};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn flag(name: &str) -> Result<String> {
    let value =
        env::args().find_map(|arg| Some(arg.strip_prefix(name)?.strip_prefix('=')?.to_owned()));
    // `--name value` will do as well.
    let next = || env::args().skip_while(|arg| arg != name).nth(1);
    value.or_else(next).ok_or_else(|| format!("{name} is missing").into())
}

fn main() -> Result<()> {
    let requests: usize = flag("--requests")?.parse()?;
    let size: u32 = flag("--size")?.parse()?;
    let event_loop = EventLoop::new()?;
    let mut conn = event_loop.dialer().dial(&flag("--addr")?)?;
    let mut body: Vec<u8> = (0..size).map(|at| at as u8).collect();
    let mut nanos = Vec::with_capacity(requests);
    let begin = Instant::now();
    for nth in 0..requests {
        if let Some(last) = body.last_mut() {
            *last = nth as u8;
        }
        let start = Instant::now();
        conn.malloc(4)?.put_u32(size);
        conn.write_binary(&body)?;
        conn.flush()?;
        let len = u32::from_be_bytes(conn.read_array()?);
        let reply = conn.next(len as usize)?;
        nanos.push(start.elapsed().as_nanos() as u64);
        if reply != body {
            return Err("wrong bytes came back".into());
        }
        conn.release();
    }
    println!("requests_per_s {:.1}", requests as f64 / begin.elapsed().as_secs_f64());
    nanos.sort_unstable();
    for (name, part) in [("p50_us", 0.5), ("p99_us", 0.99)] {
        let at = (nanos.len() as f64 * part) as usize;
        println!("{name} {:.3}", nanos.get(at).map_or(0.0, |nanos| *nanos as f64 / 1e3));
    }
    Ok(())
}
