//! Plots, drawn without help: they must stand in a page that loads nothing.

mod bars;
mod lines;
mod pairs;
mod whisker;

use std::fmt::Write;

pub(crate) use bars::{Bar, Group, bars};
pub(crate) use lines::{Line, lines};
pub(crate) use pairs::{Pair, pairs};
pub(crate) use whisker::whisker;

const WIDTH: f64 = 820.0;
const LEFT: f64 = 116.0;
/// Where the plot itself begins, below its title.
const CEILING: f64 = 46.0;

/// Colours for light and dark pages; a picture in a README has only what it brings itself.
const STYLE: &str = include_str!("svg/plot.css");

/// How many colours there are besides ours, which is the first.
const COLOURS: usize = 8;

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg class='plot' xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0}' \
         width='{WIDTH}' role='img'><title>{0}</title><style>{STYLE}</style><text class='t' x='8' y='20'>{0}</text>",
        escape(title)
    )
}

fn text(svg: &mut String, class: &str, anchor: &str, (x, y): (f64, f64), text: &str) {
    let _ = write!(
        svg,
        "<text class='{class}' x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{}</text>",
        escape(text)
    );
}

fn line(svg: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ =
        write!(svg, "<line class='{class}' x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}'/>");
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

/// A logarithmic axis between two round numbers.
struct Logarithmic {
    low: f64,
    high: f64,
    /// Where its ends are drawn.
    ends: (f64, f64),
}

impl Logarithmic {
    fn over(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Logarithmic {
        let positive = values.filter(|value| *value > 0.0);
        let (least, most) = positive.fold((1e9, 0.0_f64), |(l, m), v| (f64::min(l, v), m.max(v)));
        let low = round_numbers().take_while(|n| *n <= least).last().unwrap_or(least);
        let above = round_numbers().find(|n| *n >= most && *n > low);
        Logarithmic { low, high: above.unwrap_or(most), ends }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.max(1e-9) / self.low).ln() / (self.high / self.low).ln();
        self.ends.0 + part.clamp(0.0, 1.0) * (self.ends.1 - self.ends.0)
    }

    /// As many round numbers as there is room for.
    fn ticks(&self) -> Vec<f64> {
        let all = round_numbers().filter(|n| (self.low..=self.high).contains(n));
        let all: Vec<f64> = all.collect();
        if all.len() <= 7 {
            return all;
        }
        all.into_iter().filter(|n| (n.log10() - n.log10().round()).abs() < 1e-6).collect()
    }
}

/// 0.01, 0.02, 0.05, 0.1, and so on.
fn round_numbers() -> impl Iterator<Item = f64> {
    (-2..10).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

/// Microseconds in the unit a person would choose.
pub(crate) fn time(micros: f64) -> String {
    let (value, unit) = match micros {
        n if n < 1e3 => (n, "µs"),
        n if n < 1e6 => (n / 1e3, "ms"),
        n => (n / 1e6, "s"),
    };
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {unit}").replace(".0 ", " ")
}

/// Text as it may stand in a document.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_numbers_that_people_choose() {
        assert_eq!([0.9, 1.01, 1.3, 4.2, 17.0].map(nice_above), [1.0, 1.2, 1.5, 5.0, 20.0]);
        assert_eq!(ticks(1.5).len(), 8);
        let axis = Logarithmic::over([12.0, 9000.0].into_iter(), (0.0, 300.0));
        assert_eq!(axis.ticks(), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!((axis.at(100.0).round(), axis.at(1.0), axis.at(1e6)), (100.0, 0.0, 300.0));
        let axis = Logarithmic::over([30.0, 90.0].into_iter(), (0.0, 1.0));
        assert_eq!(axis.ticks(), [20.0, 50.0, 100.0]);
    }

    #[test]
    fn times_are_readable() {
        let times = [0.5, 23.6, 1000.0, 4153.0, 654_311.0, 2e6].map(time);
        assert_eq!(times, ["0.5 µs", "24 µs", "1 ms", "4.2 ms", "654 ms", "2 s"]);
    }
}
