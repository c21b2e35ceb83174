//! Contenders that take turns in short slices: what else the machine does meets them alike, and what is
//! compared are times of one round.

/// How many rounds are measured, behind one that warms up.
pub const ROUNDS: usize = 20;

/// What the rounds say of one contender.
#[derive(Clone, Copy, Debug)]
pub struct Medians {
    /// Its time, in the unit that it was given in.
    pub time: f64,
    /// What it takes of the first contender's time in the same round.
    pub ratio: f64,
    /// The median ratio is not below this, nor above `high`, 95.9 % of the time.
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// Lets `contenders` take turns; `time` runs one of them for a slice.
pub fn rounds(contenders: usize, mut time: impl FnMut(usize) -> f64) -> Vec<Medians> {
    let mut times = vec![Vec::new(); contenders];
    for round in 0..=ROUNDS {
        for place in 0..contenders {
            // Nobody is always the first.
            let at = (place + round) % contenders;
            let time = time(at);
            if round > 0 {
                times[at].push(time);
            }
        }
    }
    times.iter().map(|own| medians(own, &times[0])).collect()
}

fn medians(own: &[f64], first: &[f64]) -> Medians {
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let middle = |values: &[f64]| (values[ROUNDS / 2 - 1] + values[ROUNDS / 2]) / 2.0;
    let ratios = sorted(own.iter().zip(first).map(|(own, first)| own / first).collect());
    // Order statistics 6 and 15 of 20.
    Medians {
        time: middle(&sorted(own.to_vec())),
        ratio: middle(&ratios),
        low: ratios[5],
        high: ratios[14],
    }
}

/// Nanoseconds as a person would write them.
pub fn time(nanos: f64) -> String {
    match nanos {
        nanos if nanos < 100.0 => format!("{nanos:.1} ns"),
        nanos if nanos < 1e3 => format!("{nanos:.0} ns"),
        nanos if nanos < 1e5 => format!("{:.1} µs", nanos / 1e3),
        nanos => format!("{:.0} µs", nanos / 1e3),
    }
}
