//! The figures that runs yield: their names, what a reader calls them, and which way is better.

use std::collections::BTreeMap;

/// The figures of one run, by name.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// CPU time of the server per request, in microseconds.
pub(crate) const CPU: &str = "cpu_us";
pub(crate) const RATE: &str = "requests_per_s";
pub(crate) const P50: &str = "p50_us";
pub(crate) const P99: &str = "p99_us";
pub(crate) const P999: &str = "p999_us";
/// The 99th percentile of requests that did not sleep or burn themselves, at most.
pub(crate) const OTHERS_P99: &str = "others_p99_us";
/// The 99th percentile on the light connection.
pub(crate) const LIGHT_P99: &str = "light_p99_us";
/// Throughput, of what the sleeping of the handlers allows.
pub(crate) const ALLOWED: &str = "of_allowed";
/// From the first of many connections at once to the last reply.
pub(crate) const TIME: &str = "time_ms";
/// CPU of the whole server, as a share of one core.
pub(crate) const SHARE: &str = "core_percent";
/// The same without its busiest thread.
pub(crate) const ASIDE: &str = "aside_percent";
/// Context switches of all threads but the busiest, per second.
pub(crate) const ASIDE_WAKES: &str = "aside_wakes_per_s";
/// Context switches of all threads, per second.
pub(crate) const WAKES: &str = "wakes_per_s";
pub(crate) const MEMORY: &str = "resident_mib";
pub(crate) const THREADS: &str = "threads";
pub(crate) const SWITCHES: &str = "switches_per_request";

/// What is known of a figure.
struct About {
    name: &'static str,
    title: &'static str,
    /// Above a column.
    short: &'static str,
    unit: &'static str,
    less: bool,
}

/// In the order of the report.
const ALL: [About; 17] = {
    const fn about(name: &'static str, title: &'static str, short: &'static str) -> About {
        About { name, title, short, unit: "µs", less: true }
    }
    [
        about(CPU, "CPU per request", "CPU/req µs"),
        About { unit: "/s", less: false, ..about(RATE, "requests per second", "req/s") },
        about(P50, "p50 latency", "p50 µs"),
        about(P99, "p99 latency", "p99 µs"),
        about(P999, "p99.9 latency", "p99.9 µs"),
        about(OTHERS_P99, "p99 of the other requests", "others' p99 µs"),
        about(LIGHT_P99, "p99 of the light connection", "light p99 µs"),
        About {
            unit: "",
            less: false,
            ..about(ALLOWED, "throughput of what sleeping allows", "of allowed")
        },
        About { unit: "ms", ..about(TIME, "time until all are answered", "time ms") },
        About { unit: "%", ..about(SHARE, "CPU of the server, of a core", "core %") },
        About { unit: "%", ..about(ASIDE, "CPU beside the busiest thread, of a core", "aside %") },
        About {
            unit: "/s",
            ..about(ASIDE_WAKES, "wake-ups beside the busiest thread", "aside wakes/s")
        },
        About { unit: "/s", ..about(WAKES, "wake-ups per second", "wakes/s") },
        About { unit: "MiB", ..about(MEMORY, "resident memory", "MiB") },
        About { unit: "", ..about(THREADS, "threads", "threads") },
        About { unit: "", ..about(SWITCHES, "context switches per request", "switches/req") },
        // What a name given by hand, or by an old report, falls back to.
        About { unit: "", ..about("", "", "") },
    ]
};

/// The names, in the order of the report.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|about| about.name).filter(|name| !name.is_empty())
}

fn about(name: &str) -> &'static About {
    ALL.iter().find(|about| about.name == name).unwrap_or(&ALL[ALL.len() - 1])
}

pub(crate) fn title(name: &str) -> &'static str {
    about(name).title
}

pub(crate) fn short(name: &str) -> &'static str {
    about(name).short
}

pub(crate) fn unit(name: &str) -> &'static str {
    about(name).unit
}

pub(crate) fn less_is_better(name: &str) -> bool {
    about(name).less
}
