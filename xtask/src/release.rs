//! `cargo xtask release`: checks, packages and publishes the crates in the order of their dependencies.
//!
//! A dry run unless `--execute` is given: it checks what can be checked, packages every crate that is
//! not published yet, lets cargo build each from its packaged files alone (the packages of ours that it
//! needs included, as a stranger would get them), and prints what would be published and tagged. The
//! test command runs the cheap part, [`checks`].

mod plan;

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, git};
use crate::flags;
use crate::process::run as step;
use crate::workspace;
use plan::Package;

pub(crate) fn run(options: &flags::Release) -> Result<()> {
    let packages = plan::read()?;
    let problems = checks(&packages)?;
    for problem in &problems {
        eprintln!("PROBLEM: {problem}");
    }
    let due = due(&packages)?;
    if due.is_empty() {
        println!("every crate is published as it is");
        return Ok(());
    }
    let undated: Vec<&str> =
        due.iter().filter(|one| !one.is_dated()).map(|one| &*one.name).collect();
    if !undated.is_empty() {
        eprintln!("not dated yet in the changelog: {}", undated.join(", "));
    }
    if options.execute {
        ensure!(problems.is_empty(), "{} problems", problems.len());
        ensure!(undated.is_empty(), "date the changelogs first");
        ensure!(git(&["status", "--porcelain"])?.is_empty(), "there are uncommitted changes");
    }
    if !options.no_package {
        package(&due, options.execute)?;
    }
    println!("\n{}, in this order:", if options.execute { "publishing" } else { "would publish" });
    for one in &due {
        println!("  {} {}   tag {}", one.name, one.version, one.tag());
        if options.execute {
            step("publish", &mut cargo(["publish", "-p", &one.name]))?;
            git(&[
                "tag",
                "--annotate",
                &one.tag(),
                "--message",
                &format!("{} {}", one.name, one.version),
            ])?;
        }
    }
    match options.execute {
        true => println!("push the tags: git push --tags"),
        false => println!("nothing was published; --execute does it"),
    }
    ensure!(problems.is_empty(), "{} problems", problems.len());
    Ok(())
}

/// Everything that can be wrong without building anything.
fn checks(packages: &[Package]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for one in packages {
        problems.extend(one.problems());
        for need in &one.needs {
            let Some(other) = packages.iter().find(|other| other.name == need.name) else {
                problems.push(format!("{} needs {}, which is not published", one.name, need.name));
                continue;
            };
            let matches = plan::admits(&need.req, &other.version);
            match (need.dev, &*need.req) {
                // Cargo leaves these out of the package; with a version they would make a circle.
                (true, "*") => {}
                (true, _) if packages_reach(packages, &other.name, &one.name) => {
                    let text = "needs {} for its tests by a version: give its path alone";
                    problems.push(format!("{} {}", one.name, text.replace("{}", &other.name)));
                }
                (_, "*") => {
                    problems.push(format!("{} needs {} in any version", one.name, need.name))
                }
                _ if !matches => problems.push(format!(
                    "{} needs {} {}, but it is {}",
                    one.name, need.name, need.req, other.version
                )),
                _ => {}
            }
        }
    }
    Ok(problems)
}

/// Whether `from` depends on `to`, tests left aside.
fn packages_reach(packages: &[Package], from: &str, to: &str) -> bool {
    let Some(one) = packages.iter().find(|one| one.name == from) else { return false };
    one.needs.iter().any(|n| !n.dev && (n.name == to || packages_reach(packages, &n.name, to)))
}

/// The packages that are not published in their version, in the order of their dependencies.
fn due(packages: &[Package]) -> Result<Vec<&Package>> {
    let mut due = Vec::new();
    for one in plan::in_order(packages)? {
        let tag = one.tag();
        if git(&["tag", "--list", &tag])?.is_empty() {
            due.push(one);
            continue;
        }
        let dir = one.dir.to_string_lossy();
        if !git(&["log", "--oneline", &format!("{tag}..HEAD"), "--", &dir])?.is_empty() {
            bail!("{} changed since {tag}: it needs another version", one.name);
        }
    }
    Ok(due)
}

/// Packages them all, and builds each from what was packaged.
fn package(due: &[&Package], strict: bool) -> Result<()> {
    let mut args = vec!["package"];
    for one in due {
        args.extend(["-p", &one.name]);
    }
    if !strict {
        args.push("--allow-dirty");
    }
    step("packages", &mut cargo(&args)).context(
        "building the packages (cargo 1.90 or later packages crates that need each other)",
    )?;
    for one in due {
        let file = format!("target/package/{}-{}.crate", one.name, one.version);
        let size = fs::metadata(workspace::root().join(&file)).map_or(0, |file| file.len());
        println!("  {file}: {} KiB", size.div_ceil(1024));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::Need;

    #[test]
    fn the_crates_could_be_released() {
        let problems = checks(&plan::read().unwrap()).unwrap();
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }

    #[test]
    fn dependants_must_admit_the_versions_there_are() {
        let need = |name: &str, req: &str, dev| Need { name: name.into(), req: req.into(), dev };
        let a = Package::sound("a", "0.2.0", vec![need("b", "*", true)]);
        let with = |req: &str, dev| Package::sound("b", "1.0.0", vec![need("a", req, dev)]);
        let found = |b: Package| checks(&[a.clone(), b]).unwrap().len();
        assert_eq!(found(with("^0.2.0", false)), 0);
        assert_eq!(found(with("^0.1.0", false)), 1);
        assert_eq!(found(with("*", false)), 1);
        assert_eq!(found(Package::sound("b", "1.0.0", vec![need("c", "^1", false)])), 1);
        let circle = Package::sound("b", "1.0.0", vec![need("a", "^0.2.0", false)]);
        let tests = Package::sound("a", "0.2.0", vec![need("b", "^1.0.0", true)]);
        assert_eq!(checks(&[tests, circle]).unwrap().len(), 1);
    }
}
