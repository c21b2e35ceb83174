//! `cargo xtask bench --publish`: the report that the repository keeps, and its summary in the README.

use std::fs;

use anyhow::{Context, Result};

use super::{harness, markers};
use crate::workspace;

/// Where the report is kept, from the root.
const DIR: &str = "docs/bench";
/// Twenty rounds for our server, seven for its peers: the whole in less than 25 minutes on two cores.
const FLAGS: [&str; 4] = ["--rounds=20", "--peers-every=3", "--slice-ms=150", "--warm-ms=60"];
/// The summary's place, in the report as in the README.
const NAME: &str = "servers";

/// Measures everything, or what `rest` chooses.
pub(super) fn run(rest: &[String]) -> Result<()> {
    let root = workspace::root();
    let mut args: Vec<String> = FLAGS.map(str::to_owned).into();
    args.push(format!("--out={}", root.join(DIR).display()));
    args.push(format!(
        "--shown-as={}",
        [&["cargo xtask bench --publish".to_owned()], rest].concat().join(" ")
    ));
    args.extend_from_slice(rest);
    harness(&args)?;
    let report = fs::read_to_string(root.join(DIR).join("report.md")).context(DIR)?;
    let readme = root.join("README.md");
    let text = fs::read_to_string(&readme)?;
    fs::write(&readme, with_summary(&text, &report)?)?;
    println!("updated {} and {DIR}", readme.display());
    Ok(())
}

/// The README with the report's summary, and the plot above it.
fn with_summary(readme: &str, report: &str) -> Result<String> {
    let summary = markers::part(report, NAME)?;
    let plot = format!("![CPU per request beside its peers]({DIR}/cpu.svg)");
    markers::replace(readme, NAME, &format!("{plot}\n\n{}", summary.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_moves_into_the_readme() {
        let report = "# x\n<!-- bench:servers -->\n| a |\n<!-- /bench:servers -->\nrest\n";
        let readme = "top\n<!-- bench:servers -->\n<!-- /bench:servers -->\nend\n";
        let new = with_summary(readme, report).unwrap();
        assert!(
            new.contains("(docs/bench/cpu.svg)\n\n| a |\n<!-- /bench:servers -->\nend"),
            "{new}"
        );
        assert!(!new.contains("rest"));
        assert!(with_summary("no place", report).is_err());
    }

    #[test]
    fn the_readme_has_a_place_for_it() {
        let readme = fs::read_to_string(workspace::root().join("README.md")).unwrap();
        assert!(markers::names(&readme).iter().any(|name| name == NAME));
    }
}
