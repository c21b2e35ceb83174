//! Horizontal bars of ratios with their intervals, and a line at 1.

use std::fmt::Write;

use super::{CEILING, LEFT, WIDTH, line, nice_above, open, text, ticks};
use crate::stats::Estimate;

/// One bar with its interval.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) estimate: Estimate,
    pub(crate) kind: &'static str,
}

impl Bar {
    /// The classes of our bar, of what it is compared with, and of all others.
    pub(crate) const OURS: &'static str = "o";
    pub(crate) const BASE: &'static str = "a";
    pub(crate) const OTHER: &'static str = "b";
}

/// Bars under a heading.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

const RIGHT: f64 = 150.0;
const BAR: f64 = 15.0;
const STEP: f64 = 21.0;
const GROUP: f64 = 32.0;
/// Where an axis ends at the latest: what is longer is cut, and says so.
const LONGEST: f64 = 4.0;

pub(crate) fn bars(title: &str, groups: &[Group]) -> String {
    let all = || groups.iter().flat_map(|group| &group.bars);
    let most = all().map(|bar| bar.estimate.high).fold(1.0_f64, f64::max);
    let top = nice_above(most.min(LONGEST));
    let scale = (WIDTH - LEFT - RIGHT) / top;
    let at = |value: f64| LEFT + value.clamp(0.0, top) * scale;
    let has_titles = groups.iter().any(|group| !group.title.is_empty());
    let head = if has_titles { GROUP } else { 8.0 };
    let height =
        CEILING + 26.0 + groups.iter().map(|g| head + STEP * g.bars.len() as f64).sum::<f64>();
    let floor = height - 24.0;
    let mut svg = open(title, height);
    for tick in ticks(top) {
        line(&mut svg, "g", (at(tick), CEILING - 8.0), (at(tick), floor));
        text(
            &mut svg,
            "d n",
            "middle",
            (at(tick), height - 8.0),
            format!("{tick:.2}").trim_end_matches('0').trim_end_matches('.'),
        );
    }
    let mut y = CEILING - 8.0;
    for group in groups {
        text(&mut svg, "h", "start", (8.0, y + 20.0), &group.title);
        y += head;
        for Bar { label, estimate, kind } in &group.bars {
            let Estimate { median, low, high, .. } = *estimate;
            let middle = y + BAR / 2.0;
            text(
                &mut svg,
                if *kind == Bar::OURS { "h" } else { "" },
                "end",
                (LEFT - 8.0, middle + 4.0),
                label,
            );
            let _ = write!(
                svg,
                "<rect class='{kind}' x='{LEFT}' y='{y:.1}' width='{:.1}' height='{BAR}' rx='3'/>",
                at(median) - LEFT
            );
            if low < high {
                line(&mut svg, "i", (at(low), middle), (at(high), middle));
                for end in [low, high].into_iter().filter(|end| *end <= top) {
                    line(&mut svg, "i", (at(end), middle - 4.0), (at(end), middle + 4.0));
                }
            }
            let cut = if high > top { "▸ " } else { "" };
            let numbers = match low == high {
                true => format!("{cut}{median:.2}"),
                false => format!("{cut}{median:.2}  ({low:.2}–{high:.2})"),
            };
            text(&mut svg, "d n", "start", (at(high.max(median)) + 8.0, middle + 4.0), &numbers);
            y += STEP;
        }
    }
    line(&mut svg, "r", (at(1.0), CEILING - 8.0), (at(1.0), floor));
    svg + "</svg>\n"
}
