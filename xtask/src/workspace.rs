//! What this workspace holds, read from its directories and from `cargo metadata`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo::cargo;

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// A published crate of ours.
#[derive(Debug)]
pub(crate) struct Crate {
    /// The name of the package.
    pub(crate) package: String,
    /// The name that programs import.
    pub(crate) lib: String,
    pub(crate) dir: PathBuf,
}

impl Crate {
    /// Whether `name` means this crate: its package, its library or its directory.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.package == name || self.lib == name || self.dir.ends_with(name)
    }
}

/// The crates under `crates/`, by name.
pub(crate) fn crates() -> Result<Vec<Crate>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("crates"))? {
        let dir = entry?.path();
        let manifest = dir.join("Cargo.toml");
        if !manifest.is_file() {
            continue;
        }
        let text = fs::read_to_string(&manifest)?;
        let package = name_in(&text, "[package]")
            .with_context(|| format!("{} has no package name", manifest.display()))?;
        let lib = name_in(&text, "[lib]").unwrap_or_else(|| package.replace('-', "_"));
        found.push(Crate { package, lib, dir });
    }
    found.sort_by(|a, b| a.package.cmp(&b.package));
    Ok(found)
}

/// The value of `name` in one section of a manifest.
fn name_in(manifest: &str, section: &str) -> Option<String> {
    let lines = manifest.lines().skip_while(|line| line.trim() != section).skip(1);
    for line in lines.take_while(|line| !line.starts_with('[')) {
        if let Some(("name", value)) = line.split_once('=').map(|(key, value)| (key.trim(), value))
        {
            return Some(value.trim().trim_matches('"').to_owned());
        }
    }
    None
}

/// `cargo metadata` of the workspace, without its dependencies.
pub(crate) fn metadata() -> Result<Value> {
    let output = cargo(["metadata", "--format-version=1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed");
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

/// The names of all integration tests of `packages`, or of all packages.
pub(crate) fn integration_tests(only: Option<&str>) -> Result<Vec<String>> {
    let metadata = metadata()?;
    let mut names = Vec::new();
    for package in array(&metadata["packages"]) {
        if only.is_some_and(|only| package["name"] != only) {
            continue;
        }
        for target in array(&package["targets"]) {
            if array(&target["kind"]).iter().any(|kind| kind == "test") {
                names.extend(target["name"].as_str().map(str::to_owned));
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The elements of a JSON array; none of anything else.
pub(crate) fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let manifest = "[package]\nname = \"a-b\"\n\n[lib]\nname = \"b\"\n";
        assert_eq!(name_in(manifest, "[package]").as_deref(), Some("a-b"));
        assert_eq!(name_in(manifest, "[lib]").as_deref(), Some("b"));
        assert_eq!(name_in("[package]\n[lib]\nname = \"b\"\n", "[package]"), None);
    }

    #[test]
    fn the_package_of_the_poller_has_another_name() {
        let crates = crates().unwrap();
        let poller = crates.iter().find(|one| one.is("poller")).unwrap();
        assert_eq!((&*poller.package, &*poller.lib), ("netpoll-poller", "poller"));
    }
}
