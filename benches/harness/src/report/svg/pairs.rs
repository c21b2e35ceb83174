//! Two times for each server on a logarithmic axis: from the hollow dot to the full one.

use std::fmt::Write;

use super::{CEILING, LEFT, Logarithmic, WIDTH, line, open, text, time};

/// A server with both.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) label: String,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) ours: bool,
}

const RIGHT: f64 = WIDTH - 150.0;
const STEP: f64 = 26.0;

/// `legend` says what the hollow dot and the full one stand for.
pub(crate) fn pairs(title: &str, legend: (&str, &str), pairs: &[Pair]) -> String {
    let values = pairs.iter().flat_map(|pair| [pair.from, pair.to]);
    let axis = Logarithmic::over(values, (LEFT, RIGHT));
    let height = CEILING + 20.0 + STEP * pairs.len() as f64 + 30.0;
    let floor = height - 26.0;
    let mut svg = open(title, height);
    let _ = write!(
        svg,
        "<circle class='e' cx='16' cy='37' r='4'/><circle class='p' cx='{0}' cy='37' r='5'/>",
        LEFT + 86.0
    );
    text(&mut svg, "d", "start", (26.0, 41.0), legend.0);
    text(&mut svg, "d", "start", (LEFT + 97.0, 41.0), legend.1);
    for value in axis.ticks() {
        line(&mut svg, "g", (axis.at(value), CEILING + 6.0), (axis.at(value), floor));
        text(&mut svg, "d n", "middle", (axis.at(value), height - 8.0), &time(value));
    }
    let mut y = CEILING + 24.0;
    for Pair { label, from, to, ours } in pairs {
        let (x1, x2) = (axis.at(*from), axis.at(*to));
        let (track, dot, ring, name) =
            if *ours { ("wo", "o", "eo", "h") } else { ("w", "p", "e", "") };
        text(&mut svg, name, "end", (LEFT - 12.0, y + 4.0), label);
        line(&mut svg, track, (x1, y), (x2, y));
        let _ = write!(
            svg,
            "<circle class='{ring}' cx='{x1:.1}' cy='{y:.1}' r='4.5'/>\
             <circle class='{dot}' cx='{x2:.1}' cy='{y:.1}' r='6'/>"
        );
        let numbers = format!("{} → {}", time(*from), time(*to));
        text(&mut svg, "d n", "start", (x1.max(x2) + 12.0, y + 4.0), &numbers);
        y += STEP;
    }
    svg + "</svg>\n"
}
