//! Pollers: which of them gets a connection, and that they come and go without a loss.

mod common;

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use common::{
    PATIENCE, connect, echo, eventually, frame, ping,
    process::{self, Other, argument, descriptors, in_child, say},
    read_frame, serve,
};
use netpoll::{Balance, BuildError, EventLoop, ListenerOptions};

fn spread(event_loop: &EventLoop) -> Vec<usize> {
    event_loop.pollers().iter().map(|poller| poller.connections).collect()
}

fn talking(addr: SocketAddr, clients: usize) -> Vec<TcpStream> {
    let mut clients: Vec<_> = (0..clients).map(|_| connect(addr)).collect();
    clients.iter_mut().for_each(|client| ping(client, b"hello"));
    clients
}

#[test]
fn connections_are_spread_as_asked() {
    let (event_loop, addr) = serve(EventLoop::builder().pollers(3), echo());
    let clients = talking(addr, 12);
    assert_eq!(spread(&event_loop), [4, 4, 4], "one after another");
    let dialer = event_loop.dialer();
    let dialed: Vec<_> = (0..3).map(|_| dialer.dial(addr).unwrap()).collect();
    eventually("both ends of each", || event_loop.connections() == 15);
    assert_eq!(spread(&event_loop).iter().sum::<usize>(), 18);
    drop(dialed);
    drop(clients);
    eventually("none", || spread(&event_loop) == [0, 0, 0]);

    let builder = EventLoop::builder().pollers(3).balance(Balance::LeastConnections);
    let (event_loop, addr) = serve(builder, echo());
    let mut clients = talking(addr, 9);
    assert_eq!(spread(&event_loop), [3, 3, 3]);
    for round in 0..20 {
        // Whoever ends, the next one takes its place.
        drop(clients.swap_remove(round * 7 % clients.len()));
        eventually("one fewer", || event_loop.connections() == 8);
        clients.extend(talking(addr, 1));
        assert_eq!(spread(&event_loop), [3, 3, 3]);
    }

    let (event_loop, addr) =
        serve(EventLoop::builder().pollers(2).balance(Balance::Random), echo());
    let _clients = talking(addr, 64);
    let spread = spread(&event_loop);
    assert!(spread.iter().sum::<usize>() == 64 && spread.iter().all(|&n| n > 5), "{spread:?}");
}

#[test]
fn a_removed_poller_keeps_what_it_has_and_then_goes() {
    if !in_child("a_removed_poller_keeps_what_it_has_and_then_goes") {
        return;
    }
    for (name, runner) in common::runners() {
        let (event_loop, addr) = serve(EventLoop::builder().pollers(1).runner(runner), echo());
        ping(&mut connect(addr), b"warm");
        eventually("none", || event_loop.connections() == 0);
        let before = descriptors();
        event_loop.set_pollers(4).unwrap();
        let mut clients = talking(addr, 8);
        let dialed = (0..4).map(|_| event_loop.dialer().dial(addr).unwrap()).collect::<Vec<_>>();
        eventually("both ends of each", || event_loop.connections() == 12);
        event_loop.set_pollers(1).unwrap();
        let removed = event_loop.pollers().iter().filter(|poller| poller.is_removed).count();
        assert_eq!((event_loop.pollers().len(), removed), (4, 3), "{name}");
        // What they have is served, and nothing new comes to them.
        for _ in 0..3 {
            clients.iter_mut().for_each(|client| ping(client, b"still here"));
        }
        let given: Vec<_> = event_loop.pollers().iter().map(|poller| poller.given).collect();
        clients.extend(talking(addr, 5));
        let now: Vec<_> = event_loop.pollers().iter().map(|poller| poller.given).collect();
        assert_eq!((now[0], &now[1..]), (given[0] + 5, &given[1..]), "{name}");
        // They go one by one, with their connections: a dialed one counts as well.
        drop(clients);
        eventually("the dialed ones", || event_loop.connections() == dialed.len());
        assert!(dialed.iter().all(|conn| conn.handle().is_active()));
        assert!(event_loop.pollers().len() > 1, "{name}");
        drop(dialed);
        eventually("the removed ones' end", || event_loop.pollers().len() == 1);
        eventually("their descriptors' end", || descriptors() <= before);
        // And the one that stayed goes on.
        ping(&mut connect(addr), b"hello");
        event_loop.set_pollers(2).unwrap();
        let clients = talking(addr, 4);
        event_loop.set_pollers(1).unwrap();
        // A loop ends with pollers that are on their way out.
        event_loop.shutdown(PATIENCE).unwrap();
        drop(clients);
        assert!(matches!(event_loop.set_pollers(2), Err(BuildError::Ending)));
    }
}

#[test]
fn a_number_of_pollers_that_cannot_be() {
    let event_loop = EventLoop::builder().pollers(1).build().unwrap();
    for pollers in [0, 1025, usize::MAX] {
        let error = event_loop.set_pollers(pollers).unwrap_err();
        assert!(matches!(error, BuildError::Option { option: "pollers", .. }), "{error}");
        assert!(error.to_string().contains(&pollers.to_string()));
    }
    assert_eq!(event_loop.pollers().len(), 1);
}

#[test]
fn a_listener_per_poller() {
    let event_loop = EventLoop::builder().pollers(2).build().unwrap();
    let listener = ListenerOptions::new().per_poller(true).bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().as_inet().unwrap();
    event_loop.listen(listener, echo()).unwrap();
    let clients = talking(addr, 64);
    let has = spread(&event_loop);
    assert!(has.iter().sum::<usize>() == 64 && has.iter().all(|&n| n > 0), "{has:?}");
    drop(clients);
    eventually("none", || event_loop.connections() == 0);
    // While clients come and go without a pause, so do pollers: nobody is reset.
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let knocking: Vec<_> = (0..2)
        .map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || {
                while !stop.load(SeqCst) {
                    ping(&mut connect(addr), b"is anybody there?");
                    served.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for pollers in [1, 3, 2, 4, 1, 2] {
        let before = served.load(SeqCst);
        event_loop.set_pollers(pollers).unwrap();
        eventually("more clients", || served.load(SeqCst) > before + 10);
    }
    stop.store(true, SeqCst);
    knocking.into_iter().for_each(|thread| thread.join().unwrap());
    event_loop.shutdown(PATIENCE).unwrap();
    assert!(TcpStream::connect(addr).is_err(), "all of its sockets are closed");
    // Only Internet addresses can be shared.
    assert!(ListenerOptions::new().per_poller(true).bind("unix:@netpoll-test-shared").is_err());
}

#[test]
fn pollers_come_and_go_while_connections_talk() {
    if !in_child("pollers_come_and_go_while_connections_talk") {
        return;
    }
    let (many, rounds) = if common::stress(100) == 100 { (500, 300) } else { (60, 24) };
    let (service, requests) = common::counting_echo();
    let (event_loop, addr) = serve(EventLoop::builder().pollers(2), service);
    let many = process::as_many(many);
    let before = descriptors();
    let arguments = [("addr", addr.to_string()), ("many", many.to_string())];
    let mut clients = Other::start("clients_that_talk", &arguments);
    assert_eq!(clients.next(), "connected");
    for pollers in [1, 4, 2, 7, 3, 1, 5, 2].into_iter().cycle().take(rounds) {
        let then = requests.load(SeqCst);
        event_loop.set_pollers(pollers).unwrap();
        assert!(event_loop.pollers().iter().filter(|poller| !poller.is_removed).count() == pollers);
        eventually("more requests", || requests.load(SeqCst) >= then + many);
    }
    clients.tell("enough");
    let answered: usize = clients.next().parse().unwrap();
    assert_eq!(answered, requests.load(SeqCst), "as many as were handled");
    clients.end();
    event_loop.set_pollers(2).unwrap();
    eventually("the removed ones' end", || event_loop.pollers().len() == 2);
    eventually("their descriptors' end", || descriptors() <= before);
}

/// Keeps its connections talking, and has some of them come back as new ones, until told to stop.
#[test]
#[ignore = "run by others, as: cargo test -p netpoll --test pollers pollers_come_and_go"]
fn clients_that_talk() {
    let Some(addr) = argument("addr") else { return };
    let addr: SocketAddr = addr.parse().unwrap();
    let many: usize = argument("many").unwrap().parse().unwrap();
    process::as_many(many);
    let mut conns: Vec<_> = (0..many).map(|_| connect(addr)).collect();
    say("connected");
    let enough = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&enough);
    thread::spawn(move || {
        process::hear();
        told.store(true, SeqCst);
    });
    let mut answered = 0;
    while !enough.load(SeqCst) {
        let body = |i: usize| common::pattern(1 + (i * 37 + answered) % 3000, i + answered);
        for (i, conn) in conns.iter_mut().enumerate() {
            conn.write_all(&frame(&body(i))).unwrap();
        }
        for (i, conn) in conns.iter_mut().enumerate() {
            assert!(read_frame(conn).unwrap() == body(i), "connection {i}");
        }
        answered += many;
        for i in 0..many.div_ceil(10) {
            conns[(answered + i * 11) % many] = connect(addr);
        }
    }
    say(answered);
}
