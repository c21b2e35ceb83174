//! What is measured: a load, what its runs are compared with, and what the project promises about it.

mod bar;
mod list;

use serde::Serialize;

pub(crate) use bar::{Bar, Judged};
pub(crate) use list::all;

use crate::load::{Crowd, Pace};

/// A load, and how it is judged.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scenario {
    /// Its name on the command line and in the report.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) kind: Kind,
    pub(crate) against: Against,
    /// The figures that it is about, the first of them above all.
    pub(crate) heads: Vec<&'static str>,
    /// What our own server should keep to.
    pub(crate) bars: Vec<Bar>,
    #[serde(skip)]
    pub(crate) field: Field,
    #[serde(skip)]
    pub(crate) places: Places,
    /// Whether `--quick` runs it.
    #[serde(skip)]
    pub(crate) quick: bool,
    /// A run takes so many times longer than others.
    pub(crate) stretch: u32,
    /// A run warms up for so many milliseconds at least, where what a server does at its beginning would
    /// show in the figures.
    pub(crate) settle_ms: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Servers under our load.
    Server(Setup),
    /// So many connections at once, each with one request.
    Accept { connections: usize, window: usize },
    /// Clients of the base, one request at a time.
    Client { frame: usize, requests: u64 },
}

/// A server and the load on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Setup {
    pub(crate) connections: usize,
    pub(crate) frame: usize,
    pub(crate) pace: Pace,
    /// Connections that are there besides.
    pub(crate) crowd: Crowd,
    /// How many requests a second come on one more connection; they are empty, so that they are no work.
    pub(crate) light: Option<f64>,
    /// What handlers pretend to do.
    pub(crate) work: Option<Work>,
    /// The server has only so many of its cores, and as many pollers.
    pub(crate) cores: Option<usize>,
}

/// Every so often a handler sleeps, or burns CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Work {
    pub(crate) burns: bool,
    pub(crate) micros: u64,
    pub(crate) every: u64,
}

/// What the runs of a server are compared with.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Against {
    /// The base's runs before and after.
    Base,
    /// The runs of another server.
    Server(&'static str),
    /// Its own runs under another load, in turns.
    Itself { setup: Box<Setup>, what: &'static str },
}

/// Who takes part, besides the servers given on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    /// All that differ while handlers do nothing.
    All,
    These(&'static [&'static str]),
}

/// Where a scenario says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Places {
    One,
    Two,
    Both,
}

impl Work {
    /// The flags for the server.
    fn flags(self) -> [String; 2] {
        let name = if self.burns { "work" } else { "block" };
        [format!("--{name}-us={}", self.micros), format!("--{name}-every={}", self.every)]
    }
}

impl Setup {
    /// A closed loop, and nothing besides.
    pub(crate) fn closed(connections: usize, frame: usize, depth: u64) -> Setup {
        Setup {
            connections,
            frame,
            pace: Pace::Closed { depth },
            crowd: Crowd::default(),
            light: None,
            work: None,
            cores: None,
        }
    }

    /// The flags that stand for `{work}`.
    pub(crate) fn flags(&self) -> Vec<String> {
        let work = self.work.into_iter().flat_map(Work::flags);
        work.chain(self.cores.map(|cores| format!("--pollers={cores}"))).collect()
    }
}

impl Scenario {
    pub(crate) fn setup(&self) -> Option<&Setup> {
        match &self.kind {
            Kind::Server(setup) => Some(setup),
            _ => None,
        }
    }

    /// Whether its servers need the flags for pretended work.
    pub(crate) fn works(&self) -> bool {
        self.setup().is_some_and(|setup| !setup.flags().is_empty())
    }

    /// Whether latency over load is what it shows, at a rate that is the same for all.
    pub(crate) fn rate(&self) -> Option<f64> {
        match self.setup()? {
            Setup { pace: Pace::Open { per_second }, work: None, .. } => Some(*per_second),
            _ => None,
        }
    }

    /// What its ratios are to.
    pub(crate) fn beside(&self, base: &str) -> String {
        match &self.against {
            Against::Base => base.to_owned(),
            Against::Server(name) => (*name).to_owned(),
            Against::Itself { what, .. } => format!("itself {what}"),
        }
    }
}
