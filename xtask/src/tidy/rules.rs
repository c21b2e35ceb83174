//! What `tidy` asks of a Rust file.
//!
//! A line that has to break a rule says so beside it, or on the line above:
//! `// tidy: allow(RULE): the reason`.

use super::source::{self, Line};

/// A file, and where it lies.
#[derive(Debug)]
pub(crate) struct File<'a> {
    /// From the root of the workspace, with `/`.
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    /// Whether its crate has a `src/sync.rs`, through which atomics, cells and threads come.
    pub(crate) has_sync: bool,
}

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    pub(crate) text: String,
}

/// No file is longer.
const MAX_LINES: usize = 700;

/// Everything wrong with a Rust file.
pub(crate) fn check(file: &File<'_>) -> Vec<Finding> {
    let checked = Checked { file, lines: source::lines(file.text), findings: Vec::new() };
    checked.all()
}

struct Checked<'a> {
    file: &'a File<'a>,
    lines: Vec<Line>,
    findings: Vec<Finding>,
}

impl Checked<'_> {
    fn all(mut self) -> Vec<Finding> {
        self.head();
        self.length();
        self.ignored();
        self.safety();
        if self.is_source() {
            self.ordering();
            if self.file.has_sync && !self.file.path.ends_with("/sync.rs") {
                self.sync();
            }
            let (poller, netpoll) = ("crates/poller/src/", "crates/netpoll/src/");
            let calls = self.file.path.starts_with(poller) || self.file.path.starts_with(netpoll);
            if calls && !self.file.path.starts_with("crates/poller/src/sys") {
                self.system();
            }
        }
        self.findings
    }

    /// Whether this is a file of a crate that ships, and no test.
    fn is_source(&self) -> bool {
        let path = self.file.path;
        let private = path.ends_with("/tests.rs") || path.contains("/tests/");
        path.starts_with("crates/") && path.contains("/src/") && !private
    }

    fn report(&mut self, at: usize, rule: &'static str, text: impl Into<String>) {
        let allow = format!("tidy: allow({rule}):");
        let allowed = [Some(at), at.checked_sub(1)]
            .into_iter()
            .flatten()
            .filter_map(|at| self.lines.get(at))
            .any(|line| line.comment.contains(&allow));
        if !allowed {
            self.findings.push(Finding { line: at + 1, rule, text: text.into() });
        }
    }

    fn head(&mut self) {
        // Inner attributes may stand before it, over several lines too.
        let mut within = false;
        let first = self.lines.iter().position(|line| {
            let code = line.code.trim();
            let attribute = within || code.starts_with("#!");
            within = attribute && !code.ends_with(']');
            !line.is_blank() && !attribute
        });
        // Its story may also be what an attribute includes.
        let included = |line: &Line| line.code.trim_start().starts_with("#![doc = include_str!");
        if self.lines.iter().any(included) {
            return;
        }
        let Some(first) = first else { return };
        if !self.lines[first].comment.starts_with("//!") {
            self.report(first, "head", "a file starts with `//!`, saying what it is");
        }
    }

    fn length(&mut self) {
        let count = self.file.text.lines().count();
        if count > MAX_LINES {
            self.report(0, "length", format!("{count} lines, more than {MAX_LINES}"));
        }
    }

    fn ignored(&mut self) {
        for at in 0..self.lines.len() {
            if !self.lines[at].code.trim_start().starts_with("#[ignore") {
                continue;
            }
            let raw = self.file.text.lines().nth(at).unwrap_or_default();
            let above = at.checked_sub(1).map_or("", |at| &self.lines[at].comment);
            let command = |text: &str| text.contains("cargo ");
            if !raw.contains('=') {
                self.report(at, "ignore", "`#[ignore]` without a reason");
            } else if !command(raw) && !command(above) && !command(&self.lines[at].comment) {
                self.report(at, "ignore", "`#[ignore]` without the command that runs the test");
            }
        }
    }

    fn safety(&mut self) {
        for at in 0..self.lines.len() {
            let code = &self.lines[at].code;
            let needs = words(code)
                .windows(2)
                .any(|pair| pair[0] == "unsafe" && (pair[1] == "{" || pair[1] == "impl"))
                || code.trim_end().ends_with("unsafe");
            if needs && !self.argued(at, "SAFETY:") {
                self.report(at, "safety", "`unsafe` without `// SAFETY:` above it");
            }
        }
    }

    /// Whether a comment with `mark` stands on the line, or above it within the same statement.
    fn argued(&self, at: usize, mark: &str) -> bool {
        if self.lines[at].comment.contains(mark) {
            return true;
        }
        for line in self.lines[..at].iter().rev() {
            if line.comment.contains(mark) {
                return true;
            }
            let code = line.code.trim_end();
            if line.is_blank() {
                return false;
            }
            let goes_on = line.is_comment() || line.is_attribute();
            if !goes_on && code.ends_with([';', '{', '}', ',']) {
                return false;
            }
        }
        false
    }

    fn ordering(&mut self) {
        let tests = self.test_module();
        let mut at = 0;
        while at < tests {
            let Some(end) = self.function(at) else {
                at += 1;
                continue;
            };
            let start = self.doc_start(at);
            let argued = |lines: &[Line]| lines.iter().any(|l| l.comment.contains("ORDERING:"));
            let uses = |orderings: &[&str]| {
                (at..=end).find(|at| uses_ordering(&self.lines[*at].code, orderings))
            };
            if !argued(&self.lines[start..=end]) {
                let published = uses(&["Acquire", "Release", "AcqRel"]);
                // What is only ever Relaxed may be explained once, where the file or the field is.
                let relaxed = if argued(&self.lines[..at]) { None } else { uses(&["Relaxed"]) };
                if let Some(weak) = published {
                    let text =
                        "Acquire or Release in a function without `// ORDERING:` (the partner)";
                    self.report(weak, "ordering", text);
                } else if let Some(weak) = relaxed {
                    let text =
                        "Relaxed in a file without `// ORDERING:` above (why nothing is published)";
                    self.report(weak, "ordering", text);
                }
            }
            at = end + 1;
        }
    }

    /// Where the private tests at the end of the file begin.
    fn test_module(&self) -> usize {
        let attribute = |line: &Line| line.code.trim() == "#[cfg(test)]";
        let module = |line: &Line| line.code.trim_start().starts_with("mod ");
        self.lines
            .windows(2)
            .position(|pair| attribute(&pair[0]) && module(&pair[1]))
            .unwrap_or(self.lines.len())
    }

    /// The last line of the function whose header is at `at`.
    fn function(&self, at: usize) -> Option<usize> {
        let line = &self.lines[at];
        if !words(&line.code).contains(&"fn") {
            return None;
        }
        let indent = line.indent();
        let mut end = at;
        // rustfmt puts the closing brace under the header; a declaration ends in a semicolon.
        loop {
            let code = self.lines[end].code.trim_end();
            let closed = end > at && self.lines[end].indent() == indent && code.ends_with('}');
            let one_line = end == at && (code.ends_with('}') || code.ends_with(';'));
            let declared = end > at && self.lines[end].indent() == indent && code.ends_with(';');
            if closed || one_line || declared || end + 1 == self.lines.len() {
                return Some(end);
            }
            end += 1;
        }
    }

    /// The first line of the comments and attributes above `at`.
    fn doc_start(&self, at: usize) -> usize {
        let above = self.lines[..at].iter().rev();
        at - above.take_while(|line| line.is_comment() || line.is_attribute()).count()
    }

    fn sync(&mut self) {
        let strays =
            ["std::sync::atomic", "core::sync::atomic", "std::thread", "std::cell::UnsafeCell"];
        for at in 0..self.test_module() {
            let code = &self.lines[at].code;
            // `std::thread_local!` is another matter.
            let whole = |path: &str| {
                let after = code.find(path).map(|start| code[start + path.len()..].chars().next());
                after.is_some_and(|next| !next.is_some_and(|c| c.is_alphanumeric() || c == '_'))
            };
            if let Some(stray) = strays.into_iter().find(|path| whole(path)) {
                let text = format!("`{stray}` outside sync.rs: loom would not see it");
                self.report(at, "sync", text);
            }
        }
    }

    fn system(&mut self) {
        for at in 0..self.test_module() {
            let code = &self.lines[at].code;
            let kernel = ["libc::", "nix::"].into_iter().find(|path| is_path(code, path));
            if let Some(kernel) = kernel {
                let text = format!("`{kernel}` outside poller::sys, the only home of system calls");
                self.report(at, "system", text);
            }
        }
    }
}

/// Names and single punctuation characters of a line of code.
/// Whether `code` has a path that begins with `root`, and not with a name that ends like it.
fn is_path(code: &str, root: &str) -> bool {
    let before = |at: usize| code[..at].chars().next_back();
    code.match_indices(root)
        .any(|(at, _)| !before(at).is_some_and(|c| c.is_alphanumeric() || c == '_'))
}

fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in code.char_indices() {
        if c.is_alphanumeric() || c == '_' {
            start.get_or_insert(at);
            continue;
        }
        words.extend(start.take().map(|start| &code[start..at]));
        if !c.is_whitespace() {
            words.push(&code[at..at + c.len_utf8()]);
        }
    }
    words.extend(start.map(|start| &code[start..]));
    words
}

fn uses_ordering(code: &str, orderings: &[&str]) -> bool {
    let import = code.trim_start().starts_with("use ") || code.contains(" use ");
    !import && words(code).iter().any(|word| orderings.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(usize, &'static str)> {
        let file = File { path, text, has_sync: true };
        check(&file).into_iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    const SRC: &str = "crates/linkbuffer/src/chain.rs";

    #[test]
    fn a_file_says_what_it_is() {
        assert_eq!(rules(SRC, "use a;\n"), [(1, "head")]);
        assert_eq!(rules(SRC, "#![cfg(netpoll_loom)]\n\n//! Models.\nuse a;\n"), []);
        assert_eq!(rules(SRC, "#![cfg_attr(\n    docsrs,\n    feature(x)\n)]\n//! A.\n"), []);
        assert_eq!(rules(SRC, "#![doc = include_str!(\"../README.md\")]\n"), []);
    }

    #[test]
    fn a_long_file_is_two() {
        let text = "//! Long.\n".to_owned() + &"//\n".repeat(700);
        assert_eq!(rules(SRC, &text), [(1, "length")]);
    }

    #[test]
    fn unsafe_is_argued() {
        assert_eq!(rules(SRC, "//! A.\nfn f() {\n    unsafe { g() }\n}\n"), [(3, "safety")]);
        assert_eq!(rules(SRC, "//! A.\nfn f() {\n    // SAFETY: A1.\n    unsafe { g() }\n}\n"), []);
        let text =
            "//! A.\nfn f() {\n    // SAFETY: A1.\n    let x =\n        unsafe { g() };\n}\n";
        assert_eq!(rules(SRC, text), []);
        let text = "//! A.\n// SAFETY: A1.\nunsafe impl Send for A {}\nunsafe impl Sync for A {}\n";
        assert_eq!(rules(SRC, text), [(4, "safety")]);
        // What only needs `# Safety`.
        assert_eq!(rules(SRC, "//! A.\nunsafe fn f() {}\ntype F = unsafe fn();\n"), []);
    }

    #[test]
    fn a_weak_ordering_names_its_partner() {
        let text = "//! A.\nfn f() {\n    a.load(Ordering::Acquire);\n}\n";
        assert_eq!(rules(SRC, text), [(3, "ordering")]);
        assert_eq!(rules(SRC, &text.replace("Acquire", "SeqCst")), []);
        let text = "//! A.\nfn f() {\n    // ORDERING: pairs with g.\n    a.load(Acquire);\n}\n";
        assert_eq!(rules(SRC, text), []);
        let text =
            "//! A.\n/// B.\n// ORDERING: a counter.\n#[inline]\nfn f() { a.load(Relaxed) }\n";
        assert_eq!(rules(SRC, text), []);
        let text =
            "//! A.\nfn g() {\n    // ORDERING: of g.\n}\n\nfn f() {\n    a.load(Acquire);\n}\n";
        assert_eq!(rules(SRC, text), [(7, "ordering")]);
        // A counter may be explained where it is declared.
        assert_eq!(rules(SRC, &text.replace("Acquire", "Relaxed")), []);
        let text = "//! A.\nfn f() {\n    a.load(Relaxed);\n}\n";
        assert_eq!(rules(SRC, text), [(3, "ordering")]);
        let text =
            "//! A.\n#[cfg(test)]\nmod tests {\n    fn f() {\n        a.load(Relaxed);\n    }\n}\n";
        assert_eq!(rules(SRC, text), []);
    }

    #[test]
    fn atomics_come_through_sync() {
        assert_eq!(rules(SRC, "//! A.\nuse std::sync::atomic::AtomicU8;\n"), [(2, "sync")]);
        assert_eq!(rules(SRC, "//! A.\nuse std::cell::UnsafeCell;\n"), [(2, "sync")]);
        assert_eq!(rules(SRC, "//! A.\nuse crate::sync::cell::UnsafeCell;\n"), []);
        assert_eq!(rules(SRC, "//! A.\nstd::thread_local!(static X: u8 = 0);\n"), []);
        assert_eq!(rules("crates/linkbuffer/src/sync.rs", "//! A.\nuse std::thread;\n"), []);
        assert_eq!(rules("crates/linkbuffer/tests/a.rs", "//! A.\nuse std::thread;\n"), []);
        let text = "//! A.\n// tidy: allow(sync): a static of the process, which loom has not.\nuse std::thread;\n";
        assert_eq!(rules(SRC, text), []);
    }

    #[test]
    fn the_kernel_has_one_home() {
        let text = "//! A.\nfn f() { libc::abort() }\n";
        assert_eq!(rules("crates/netpoll/src/a.rs", text), [(2, "system")]);
        assert_eq!(rules("crates/poller/src/sys/a.rs", text), []);
        assert_eq!(rules("crates/gopool/src/a.rs", text), []);
    }

    #[test]
    fn ignored_tests_say_why_and_how() {
        let text = "//! A.\n#[ignore]\nfn f() {}\n";
        assert_eq!(rules("crates/a/tests/a.rs", text), [(2, "ignore")]);
        assert_eq!(
            rules("crates/a/tests/a.rs", &text.replace("]", " = \"slow\"]")),
            [(2, "ignore")]
        );
        let text = text.replace("]", " = \"slow: cargo test -- --ignored\"]");
        assert_eq!(rules("crates/a/tests/a.rs", &text), []);
    }
}
