//! The scenarios there are.

use super::{Against, Bar, Field, Kind, Places, Scenario, Setup, Work};
use crate::figure;
use crate::load::{Crowd, Pace};

/// Descriptors that a process needs besides those of its connections.
const SPARE: u64 = 512;
/// A loop, an async runtime, and threads: where more peers would say the same.
const FEW: Field = Field::These(&["netpoll", "epoll", "tokio", "threads"]);
/// Those that can pretend to work, each in its own way.
const WORKERS: Field = Field::These(&["netpoll", "epoll", "tokio", "tokio-naive", "threads"]);
const MILLI: u64 = 1000;
/// By then our watchdog has found that nothing blocks: it looks at a new server more often than later.
const SETTLE_MS: u64 = 500;
/// What handlers that burn may cost a light connection: the watchdog's 10 ms, its look, and as much
/// again for a kernel that has other threads to run.
const LIGHT_MICROS: f64 = 20_000.0;

/// All scenarios, within so many descriptors. The second part says what had to be scaled down.
pub(crate) fn all(descriptors: u64) -> (Vec<Scenario>, Vec<String>) {
    let mut scaled = Vec::new();
    let room = usize::try_from(descriptors.saturating_sub(SPARE)).unwrap_or(usize::MAX);
    let mut scale = |wanted: usize, what: &str| {
        let possible = wanted.min(room.saturating_sub(100));
        if possible < wanted {
            scaled.push(format!(
                "{wanted} {what} became {possible}: {descriptors} descriptors allowed"
            ));
        }
        possible
    };
    let mut all = plain();
    all.push(idle(scale(8000, "idle connections")));
    all.extend(open());
    all.extend(working());
    all.extend(hostile(scale(2000, "slow senders"), scale(1000, "idle attackers")));
    all.extend(connecting(scale(10_000, "connections at once")));
    all.extend(resting());
    all.push(scaling());
    (all, scaled)
}

fn scenario(id: &'static str, title: impl Into<String>, setup: Setup) -> Scenario {
    Scenario {
        id,
        title: title.into(),
        kind: Kind::Server(setup),
        against: Against::Base,
        heads: vec![figure::CPU],
        bars: Vec::new(),
        field: Field::All,
        places: Places::One,
        quick: false,
        stretch: 1,
        settle_ms: 0,
    }
}

/// Closed loops of handlers that only echo.
fn plain() -> Vec<Scenario> {
    let bar = Bar::ratio(figure::CPU, 1.03).reaching(1.06);
    let mut all: Vec<Scenario> = [
        ("c1", "1 connection, 1 KiB", 1, 1024, 1, bar),
        ("c100", "100 connections, 1 KiB", 100, 1024, 1, bar),
        ("c1000", "1,000 connections, 1 KiB", 1000, 1024, 1, bar),
        (
            "pipelined",
            "50 connections, 64 B, pipelined 32 deep",
            50,
            64,
            32,
            Bar::ratio(figure::CPU, 1.1),
        ),
        ("large", "8 connections, 256 KiB", 8, 256 << 10, 1, Bar::ratio(figure::CPU, 1.05)),
    ]
    .into_iter()
    .map(|(id, title, connections, frame, depth, bar)| Scenario {
        bars: vec![bar],
        places: if matches!(id, "c1000" | "large") { Places::One } else { Places::Both },
        quick: matches!(id, "c1" | "c100" | "pipelined"),
        // Where the server sleeps between requests, each wake-up of another thread shows.
        settle_ms: if id == "c1" { SETTLE_MS } else { 0 },
        ..scenario(id, title, Setup::closed(connections, frame, depth))
    })
    .collect();
    // What grows in it first takes a while.
    all[4].stretch = 2;
    all
}

fn idle(idle: usize) -> Scenario {
    let alone = Setup::closed(100, 1024, 1);
    let setup = Setup { crowd: Crowd { idle, ..Crowd::default() }, ..alone.clone() };
    Scenario {
        against: Against::Itself { setup: Box::new(alone), what: "without the idle ones" },
        bars: vec![Bar::ratio(figure::CPU, 1.05)],
        field: FEW,
        ..scenario("idle", format!("100 connections beside {idle} idle ones, 1 KiB"), setup)
    }
}

fn open() -> impl Iterator<Item = Scenario> {
    let rates = [
        ("open-2k", "2,000", 2e3),
        ("open-10k", "10,000", 1e4),
        ("open-25k", "25,000", 2.5e4),
        ("open-50k", "50,000", 5e4),
    ];
    rates.into_iter().map(|(id, rate, per_second)| {
        let setup = Setup { pace: Pace::Open { per_second }, ..Setup::closed(100, 1024, 1) };
        let title = format!("{rate} requests/s over 100 connections, 1 KiB");
        Scenario { heads: vec![figure::P50, figure::P99], ..scenario(id, title, setup) }
    })
}

/// Handlers that sleep or burn.
fn working() -> Vec<Scenario> {
    let now_and_then = |id, title, connections, burns, every| {
        let quiet = Setup { pace: Pace::HalfPeak, ..Setup::closed(connections, 1024, 1) };
        let work = Work { burns, micros: 5 * MILLI, every };
        let setup = Setup { work: Some(work), ..quiet.clone() };
        let best_of = if burns { 3 } else { 1 };
        Scenario {
            against: Against::Itself { setup: Box::new(quiet), what: "without them" },
            heads: vec![figure::P50, figure::OTHERS_P99],
            bars: vec![
                Bar::ratio(figure::P50, 1.5).best_of(best_of),
                Bar::above(figure::OTHERS_P99, 3000.0).best_of(best_of),
            ],
            field: WORKERS,
            places: if burns { Places::Two } else { Places::One },
            quick: !burns,
            stretch: 2,
            ..scenario(id, title, setup)
        }
    };
    let burning = |id, title, millis| {
        let work = Work { burns: true, micros: millis * MILLI, every: 1 };
        let setup = Setup { work: Some(work), light: Some(50.0), ..Setup::closed(16, 1024, 1) };
        Scenario {
            against: Against::Server("netpoll-pool"),
            heads: vec![figure::RATE, figure::LIGHT_P99],
            bars: vec![Bar::ratio(figure::RATE, 0.95), Bar::value(figure::LIGHT_P99, LIGHT_MICROS)],
            field: Field::These(&["netpoll", "tokio", "threads"]),
            places: if millis > 1 { Places::One } else { Places::Both },
            // A cycle of all connections takes 16 times as long as one burns, and replies come at its
            // end where they share a core fairly: a slice holds ten cycles, not seven and a half.
            stretch: if millis > 1 { 8 } else { 2 },
            ..scenario(id, title, setup)
        }
    };
    let sleep = Work { burns: false, micros: 5 * MILLI, every: 1 };
    let sleeping = Setup { work: Some(sleep), ..Setup::closed(100, 1024, 1) };
    vec![
        now_and_then("block", "half the peak rate, 1 in 100 sleeps 5 ms", 100, false, 100),
        // Behind a request that sleeps, those of its own connection wait: that is their order, and no
        // server's doing. The more connections, the fewer these are.
        now_and_then(
            "block-1000",
            "half the peak rate over 1,000 connections, 1 in 100 sleeps 5 ms",
            1000,
            false,
            100,
        ),
        now_and_then("burn", "half the peak rate, 1 in 1,000 burns 5 ms of CPU", 100, true, 1000),
        burning("burn-1ms", "16 connections whose requests burn 1 ms, beside a light one", 1),
        burning("burn-20ms", "16 connections whose requests burn 20 ms, beside a light one", 20),
        Scenario {
            heads: vec![figure::ALLOWED],
            bars: vec![Bar::value(figure::ALLOWED, 0.9)],
            field: WORKERS,
            stretch: 2,
            ..scenario("sleepers", "100 connections whose requests all sleep 5 ms", sleeping)
        },
    ]
}

/// Good clients beside others that are not.
fn hostile(slow: usize, idle: usize) -> Vec<Scenario> {
    let beside = |id, title: String, connections, crowd, limit| {
        let alone = Setup::closed(connections, 1024, 1);
        let setup = Setup { crowd, ..alone.clone() };
        Scenario {
            against: Against::Itself { setup: Box::new(alone), what: "without them" },
            heads: vec![figure::P99, figure::P50],
            bars: vec![Bar::ratio(figure::P99, limit)],
            field: FEW,
            stretch: 2,
            ..scenario(id, title, setup)
        }
    };
    let senders = Crowd { slow, ..Crowd::default() };
    let title = format!("a good client beside {slow} that send 1 byte/s of a 1 KiB frame");
    // A quarter of each kind of attacker but the idle ones.
    let attackers = Crowd { idle, half_open: idle / 2, slow: idle / 2 };
    let all = attackers.idle + attackers.half_open + attackers.slow;
    vec![
        beside("slow", title, 1, senders, 2.0),
        beside("attack", format!("50 good clients beside {all} attackers"), 50, attackers, 3.0),
    ]
}

/// Connections that come and go, and clients.
fn connecting(at_once: usize) -> Vec<Scenario> {
    let churn = Setup { pace: Pace::Churn, ..Setup::closed(64, 1024, 1) };
    let accept = scenario("accept", format!("{at_once} connections at once"), churn.clone());
    let client = Kind::Client { frame: 1024, requests: 5000 };
    let title = "client ping-pong beside blocking std::net, 1 connection, 1 KiB";
    vec![
        Scenario {
            heads: vec![figure::RATE, figure::CPU],
            bars: vec![Bar::ratio(figure::RATE, 0.95), Bar::ratio(figure::CPU, 1.1)],
            ..scenario("churn", "a connection per request, 64 at once, 1 KiB", churn.clone())
        },
        Scenario {
            kind: Kind::Accept { connections: at_once, window: 2048 },
            heads: vec![figure::TIME, figure::CPU],
            field: FEW,
            ..accept
        },
        Scenario {
            kind: client,
            against: Against::Server("std::net"),
            heads: vec![figure::P50, figure::CPU],
            bars: vec![Bar::ratio(figure::P50, 1.05)],
            field: Field::These(&["netpoll"]),
            ..scenario("client", title, churn)
        },
    ]
}

/// What a server costs besides its requests.
fn resting() -> Vec<Scenario> {
    let busy = Setup::closed(100, 1024, 1);
    let quiet = Setup { pace: Pace::Rest, ..busy.clone() };
    vec![
        Scenario {
            heads: vec![figure::WAKES, figure::SHARE],
            bars: vec![Bar::value(figure::WAKES, 0.0), Bar::value(figure::SHARE, 0.1)],
            field: Field::These(&["netpoll", "epoll", "tokio-multi"]),
            stretch: 2,
            ..scenario("rest", "100 connections that ask for nothing", quiet)
        },
        Scenario {
            heads: vec![figure::ASIDE, figure::ASIDE_WAKES],
            bars: vec![Bar::value(figure::ASIDE, 0.5)],
            field: Field::These(&["netpoll"]),
            stretch: 2,
            settle_ms: SETTLE_MS,
            ..scenario("watch", "what threads cost that serve no request, 100 connections", busy)
        },
    ]
}

/// From one poller on one core to two on two, which the load shares: the handlers do most of the work.
fn scaling() -> Scenario {
    let work = Some(Work { burns: true, micros: 50, every: 1 });
    let two = Setup { work, cores: Some(2), ..Setup::closed(100, 1024, 1) };
    let one = Setup { cores: Some(1), ..two.clone() };
    Scenario {
        against: Against::Itself { setup: Box::new(one), what: "on one core" },
        heads: vec![figure::RATE],
        field: Field::These(&["netpoll", "tokio-multi", "may"]),
        places: Places::Two,
        stretch: 2,
        ..scenario("scale", "two pollers on two cores, requests that burn 50 µs", two)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowds_follow_the_limit_of_descriptors() {
        let idle = |descriptors| {
            let (all, scaled) = all(descriptors);
            let beside = all.iter().find(|scenario| scenario.id == "idle").unwrap();
            (beside.setup().unwrap().crowd.idle, scaled.len())
        };
        assert_eq!(idle(20_000), (8000, 0));
        assert_eq!(idle(10_000), (8000, 1));
        assert_eq!(idle(1024), (412, 4));
        assert_eq!(idle(100), (0, 4));
    }

    #[test]
    fn names_are_unique() {
        let (all, _) = all(20_000);
        let mut ids: Vec<_> = all.iter().map(|scenario| scenario.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
    }

    #[test]
    fn every_figure_that_is_asked_for_is_known() {
        let (all, _) = all(20_000);
        for scenario in &all {
            let bars = scenario.bars.iter().map(|bar| bar.figure);
            for name in scenario.heads.iter().copied().chain(bars) {
                assert!(figure::names().any(|known| known == name), "{name}");
            }
        }
    }

    #[test]
    fn work_becomes_flags() {
        let (all, _) = all(20_000);
        let flags = |id| all.iter().find(|one| one.id == id).unwrap().setup().unwrap().flags();
        assert_eq!(flags("block"), ["--block-us=5000", "--block-every=100"]);
        assert_eq!(flags("scale"), ["--work-us=50", "--work-every=1", "--pollers=2"]);
        assert!(flags("c1").is_empty());
    }
}
