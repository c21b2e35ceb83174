//! Latencies, counted in buckets that are at most 1.6 % wide.

/// Each power of two is cut into so many buckets.
const PARTS: u64 = 64;

/// Counts nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub(crate) fn record(&mut self, nanos: u64) {
        let at = bucket(nanos);
        if at >= self.buckets.len() {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += 1;
        self.count += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }

    /// Without the `count` smallest of those that are at least `nanos`.
    pub(crate) fn without(&self, count: u64, nanos: u64) -> Histogram {
        let mut rest = self.clone();
        let mut left = count;
        for bucket in rest.buckets.iter_mut().skip(bucket(nanos)) {
            let taken = left.min(*bucket);
            *bucket -= taken;
            left -= taken;
        }
        rest.count -= count - left;
        rest
    }

    /// The value that a share of `part` (0 to 1) does not exceed; 0 if nothing was recorded.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(at);
            }
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    if value < 2 * PARTS {
        return value as usize;
    }
    let shift = value.ilog2() - PARTS.ilog2();
    (u64::from(shift) * PARTS + (value >> shift)) as usize
}

/// The value in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * PARTS {
        return bucket;
    }
    let shift = bucket / PARTS - 1;
    let low = (bucket - shift * PARTS) << shift;
    low + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        for value in 1..20_000 {
            assert!(bucket(value) - bucket(value - 1) <= 1, "{value}");
        }
        for value in (0..20_000).chain((1..40).map(|shift| 1_u64 << shift)) {
            let error = middle(bucket(value)).abs_diff(value) as f64;
            assert!(error <= value as f64 * 0.008 + 0.5, "{value}");
        }
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        for (part, expected) in
            [(0.5, 500_000), (0.99, 990_000), (0.999, 999_000), (1.0, 1_000_000)]
        {
            let got = histogram.quantile(part);
            assert!(got.abs_diff(expected) < expected / 60, "{part}: {got}");
        }
        histogram.clear();
        assert_eq!(histogram.quantile(0.5), 0);
    }

    #[test]
    fn the_smallest_beyond_a_bound_are_left_out() {
        let mut histogram = Histogram::default();
        for nanos in [1, 50, 100, 101, 102, 5000] {
            histogram.record(nanos);
        }
        let rest = histogram.without(2, 100);
        assert_eq!(
            (rest.count, rest.quantile(0.6), rest.quantile(1.0)),
            (4, 102, middle(bucket(5000)))
        );
        assert_eq!(histogram.without(9, 100).quantile(1.0), 50);
    }
}
