//! `cargo xtask tidy`: what neither rustc nor clippy checks, over all files of the workspace.
//!
//! It runs as a test too. What it asks of Rust files stands in `rules`; of every text file it asks that
//! it names no path of somebody's machine and leaves nothing to be done later.

mod rules;
mod source;

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::workspace;

/// Directories that hold nothing of ours.
const SKIPPED: [&str; 4] = ["target", ".git", "bench-report", "node_modules"];

pub(crate) fn run() -> Result<()> {
    let findings = findings()?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    ensure!(findings.is_empty(), "{} found", findings.len());
    eprintln!("tidy: clean");
    Ok(())
}

/// Everything found, as `path:line: rule: text`.
fn findings() -> Result<Vec<String>> {
    let mut found = Vec::new();
    visit(workspace::root(), &mut found)?;
    Ok(found)
}

fn visit(dir: &Path, found: &mut Vec<String>) -> Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !SKIPPED.contains(&&*entry.file_name().to_string_lossy()) {
                visit(&path, found)?;
            }
        } else if kind.is_file() && is_text(&path) {
            check(&path, found)?;
        }
    }
    Ok(())
}

/// Whether a person writes files of this kind.
fn is_text(path: &Path) -> bool {
    let script = path.parent().and_then(Path::file_name).is_some_and(|dir| dir == ".ci");
    let extension = path.extension().and_then(|extension| extension.to_str());
    script || matches!(extension, Some("rs" | "md" | "toml" | "txt" | "sh" | "html"))
}

fn check(path: &Path, found: &mut Vec<String>) -> Result<()> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(()) };
    let name = path.strip_prefix(workspace::root())?.to_string_lossy().into_owned();
    for (at, line) in text.lines().enumerate() {
        if let Some(what) = forbidden(line) {
            found.push(format!("{name}:{}: text: {what}", at + 1));
        }
    }
    if path.extension().is_some_and(|extension| extension == "rs") {
        let file = rules::File { path: &name, text: &text, has_sync: has_sync(path) };
        for finding in rules::check(&file) {
            found.push(format!("{name}:{}: {}: {}", finding.line, finding.rule, finding.text));
        }
    }
    Ok(())
}

/// What no file of ours contains. In pieces, so that this file does not either.
fn forbidden(line: &str) -> Option<String> {
    let paths = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")];
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    if let Some(path) = paths.into_iter().find(|path| starts_a_path(line, path)) {
        return Some(format!("`{path}` is a path of one machine"));
    }
    let mark = marks.into_iter().find(|mark| line.contains(mark))?;
    Some(format!("`{mark}`: do it, or file it"))
}

/// Whether an absolute path in `line` begins with `path`.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '~'))
    })
}

fn has_sync(path: &Path) -> bool {
    path.ancestors().any(|dir| dir.ends_with("src") && dir.join("sync.rs").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let findings = findings().unwrap();
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }

    #[test]
    fn paths_of_machines_are_told_from_others() {
        let path = concat!("/ho", "me/");
        assert!(forbidden(&format!("see {path}me/x")).is_some());
        assert!(forbidden(&format!("see ../a{path}me/x")).is_none());
        assert!(forbidden(concat!("// TO", "DO: later")).is_some());
        assert!(forbidden("// all done").is_none());
    }
}
