//! What our server should keep to, and whether it does.

use serde::Serialize;

use crate::figure;
use crate::report::Outcome;
use crate::stats::{Estimate, Verdict};

/// A limit on one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Bar {
    pub(crate) figure: &'static str,
    pub(crate) measure: Measure,
    /// For the median; the interval must not straddle it, unless `reach` says how far it may go.
    pub(crate) limit: f64,
    /// For the end of the interval.
    pub(crate) reach: Option<f64>,
    /// Where noise only ever adds, the best of so many runs counts as one.
    pub(crate) best_of: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Measure {
    /// Divided by what it is compared with.
    Ratio,
    /// Above what it is compared with.
    Above,
    /// As it is.
    Value,
}

impl Bar {
    pub(crate) const fn ratio(figure: &'static str, limit: f64) -> Bar {
        Bar { figure, measure: Measure::Ratio, limit, reach: None, best_of: 1 }
    }

    pub(crate) const fn above(figure: &'static str, limit: f64) -> Bar {
        Bar { measure: Measure::Above, ..Bar::ratio(figure, limit) }
    }

    pub(crate) const fn value(figure: &'static str, limit: f64) -> Bar {
        Bar { measure: Measure::Value, ..Bar::ratio(figure, limit) }
    }

    pub(crate) const fn reaching(self, reach: f64) -> Bar {
        Bar { reach: Some(reach), ..self }
    }

    pub(crate) const fn best_of(self, best_of: usize) -> Bar {
        Bar { best_of, ..self }
    }

    /// What was measured of it.
    pub(crate) fn estimate(&self, outcome: &Outcome) -> Option<Estimate> {
        let figure = outcome.figures.get(self.figure)?;
        let values = match self.measure {
            Measure::Ratio => &figure.ratios,
            Measure::Above => &figure.above,
            Measure::Value => &figure.values,
        };
        let less = figure::less_is_better(self.figure);
        let best =
            |some: &[f64]| some.iter().copied().reduce(if less { f64::min } else { f64::max });
        let values: Vec<f64> = values.chunks_exact(self.best_of.max(1)).filter_map(best).collect();
        Estimate::of(&values)
    }

    /// Compares.
    pub(crate) fn judge(&self, outcome: &Outcome) -> Option<Judged> {
        let estimate = self.estimate(outcome)?;
        let less = figure::less_is_better(self.figure);
        let verdict = estimate.verdict(self.limit, self.reach.unwrap_or(self.limit), less);
        let unit = figure::unit(self.figure);
        let (digits, unit, what) = match self.measure {
            Measure::Ratio => (3, "×", ""),
            Measure::Above => (0, unit, ", added"),
            Measure::Value if self.limit > 100.0 => (0, unit, ""),
            Measure::Value => (2, unit, ""),
        };
        let best = match self.best_of {
            0 | 1 => String::new(),
            n => format!(", best of {n}"),
        };
        let Estimate { median, low, high, .. } = estimate;
        let side = if less { "at most" } else { "at least" };
        let reach = self.reach.map_or_else(String::new, |reach| format!(", interval to {reach}"));
        Some(Judged {
            bar: *self,
            estimate,
            verdict,
            what: format!("{}{what}{best}", figure::title(self.figure)),
            measured: format!("{median:.digits$} ({low:.digits$} to {high:.digits$}) {unit}")
                .trim_end()
                .to_owned(),
            wanted: format!("{side} {} {unit}{reach}", self.limit).trim_end().to_owned(),
        })
    }
}

/// A bar, and what came out.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) bar: Bar,
    pub(crate) estimate: Estimate,
    pub(crate) verdict: Verdict,
    pub(crate) what: String,
    pub(crate) measured: String,
    pub(crate) wanted: String,
}

impl Judged {
    pub(crate) fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Within => "kept",
            Verdict::Over => "MISSED",
            Verdict::Unresolved => "unresolved",
        }
    }
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Judged { what, measured, wanted, .. } = self;
        write!(f, "{}: {what}: {measured}, wanted {wanted}", self.word())
    }
}
