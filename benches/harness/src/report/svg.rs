//! Plots, drawn without help: they must stand in a page that loads nothing.

use std::fmt::Write;

use super::short;
use crate::stats::Estimate;

/// One bar with its interval.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) estimate: Estimate,
    pub(crate) ours: bool,
}

/// Bars under a heading.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// One line of a plot, by its points.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) ours: bool,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 130.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;
const GROUP: f64 = 34.0;

/// Colours for light and dark pages; a picture in a README has only what it brings itself.
const STYLE: &str = "<style>\
text{font:12px system-ui,sans-serif;fill:#24292f}.t{font-weight:600;font-size:13px}.d{fill:#57606a}\
.b{fill:#9aa7b5}.o{fill:#0969da}.i{stroke:#24292f;stroke-width:1.4}.g{stroke:#d0d7de}.r{stroke:#cf222e;\
stroke-dasharray:4 3}.l{fill:none;stroke-width:1.8}.u{stroke-width:3.2}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.d{fill:#9198a1}.b{fill:#5b6774}.o{fill:#4493f8}\
.i{stroke:#e6edf3}.g{stroke:#3d444d}}</style>";

/// Colours that can be told apart, on light and on dark.
const COLOURS: [&str; 10] = [
    "#0969da", "#8250df", "#bf3989", "#cf222e", "#bc4c00", "#9a6700", "#1a7f37", "#1b7c83",
    "#57606a", "#6e7781",
];

/// Horizontal bars of ratios, with a line at 1.
pub(crate) fn bars(title: &str, groups: &[Group]) -> String {
    let most = groups
        .iter()
        .flat_map(|group| &group.bars)
        .map(|bar| bar.estimate.high)
        .fold(1.0_f64, f64::max);
    let top = nice_above(most);
    let scale = (WIDTH - LEFT - RIGHT) / top;
    let height =
        60.0 + groups.iter().map(|group| GROUP + STEP * group.bars.len() as f64).sum::<f64>();
    let mut svg = open(title, height);
    let mut y = 34.0;
    for tick in ticks(top) {
        let x = LEFT + tick * scale;
        let _ = write!(
            svg,
            "<line class='g' x1='{x:.1}' y1='40' x2='{x:.1}' y2='{:.1}'/>\
             <text class='d' x='{x:.1}' y='{:.1}' text-anchor='middle'>{tick}</text>",
            height - 22.0,
            height - 8.0
        );
    }
    for group in groups {
        let _ = write!(svg, "<text x='8' y='{:.1}'>{}</text>", y + 22.0, escape(&group.title));
        y += GROUP;
        for bar in &group.bars {
            let Estimate { median, low, high, .. } = bar.estimate;
            let class = if bar.ours { "o" } else { "b" };
            let middle = y + BAR / 2.0;
            let _ = write!(
                svg,
                "<text x='{:.1}' y='{:.1}' text-anchor='end'>{}</text>\
                 <rect class='{class}' x='{LEFT}' y='{y:.1}' width='{:.1}' height='{BAR}' rx='2'/>\
                 <line class='i' x1='{:.1}' y1='{middle:.1}' x2='{:.1}' y2='{middle:.1}'/>",
                LEFT - 8.0,
                middle + 4.0,
                escape(&bar.label),
                median * scale,
                LEFT + low * scale,
                LEFT + high * scale,
            );
            for end in [low, high] {
                let x = LEFT + end * scale;
                let _ = write!(
                    svg,
                    "<line class='i' x1='{x:.1}' y1='{:.1}' x2='{x:.1}' y2='{:.1}'/>",
                    middle - 4.0,
                    middle + 4.0
                );
            }
            let numbers = match low == high {
                true => format!("{median:.2}"),
                false => format!("{median:.2} ({low:.2}–{high:.2})"),
            };
            let x = LEFT + high * scale + 8.0;
            let _ =
                write!(svg, "<text class='d' x='{x:.1}' y='{:.1}'>{numbers}</text>", middle + 4.0);
            y += STEP;
        }
    }
    let x = LEFT + scale;
    let _ =
        write!(svg, "<line class='r' x1='{x:.1}' y1='40' x2='{x:.1}' y2='{:.1}'/>", height - 22.0);
    svg + "</svg>\n"
}

/// Lines over a load, both axes logarithmic.
pub(crate) fn lines(title: &str, x_label: &str, y_label: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let bounds = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)))
    };
    let (x_low, x_high) = bounds(&mut points().map(|point| point.0));
    let (y_low, y_high) = bounds(&mut points().map(|point| point.1));
    let (y_low, y_high) =
        (y_low.log10().floor(), y_high.log10().ceil().max(y_low.log10().floor() + 1.0));
    let height = 380.0;
    let (bottom, ceiling) = (height - 46.0, 40.0);
    let right = WIDTH - RIGHT;
    let x_span = (x_high.log10() - x_low.log10()).max(1e-9);
    let at_x = |x: f64| LEFT / 2.0 + (x.log10() - x_low.log10()) / x_span * (right - LEFT / 2.0);
    let at_y = |y: f64| bottom - (y.log10() - y_low) / (y_high - y_low) * (bottom - ceiling);

    let mut svg = open(title, height);
    for power in y_low as i32..=y_high as i32 {
        let value = 10_f64.powi(power);
        let y = at_y(value);
        let _ = write!(
            svg,
            "<line class='g' x1='{:.1}' y1='{y:.1}' x2='{right:.1}' y2='{y:.1}'/>\
             <text class='d' x='{:.1}' y='{:.1}' text-anchor='end'>{}</text>",
            LEFT / 2.0,
            LEFT / 2.0 - 6.0,
            y + 4.0,
            short(value).trim_end_matches(".00").trim_end_matches(".0")
        );
    }
    let mut rates: Vec<f64> = points().map(|point| point.0).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    for rate in rates {
        let x = at_x(rate);
        let _ = write!(
            svg,
            "<line class='g' x1='{x:.1}' y1='{ceiling}' x2='{x:.1}' y2='{bottom:.1}'/>\
             <text class='d' x='{x:.1}' y='{:.1}' text-anchor='middle'>{}</text>",
            bottom + 16.0,
            short(rate)
        );
    }
    let mut labels: Vec<(f64, String)> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let colour = if line.ours { COLOURS[0] } else { COLOURS[1 + at % (COLOURS.len() - 1)] };
        let class = if line.ours { "l u" } else { "l" };
        let path: Vec<String> =
            line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
        let _ = write!(
            svg,
            "<polyline class='{class}' stroke='{colour}' points='{}'/>",
            path.join(" ")
        );
        for (x, y) in &line.points {
            let (x, y) = (at_x(*x), at_y(*y));
            let _ = write!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}'/>");
        }
        if let Some((_, y)) = line.points.last() {
            let text = format!("fill='{colour}' style='fill:{colour}'>{}", escape(&line.label));
            labels.push((at_y(*y), text));
        }
    }
    // Names at the ends of their lines, pushed apart where they would overlap.
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut last = f64::MIN;
    let lowest = |rest: usize| bottom - 14.0 * rest as f64;
    let count = labels.len();
    for (at, (y, text)) in labels.into_iter().enumerate() {
        let y = y.min(lowest(count - 1 - at)).max(last + 14.0);
        let _ = write!(svg, "<text x='{:.1}' y='{:.1}' {text}</text>", right + 8.0, y + 4.0);
        last = y;
    }
    let _ = write!(
        svg,
        "<text class='d' x='{:.1}' y='{:.1}' text-anchor='middle'>{}</text>\
         <text class='d' x='8' y='{:.1}'>{}</text>",
        (LEFT / 2.0 + right) / 2.0,
        height - 8.0,
        escape(x_label),
        ceiling - 6.0,
        escape(y_label)
    );
    svg + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' role='img'>\
         <title>{0}</title>{STYLE}<text class='t' x='8' y='20'>{0}</text>",
        escape(title)
    )
}

/// The end of an axis: the next number a person would choose.
fn nice_above(most: f64) -> f64 {
    let unit = 10_f64.powf(most.log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * unit).find(|end| *end >= most).unwrap_or(most)
}

fn ticks(top: f64) -> Vec<f64> {
    let step = [0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
        .into_iter()
        .find(|step| top / step <= 8.0)
        .unwrap_or(top);
    (0..=(top / step + 1e-9) as u32).map(|at| f64::from(at) * step).collect()
}

/// Text as it may stand in a document.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}
