//! Connections that become sockets again.

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
};

use common::{PATIENCE, connect, eventually, serve};
use netpoll::{Callbacks, Error, EventLoop, Handle, Reader, Writer};

#[test]
fn detached_in_a_handler() {
    for (name, runner) in common::runners() {
        let (send, sockets) = mpsc::channel();
        let send = Mutex::new(send);
        let closed = Arc::new(AtomicUsize::new(0));
        let closes = Arc::clone(&closed);
        let service = Callbacks::new(move |handle: &Handle| {
            let closes = Arc::clone(&closes);
            handle.on_close(move |_| {
                closes.fetch_add(1, SeqCst);
            });
            Ok(())
        })
        .on_request(move |conn, ()| {
            assert_eq!(conn.next(5)?, b"hello");
            conn.write_binary(b"bye")?;
            send.lock().unwrap().send(conn.detach()?)?;
            assert!(matches!(conn.next(1), Err(Error::Closed)));
            assert!(matches!(conn.detach(), Err(Error::Closed)));
            Ok(())
        })
        .on_close(|_, (), _| panic!("it is not closed by the loop"));
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), service);
        let mut client = connect(addr);
        client.write_all(b"hello, you").unwrap();
        let detached = sockets.recv_timeout(PATIENCE).unwrap();
        let mut socket = TcpStream::from(detached.socket);
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = vec![0; 5 - detached.unread.len()];
        socket.read_exact(&mut rest).unwrap();
        assert_eq!([detached.unread, rest].concat(), b", you", "{name}");
        let mut bytes = [0; 8];
        socket.write_all(b"hello").unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"byehello");
        eventually("it has left", || event_loop.connections() == 0);
        eventually("its close callback", || closed.load(SeqCst) == 1);
    }
}
