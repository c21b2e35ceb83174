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
const STYLE: &str = "<style>\
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}\
.t{font-weight:600;font-size:14px}.h{font-weight:600}.d{fill:#59636e}.n{font-variant-numeric:tabular-nums}\
.b{fill:#b6c2cf}.a{fill:#7d8b99}.o{fill:#0969da}.i{stroke:#1f2328;stroke-width:1.3}.g{stroke:#d1d9e0}\
.r{stroke:#cf222e;stroke-width:1.3;stroke-dasharray:4 3}.l{fill:none;stroke-width:1.7;opacity:.85}\
.u{stroke-width:3.4;opacity:1}.w{stroke:#b6c2cf;stroke-width:5}.wo{stroke:#54aeff;stroke-width:6}\
.p{fill:#59636e}.e{fill:#fff;stroke:#59636e;stroke-width:1.6}.eo{fill:#fff;stroke:#0969da;stroke-width:2}\
.k0{color:#0969da}.k1{color:#8250df}.k2{color:#bf3989}.k3{color:#bc4c00}.k4{color:#9a6700}\
.k5{color:#1a7f37}.k6{color:#1b7c83}.k7{color:#59636e}.k8{color:#a40e26}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.d{fill:#9198a1}.b{fill:#3d444d}.a{fill:#656c76}\
.o{fill:#4493f8}.i{stroke:#f0f6fc}.g{stroke:#30363d}.r{stroke:#f85149}.w{stroke:#3d444d}\
.wo{stroke:#1f6feb}.p{fill:#9198a1}.e{fill:#0d1117;stroke:#9198a1}.eo{fill:#0d1117;stroke:#4493f8}\
.k0{color:#4493f8}.k1{color:#ab7df8}.k2{color:#db61a2}.k3{color:#db6d28}.k4{color:#d29922}\
.k5{color:#3fb950}.k6{color:#39c5cf}.k7{color:#9198a1}.k8{color:#f85149}}</style>";

/// How many colours there are besides ours, which is the first.
const COLOURS: usize = 8;

fn open(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0}' width='{WIDTH}' \
         role='img'><title>{0}</title>{STYLE}<text class='t' x='8' y='20'>{0}</text>",
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

/// A logarithmic axis over whole powers of ten.
struct Logarithmic {
    low: i32,
    high: i32,
    /// Where its ends are drawn.
    ends: (f64, f64),
}

impl Logarithmic {
    fn over(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Logarithmic {
        let positive = values.filter(|value| *value > 0.0);
        let (least, most) = positive.fold((f64::MAX, 0.0_f64), |(l, m), v| (l.min(v), m.max(v)));
        let low = least.min(1e9).log10().floor() as i32;
        Logarithmic { low, high: (most.log10().ceil() as i32).max(low + 1), ends }
    }

    fn at(&self, value: f64) -> f64 {
        let span = f64::from(self.high - self.low);
        let part = (value.max(1e-9).log10() - f64::from(self.low)) / span;
        self.ends.0 + part.clamp(0.0, 1.0) * (self.ends.1 - self.ends.0)
    }

    fn powers(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low..=self.high).map(|power| 10_f64.powi(power))
    }
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
        let axis = Logarithmic::over([30.0, 4000.0].into_iter(), (0.0, 300.0));
        assert_eq!(axis.powers().collect::<Vec<_>>(), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!((axis.at(100.0), axis.at(1.0), axis.at(1e6)), (100.0, 0.0, 300.0));
    }

    #[test]
    fn times_are_readable() {
        let times = [0.5, 23.6, 1000.0, 4153.0, 654_311.0, 2e6].map(time);
        assert_eq!(times, ["0.5 µs", "24 µs", "1 ms", "4.2 ms", "654 ms", "2 s"]);
    }
}
