//! What is measured: the loads, by name.

use serde::Serialize;

use crate::load::Pace;

/// A load, and what a handler has to do under it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scenario {
    /// Its name on the command line and in the report.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) kind: Kind,
    /// Whether `--quick` runs it.
    #[serde(skip)]
    pub(crate) quick: bool,
    /// Whether the project promises a ratio here.
    pub(crate) has_bar: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Servers under our load.
    Server {
        connections: usize,
        idle: usize,
        frame: usize,
        pace: Pace,
        /// Flags for the server.
        work: Vec<&'static str>,
    },
    /// Clients of the base, one request at a time.
    Client { connections: usize, frame: usize, requests: u64 },
}

impl Scenario {
    /// Whether its servers need the flags for pretended work.
    pub(crate) fn works(&self) -> bool {
        matches!(&self.kind, Kind::Server { work, .. } if !work.is_empty())
    }

    /// Whether latency is what it shows, at a rate that is the same for all.
    pub(crate) fn rate(&self) -> Option<f64> {
        match self.kind {
            Kind::Server { pace: Pace::Open { per_second }, .. } => Some(per_second),
            _ => None,
        }
    }
}

/// Descriptors that a process needs besides those of its connections.
const SPARE: u64 = 512;

/// All scenarios, within so many descriptors. The second part says what had to be scaled down.
pub(crate) fn all(descriptors: u64) -> (Vec<Scenario>, Vec<String>) {
    let closed = |id, title: &str, connections, frame, depth| Scenario {
        id,
        title: title.to_owned(),
        kind: Kind::Server {
            connections,
            idle: 0,
            frame,
            pace: Pace::Closed { depth },
            work: Vec::new(),
        },
        quick: false,
        has_bar: false,
    };
    let open = |id, title: String, per_second, work: &[&'static str]| Scenario {
        id,
        title,
        kind: Kind::Server {
            connections: 100,
            idle: 0,
            frame: 1024,
            pace: Pace::Open { per_second },
            work: work.to_vec(),
        },
        quick: false,
        has_bar: false,
    };
    let mut all = vec![
        closed("c1", "1 connection, 1 KiB", 1, 1024, 1),
        closed("c100", "100 connections, 1 KiB", 100, 1024, 1),
        closed("c1000", "1,000 connections, 1 KiB", 1000, 1024, 1),
        closed("pipelined", "50 connections, 64 B, pipelined 32 deep", 50, 64, 32),
        closed("large", "8 connections, 256 KiB", 8, 256 << 10, 1),
    ];
    for scenario in &mut all {
        scenario.has_bar = scenario.id.starts_with('c');
        scenario.quick = matches!(scenario.id, "c1" | "c100" | "pipelined");
    }

    let mut scaled = Vec::new();
    let room = usize::try_from(descriptors.saturating_sub(SPARE + 100)).unwrap_or(usize::MAX);
    let idle = room.min(8000);
    if idle < 8000 {
        scaled.push(format!(
            "8,000 idle connections became {idle}: {descriptors} descriptors allowed"
        ));
    }
    let mut beside = closed("idle", &format!("100 active beside {idle} idle, 1 KiB"), 100, 1024, 1);
    if let Kind::Server { idle: count, .. } = &mut beside.kind {
        *count = idle;
    }
    all.push(beside);

    for (id, rate) in
        [("open-2k", 2_000), ("open-10k", 10_000), ("open-25k", 25_000), ("open-50k", 50_000)]
    {
        let title = format!("{rate} requests/s over 100 connections, 1 KiB");
        all.push(open(id, title, f64::from(rate), &[]));
    }
    // Fewer than 1 in 100, so that p99 is about the requests that do not sleep themselves.
    let title = "2,000 requests/s, 1 in 200 sleeps 5 ms".to_owned();
    let mut blocking = open("block", title, 2000.0, &["--block-us=5000", "--block-every=200"]);
    blocking.quick = true;
    all.push(blocking);
    let title = "2,000 requests/s, 1 in 200 burns 5 ms of CPU".to_owned();
    all.push(open("burn", title, 2000.0, &["--work-us=5000", "--work-every=200"]));

    let mut churn = closed("churn", "a connection per request, 64 at once, 1 KiB", 64, 1024, 1);
    if let Kind::Server { pace, .. } = &mut churn.kind {
        *pace = Pace::Churn;
    }
    all.push(churn);
    all.push(Scenario {
        id: "client",
        title: "client ping-pong, 1 connection, 1 KiB".to_owned(),
        kind: Kind::Client { connections: 1, frame: 1024, requests: 10_000 },
        quick: false,
        has_bar: false,
    });
    (all, scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_follow_the_limit_of_descriptors() {
        let idle = |descriptors| {
            let (all, scaled) = all(descriptors);
            let beside = all.iter().find(|scenario| scenario.id == "idle").unwrap();
            let Kind::Server { idle, .. } = beside.kind else { unreachable!() };
            (idle, scaled.len())
        };
        assert_eq!(idle(20_000), (8000, 0));
        assert_eq!(idle(1024), (412, 1));
        assert_eq!(idle(100), (0, 1));
    }

    #[test]
    fn names_are_unique() {
        let (all, _) = all(20_000);
        let mut ids: Vec<_> = all.iter().map(|scenario| scenario.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
    }
}
