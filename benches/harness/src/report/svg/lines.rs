//! Lines over a load, both axes logarithmic.

use std::fmt::Write;

use super::{CEILING, COLOURS, Logarithmic, WIDTH, line, open, text, time};
use crate::report::short;

/// One line of a plot, by its points.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) ours: bool,
}

const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 120.0;

pub(crate) fn lines(title: &str, x_label: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let bottom = HEIGHT - 46.0;
    let ys = Logarithmic::over(points().map(|point| point.1), (bottom, CEILING));
    let mut rates: Vec<f64> = points().map(|point| point.0).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let (Some(first), Some(last)) = (rates.first().copied(), rates.last().copied()) else {
        return String::new();
    };
    let span = (last / first).ln().max(1e-9);
    let at_x = |x: f64| LEFT + (x / first).ln() / span * (RIGHT - LEFT);

    let mut svg = open(title, HEIGHT);
    for value in ys.ticks() {
        line(&mut svg, "g", (LEFT, ys.at(value)), (RIGHT, ys.at(value)));
        text(&mut svg, "d n", "end", (LEFT - 8.0, ys.at(value) + 4.0), &time(value));
    }
    for rate in rates {
        line(&mut svg, "g", (at_x(rate), CEILING), (at_x(rate), bottom));
        text(&mut svg, "d n", "middle", (at_x(rate), bottom + 18.0), &short(rate));
    }
    let mut labels: Vec<(f64, usize, &Line)> = Vec::new();
    // Ours last, so that it lies above the others.
    let (ours, others): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| line.ours);
    let coloured = others.into_iter().enumerate().map(|(at, one)| (1 + at % COLOURS, one));
    for (colour, one) in coloured.chain(ours.into_iter().map(|one| (0, one))) {
        let class = if one.ours { "l u" } else { "l" };
        let path: Vec<String> =
            one.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), ys.at(*y))).collect();
        let _ = write!(
            svg,
            "<g class='k{colour}'><polyline class='{class}' stroke='currentColor' points='{}'/>",
            path.join(" ")
        );
        for (x, y) in &one.points {
            let r = if one.ours { 4.5 } else { 3.0 };
            let _ = write!(
                svg,
                "<circle cx='{:.1}' cy='{:.1}' r='{r}' fill='currentColor'/>",
                at_x(*x),
                ys.at(*y)
            );
        }
        svg += "</g>";
        if let Some((_, y)) = one.points.last() {
            labels.push((ys.at(*y), colour, one));
        }
    }
    // Names at the ends of their lines, pushed apart where they would overlap.
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = labels.len();
    let mut last = f64::MIN;
    for (at, (y, colour, one)) in labels.into_iter().enumerate() {
        let lowest = bottom - 14.0 * (count - 1 - at) as f64;
        let y = y.min(lowest).max(last + 14.0);
        let _ = write!(svg, "<g class='k{colour}'>");
        let weight = if one.ours { ";font-weight:600" } else { "" };
        let _ = write!(
            svg,
            "<text x='{:.1}' y='{:.1}' style='fill:currentColor{weight}'>{}</text></g>",
            RIGHT + 10.0,
            y + 4.0,
            super::escape(&one.label)
        );
        last = y;
    }
    text(&mut svg, "d", "middle", ((LEFT + RIGHT) / 2.0, HEIGHT - 8.0), x_label);
    svg + "</svg>\n"
}
