//! `cargo xtask lint`: everything that is wrong before a program runs.

use anyhow::{Context, Result};

use crate::cargo::cargo;
use crate::process::run as step;
use crate::tidy;

pub(crate) fn run() -> Result<()> {
    step("formatting", &mut cargo(["fmt", "--all", "--check"]))?;
    // The peers have a workspace of their own, whose dependencies are nobody's business here.
    let peers = ["fmt", "--manifest-path", "benches/peers/Cargo.toml", "--all", "--check"];
    if crate::workspace::root().join(peers[2]).is_file() {
        step("formatting of the peers", &mut cargo(peers))?;
    }
    let clippy = ["clippy", "--workspace", "--exclude=benches", "--all-targets", "--all-features"];
    step("clippy", cargo(clippy).args(["--", "-D", "warnings"]))?;
    // All but the feature that needs a C compiler: the lints need only Rust.
    let clippy = ["clippy", "--package=benches", "--all-targets", "--features=peers"];
    step("clippy of the benches", cargo(clippy).args(["--", "-D", "warnings"]))?;
    let clippy = ["clippy", "--workspace", "--lib", "--", "-D", "warnings"];
    step("clippy, default features", &mut cargo(clippy))?;
    let doc = ["doc", "--workspace", "--exclude=benches", "--all-features", "--no-deps"];
    step(
        "documentation",
        cargo(doc)
            .arg("--document-private-items")
            .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"),
    )?;
    tidy::run().context("tidy")?;
    eprintln!("\nlints: clean");
    Ok(())
}
