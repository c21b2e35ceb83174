//! A thread per connection, with blocking reads and writes of `std`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;

use common::{Flags, READ, Work, frames};

fn main() -> io::Result<()> {
    let flags = Flags::read();
    let work: &'static Work = Box::leak(Box::new(flags.work()));
    let listener = flags.listen()?;
    flags.announce(listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let serve = move || drop(serve(stream, work));
        // Where threads run out, that connection is refused.
        drop(thread::Builder::new().stack_size(128 << 10).spawn(serve));
    }
}

fn serve(mut stream: TcpStream, work: &Work) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buffer[filled..])?;
        if n == 0 {
            return Ok(());
        }
        filled += n;
        let found = frames(&buffer[..filled])?;
        if found.count > 0 {
            work.take(&found).run();
            stream.write_all(&buffer[..found.bytes])?;
            buffer.copy_within(found.bytes..filled, 0);
            filled -= found.bytes;
        }
        if let Some(next) = found.next.filter(|next| *next > buffer.len()) {
            buffer.resize(next, 0);
        }
    }
}
