//! What could be published: versions, dependants, changelogs, and the order.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::{array, metadata};

/// A package of the workspace that is meant to be published.
#[derive(Clone, Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) dir: PathBuf,
    /// Other packages of the workspace.
    pub(super) needs: Vec<Need>,
    /// Fields of the manifest that the registry, or its users, ask for and that are missing.
    missing: Vec<&'static str>,
    /// The first heading of its changelog, without `## `.
    changelog: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Need {
    pub(super) name: String,
    pub(super) req: String,
    /// For tests only.
    pub(super) dev: bool,
}

impl Package {
    pub(super) fn tag(&self) -> String {
        format!("{}-v{}", self.name, self.version)
    }

    /// Whether its changelog says when this version was released.
    pub(super) fn is_dated(&self) -> bool {
        let heading = self.changelog.as_deref().unwrap_or_default();
        heading.chars().filter(char::is_ascii_digit).count() >= 8 && !heading.contains("unreleased")
    }

    /// What is wrong with it alone.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for field in &self.missing {
            problems.push(format!("{} has no {field} in its manifest", self.name));
        }
        match &self.changelog {
            None => problems.push(format!("{} has no changelog, or an empty one", self.name)),
            Some(heading) => {
                let version = heading.split([' ', '(']).next().unwrap_or_default();
                let version = version.trim_matches(['[', ']']).trim_start_matches('v');
                if version != self.version {
                    problems.push(format!(
                        "{} is {}, but its changelog begins with {heading}",
                        self.name, self.version
                    ));
                }
            }
        }
        problems
    }

    #[cfg(test)]
    pub(super) fn sound(name: &str, version: &str, needs: Vec<Need>) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            dir: PathBuf::new(),
            needs,
            missing: Vec::new(),
            changelog: Some(version.to_owned()),
        }
    }
}

/// All packages that are not `publish = false`.
pub(super) fn read() -> Result<Vec<Package>> {
    let metadata = metadata()?;
    let packages = array(&metadata["packages"]);
    packages.iter().filter(|one| one["publish"].is_null()).map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let name = text(&value["name"]).context("a package without a name")?;
    let manifest = PathBuf::from(text(&value["manifest_path"]).context("no manifest_path")?);
    let dir = manifest.parent().context("a manifest without a directory")?.to_owned();
    let ours = array(&value["dependencies"]).iter().filter(|need| !need["path"].is_null());
    let needs = ours
        .filter_map(|need| {
            let dev = need["kind"] == "dev";
            Some(Need { name: text(&need["name"])?, req: text(&need["req"])?, dev })
        })
        .collect();
    let mut missing = Vec::new();
    for field in ["description", "license", "repository", "readme", "rust_version"] {
        if value[field].as_str().is_none_or(str::is_empty) {
            missing.push(field);
        }
    }
    if !(1..=5).contains(&array(&value["keywords"]).len()) {
        missing.push("keywords (1 to 5)");
    }
    if array(&value["categories"]).is_empty() {
        missing.push("categories");
    }
    let changelog = fs::read_to_string(dir.join("CHANGELOG.md")).unwrap_or_default();
    let changelog = first_heading(&changelog).map(str::to_owned);
    let version = text(&value["version"]).context("a package without a version")?;
    Ok(Package { name, version, dir, needs, missing, changelog })
}

/// The newest version of a changelog that says anything about it.
fn first_heading(changelog: &str) -> Option<&str> {
    let mut lines = changelog.lines().skip_while(|line| !line.starts_with("## "));
    let heading = lines.next()?.strip_prefix("## ")?.trim();
    let says =
        lines.take_while(|line| !line.starts_with("## ")).any(|line| !line.trim().is_empty());
    says.then_some(heading)
}

/// Each after what it needs.
pub(super) fn in_order(packages: &[Package]) -> Result<Vec<&Package>> {
    let mut order: Vec<&Package> = Vec::new();
    while order.len() < packages.len() {
        let placed = |name: &str| {
            order.iter().any(|one| one.name == name) || packages.iter().all(|one| one.name != name)
        };
        let next = packages.iter().find(|one| {
            let is_new = order.iter().all(|placed| placed.name != one.name);
            is_new && one.needs.iter().all(|need| need.dev || placed(&need.name))
        });
        match next {
            Some(next) => order.push(next),
            None => bail!("the crates depend on each other in a circle"),
        }
    }
    Ok(order)
}

/// Whether a requirement as we write them (`^1.2.3`, or `=1.2.3`) admits a version.
pub(super) fn admits(req: &str, version: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let text = text.split(['-', '+']).next().unwrap_or_default();
        text.split('.').filter_map(|part| part.trim().parse().ok()).collect()
    };
    let have = numbers(version);
    if req == "*" {
        return true;
    }
    if let Some(exact) = req.strip_prefix('=') {
        return numbers(exact) == have;
    }
    let mut want = numbers(req.trim_start_matches('^'));
    let given = want.len();
    want.resize(3, 0);
    // Compatible: the same up to the leftmost number that is not 0.
    let leading = want.iter().position(|part| *part != 0).unwrap_or(given.saturating_sub(1));
    have.len() == 3 && have[..=leading] == want[..=leading] && have >= want
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_those_of_cargo() {
        for (req, version, admitted) in [
            ("^0.1.0", "0.1.0", true),
            ("^0.1.0", "0.1.7", true),
            ("^0.1.2", "0.1.1", false),
            ("^0.1.0", "0.2.0", false),
            ("^1.2.0", "1.3.0", true),
            ("^1", "2.0.0", false),
            ("^0.0.3", "0.0.4", false),
            ("=1.2.3", "1.2.3", true),
            ("=1.2.3", "1.2.4", false),
        ] {
            assert_eq!(admits(req, version), admitted, "{req} {version}");
        }
    }

    #[test]
    fn the_order_follows_the_needs() {
        let need = |name: &str| Need { name: name.into(), req: "^1.0.0".into(), dev: false };
        let packages = [
            Package::sound("top", "1.0.0", vec![need("middle"), need("bottom")]),
            Package::sound("middle", "1.0.0", vec![need("bottom")]),
            Package::sound("bottom", "1.0.0", vec![]),
        ];
        let names =
            |order: Vec<&Package>| order.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(in_order(&packages).unwrap()), ["bottom", "middle", "top"]);
        let circle = [
            Package::sound("a", "1.0.0", vec![need("b")]),
            Package::sound("b", "1.0.0", vec![need("a")]),
        ];
        assert!(in_order(&circle).is_err());
    }

    #[test]
    fn a_changelog_speaks_of_the_version() {
        let package = |changelog: &str| Package {
            changelog: first_heading(changelog).map(str::to_owned),
            ..Package::sound("a", "0.2.0", vec![])
        };
        let dated = package("# Changelog\n\n## 0.2.0 (2026-11-21)\n\nNew.\n\n## 0.1.0\n");
        assert!(dated.problems().is_empty() && dated.is_dated());
        let open = package("## 0.2.0 (unreleased)\n\nNew.\n");
        assert!(open.problems().is_empty() && !open.is_dated());
        assert_eq!(package("## 0.1.0\n\nOld.\n").problems().len(), 1);
        assert_eq!(package("## 0.2.0\n\n## 0.1.0\n\nOld.\n").problems().len(), 1);
        assert_eq!(package("").problems().len(), 1);
    }
}
