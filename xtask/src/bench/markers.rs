//! Places in READMEs that numbers are written into: `<!-- bench:NAME -->` to `<!-- /bench:NAME -->`.

use anyhow::{Context, Result};

/// The names of the places in a text.
pub(super) fn names(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| {
        line.trim().strip_prefix("<!-- bench:")?.strip_suffix(" -->").map(str::to_owned)
    });
    names.collect()
}

/// What stands between the markers of `name`.
pub(super) fn part<'t>(text: &'t str, name: &str) -> Result<&'t str> {
    let (open, close) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    let start = text.find(&open).with_context(|| format!("no {open}"))? + open.len();
    let end = text[start..].find(&close).with_context(|| format!("no {close}"))? + start;
    Ok(&text[start..end])
}

/// Puts `new` there.
pub(super) fn replace(text: &str, name: &str, new: &str) -> Result<String> {
    let old = part(text, name)?;
    let start = old.as_ptr() as usize - text.as_ptr() as usize;
    Ok(format!("{}\n{}\n{}", &text[..start], new.trim(), &text[start + old.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let text = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n";
        assert_eq!(names(text), ["x"]);
        assert_eq!(part(text, "x").unwrap(), "\nold\n");
        let new = replace(text, "x", "| new |\n\n").unwrap();
        assert_eq!(new, "a\n<!-- bench:x -->\n| new |\n<!-- /bench:x -->\nb\n");
        assert_eq!(replace(&new, "x", "| new |").unwrap(), new);
        assert!(replace("a\n<!-- bench:x -->\n", "x", "").is_err());
    }
}
