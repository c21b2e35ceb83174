//! An interval against a limit, small enough for a line of a table.

use super::line;
use crate::stats::{Estimate, Verdict};

const WIDTH: f64 = 200.0;
const HEIGHT: f64 = 18.0;
/// Where the limit stands, whatever it is.
const LIMIT: f64 = 120.0;

/// What is wanted lies to the left of the line where less is better, and to the right otherwise.
pub(crate) fn whisker(estimate: Estimate, limit: f64, verdict: Verdict) -> String {
    // A limit of nothing at all has no scale of its own.
    let unit = if limit == 0.0 { 1.0 } else { limit };
    let at = |value: f64| {
        let part = if limit == 0.0 { 1.0 + value / unit } else { value / unit };
        (part * LIMIT).clamp(4.0, WIDTH - 4.0)
    };
    let class = match verdict {
        Verdict::Within => "good",
        Verdict::Over => "bad",
        Verdict::Unresolved => "open",
    };
    let middle = HEIGHT / 2.0;
    let mut svg = format!(
        "<svg class='whisker {class}' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' role='img'>"
    );
    line(&mut svg, "track", (0.0, middle), (WIDTH, middle));
    line(&mut svg, "span", (at(estimate.low), middle), (at(estimate.high), middle));
    line(&mut svg, "limit", (LIMIT, 1.0), (LIMIT, HEIGHT - 1.0));
    svg + &format!("<circle cx='{:.1}' cy='{middle}' r='4.5'/></svg>", at(estimate.median))
}
