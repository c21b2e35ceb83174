//! The hot paths, each repeated as often as asked, for `cargo xtask instructions` to count under
//! valgrind: `instructions PATH COUNT`.
//!
//! Two runs with different counts cancel out what happens once.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use linkbuffer::{LinkBuffer, Reader, ReaderExt, Writer};
use netpoll::{EventLoop, LengthPrefixed, Listener, WriterExt, service_fn};

type Result = std::result::Result<(), Box<dyn Error + Send + Sync>>;

/// What a frame carries.
const BODY: [u8; 1024] = [7; 1024];

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    let [path, count] = &args[..] else { return Err("instructions PATH COUNT".into()) };
    let count = count.parse()?;
    match &**path {
        "malloc-free" => malloc_free(count),
        "frame-write" => frame(count, |buffer, len| buffer.skip(len)),
        "frame-read" => frame(count, |buffer, _| {
            let len = u32::from_be_bytes(buffer.read_array()?);
            black_box(buffer.next(len as usize)?);
            Ok(())
        }),
        "slice" => frame(count, |buffer, len| {
            black_box(buffer.slice(len)?);
            Ok(())
        }),
        "echo" => echo(count),
        "dispatch" => dispatch(count),
        _ => Err(format!("there is no path {path}").into()),
    }
}

/// A block taken and given back.
fn malloc_free(count: usize) -> Result {
    for _ in 0..count {
        black_box(mcache::malloc(black_box(1024)));
    }
    Ok(())
}

/// A frame written, flushed, taken by `read`, and released.
fn frame(count: usize, read: impl Fn(&LinkBuffer, usize) -> linkbuffer::Result<()>) -> Result {
    let mut buffer = LinkBuffer::new();
    for _ in 0..count {
        buffer.malloc(4)?.put_u32(BODY.len() as u32);
        buffer.write_binary(black_box(&BODY))?;
        let len = Writer::flush(&mut buffer)?;
        read(&buffer, len)?;
        buffer.release();
    }
    Ok(())
}

/// What a connection does with its two buffers for one request that is echoed, without the sockets:
/// receive, frame, slice, answer, send, and give every block back.
fn echo(count: usize) -> Result {
    let (mut input, mut received) = LinkBuffer::new().into_split();
    let (mut sent, mut output) = LinkBuffer::new().into_split();
    let mut request = (BODY.len() as u32).to_be_bytes().to_vec();
    request.extend(BODY);
    for _ in 0..count {
        black_box(received.occupied());
        let room = received.book(4096)?;
        // SAFETY: the room is larger than the request, which it gets.
        unsafe {
            room.as_mut_ptr().copy_from_nonoverlapping(request.as_ptr().cast(), request.len());
            received.book_ack(request.len());
        }
        black_box(received.occupied());

        black_box(input.is_ended());
        let head: [u8; 4] = black_box(&input).peek(4)?.try_into()?;
        let len = 4 + u32::from_be_bytes(head) as usize;
        assert!(len <= input.len());
        output.write_bytes(input.slice(len)?)?;
        output.flush()?;

        sent.release();
        while !black_box(sent.chunk()).is_empty() {
            let len = sent.len();
            sent.skip(len)?;
            sent.release();
        }
        output.seal();
        black_box((input.len(), input.held()));
        input.release();
        received.seal();
        input.release();
    }
    Ok(())
}

/// A request over a loopback connection, handled and answered; the client is in the count.
fn dispatch(count: usize) -> Result {
    let event_loop = EventLoop::builder().pollers(1).build()?;
    let listener = Listener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let echo = service_fn(|conn| {
        let (r, w) = conn.split();
        w.write_bytes(r.slice(r.len())?)?;
        w.flush()?;
        Ok(())
    });
    event_loop.listen(listener, echo.framing(LengthPrefixed::u32_be()))?;

    let mut stream = TcpStream::connect(addr.to_string())?;
    stream.set_nodelay(true)?;
    let mut request = (BODY.len() as u32).to_be_bytes().to_vec();
    request.extend(BODY);
    let mut reply = vec![0; request.len()];
    for _ in 0..count {
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
    }
    drop(stream);
    event_loop.shutdown(Duration::from_secs(2)).map_err(|_| "the loop did not end".into())
}
