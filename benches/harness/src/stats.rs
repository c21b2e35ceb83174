//! Medians with intervals that assume nothing about the noise, and verdicts that wait for them.

use serde::Serialize;

/// How sure an interval is meant to be.
const CONFIDENCE: f64 = 0.95;

/// The median of repeated measurements, and where the true one lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// How sure the interval is: below 0.95 where there are fewer than six measurements.
    pub(crate) coverage: f64,
    pub(crate) rounds: usize,
}

/// How an estimate compares with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// The whole interval lies on the right side of the limit.
    Within,
    /// The whole interval lies on the wrong side.
    Over,
    /// The interval straddles the bar, or is not sure enough.
    Unresolved,
}

impl Estimate {
    /// From order statistics: of n values, the k-th from below and the k-th from above enclose the
    /// median unless fewer than k of them fell on one side, which is a matter of tossing n coins.
    pub(crate) fn of(values: &[f64]) -> Option<Estimate> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        if n == 0 {
            return None;
        }
        let median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
        let mut k = 1;
        while 2 * (k + 1) <= n && covered(n, k + 1) >= CONFIDENCE {
            k += 1;
        }
        Some(Estimate {
            median,
            low: sorted[k - 1],
            high: sorted[n - k],
            coverage: covered(n, k),
            rounds: n,
        })
    }

    /// Compares with a limit for the median and one for the end of the interval, which are the same
    /// where an interval that straddles the limit is to decide nothing. `less` is what is wanted.
    pub(crate) fn verdict(&self, limit: f64, reach: f64, less: bool) -> Verdict {
        // Turned around where more is wanted.
        let sign = if less { 1.0 } else { -1.0 };
        let (near, far) = if less { (self.low, self.high) } else { (self.high, self.low) };
        if self.coverage < CONFIDENCE {
            Verdict::Unresolved
        } else if sign * self.median <= sign * limit && sign * far <= sign * reach {
            Verdict::Within
        } else if sign * near > sign * limit {
            Verdict::Over
        } else {
            Verdict::Unresolved
        }
    }
}

/// How likely the k-th values from both ends of n enclose the median.
fn covered(n: usize, k: usize) -> f64 {
    let mut ways = 0.5_f64.powi(n as i32);
    let mut outside = 0.0;
    for heads in 0..k {
        outside += ways;
        ways *= (n - heads) as f64 / (heads + 1) as f64;
    }
    (1.0 - 2.0 * outside).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Estimate {
        Estimate::of(values).unwrap()
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        let twenty: Vec<f64> = (1..=20).map(f64::from).collect();
        let estimate = of(&twenty);
        // The 6th and the 15th of 20 cover 95.86 %.
        assert_eq!((estimate.median, estimate.low, estimate.high), (10.5, 6.0, 15.0));
        assert!((estimate.coverage - 0.9586).abs() < 1e-4);
        let six = of(&twenty[..6]);
        assert_eq!((six.low, six.high), (1.0, 6.0));
        assert!((six.coverage - 0.96875).abs() < 1e-9);
    }

    #[test]
    fn too_few_rounds_resolve_nothing() {
        let five = of(&[1.0; 5]);
        assert!(five.coverage < 0.95);
        assert_eq!(five.verdict(2.0, 2.0, true), Verdict::Unresolved);
        assert_eq!(of(&[3.0]).coverage, 0.0);
        assert!(Estimate::of(&[]).is_none());
        assert!(Estimate::of(&[f64::NAN]).is_none());
    }

    #[test]
    fn an_interval_on_both_sides_of_a_bar_is_unresolved() {
        let estimate = of(&[1.0, 1.1, 1.2, 1.3, 1.4, 1.5]);
        let verdict = |limit| estimate.verdict(limit, limit, true);
        assert_eq!(verdict(1.5), Verdict::Within);
        assert_eq!(verdict(0.9), Verdict::Over);
        assert_eq!(verdict(1.25), Verdict::Unresolved);
        let at_least = |limit| estimate.verdict(limit, limit, false);
        assert_eq!(at_least(1.0), Verdict::Within);
        assert_eq!(at_least(1.6), Verdict::Over);
        assert_eq!(at_least(1.25), Verdict::Unresolved);
    }

    #[test]
    fn an_interval_may_reach_further_than_the_median() {
        let estimate = of(&[1.0, 1.1, 1.2, 1.3, 1.4, 1.5]);
        assert_eq!(estimate.verdict(1.25, 1.5, true), Verdict::Within);
        assert_eq!(estimate.verdict(1.25, 1.4, true), Verdict::Unresolved);
    }

    #[test]
    fn one_outlier_moves_nothing() {
        let mut values = vec![1.0; 19];
        values.push(100.0);
        let estimate = of(&values);
        assert_eq!((estimate.median, estimate.low, estimate.high), (1.0, 1.0, 1.0));
    }
}
