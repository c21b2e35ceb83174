//! A Rust file split into what is code and what is comment, line by line.
//!
//! Not a parser: just enough of the lexical grammar that a rule never mistakes a string or a comment
//! for code. What stands inside a literal is left out of the code.

/// One line of a file.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Its code, literals emptied.
    pub(crate) code: String,
    /// The text of its comments, with their slashes.
    pub(crate) comment: String,
}

impl Line {
    /// Whether the line holds nothing but a comment.
    pub(crate) fn is_comment(&self) -> bool {
        self.code.trim().is_empty() && !self.comment.is_empty()
    }

    /// Whether the line holds an attribute and nothing before it.
    pub(crate) fn is_attribute(&self) -> bool {
        self.code.trim_start().starts_with("#[")
    }

    /// Whether the line is empty.
    pub(crate) fn is_blank(&self) -> bool {
        self.code.trim().is_empty() && self.comment.is_empty()
    }

    /// By how much its code is indented.
    pub(crate) fn indent(&self) -> usize {
        self.code.len() - self.code.trim_start().len()
    }
}

/// Where the lexer is.
#[derive(Clone, Copy)]
enum At {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(usize),
    Str,
    /// Ends at a quote and as many hashes.
    RawStr(usize),
}

/// Splits `text` into its lines.
pub(crate) fn lines(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = Vec::new();
    let mut line = Line::default();
    let mut at = At::Code;
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        let next = chars.get(i + 1).copied();
        if c == '\n' {
            if matches!(at, At::LineComment) {
                at = At::Code;
            }
            lines.push(std::mem::take(&mut line));
            i += 1;
            continue;
        }
        let (state, taken) = match at {
            At::Code => code(&chars, i, &mut line),
            At::LineComment => {
                line.comment.push(c);
                (at, 1)
            }
            At::BlockComment(depth) => match (c, next) {
                ('*', Some('/')) => {
                    (if depth == 1 { At::Code } else { At::BlockComment(depth - 1) }, 2)
                }
                ('/', Some('*')) => (At::BlockComment(depth + 1), 2),
                _ => {
                    line.comment.push(c);
                    (at, 1)
                }
            },
            At::Str => match c {
                // The line break after a backslash must still end the line.
                '\\' => (at, if next == Some('\n') { 1 } else { 2 }),
                '"' => {
                    line.code.push('"');
                    (At::Code, 1)
                }
                _ => (at, 1),
            },
            At::RawStr(hashes) => {
                let closes = c == '"'
                    && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
                if closes {
                    line.code.push('"');
                    (At::Code, 1 + hashes)
                } else {
                    (at, 1)
                }
            }
        };
        at = state;
        i += taken;
    }
    if !line.is_blank() {
        lines.push(line);
    }
    lines
}

/// One step through code: the state after it, and how many characters it took.
fn code(chars: &[char], i: usize, line: &mut Line) -> (At, usize) {
    let c = chars[i];
    let next = chars.get(i + 1).copied();
    match (c, next) {
        ('/', Some('/')) => {
            line.comment.push_str("//");
            (At::LineComment, 2)
        }
        ('/', Some('*')) => {
            line.comment.push_str("/*");
            (At::BlockComment(1), 2)
        }
        ('"', _) => {
            line.code.push('"');
            (At::Str, 1)
        }
        ('r', Some('"' | '#')) if !continues_name(chars, i) => {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            if chars.get(i + 1 + hashes) == Some(&'"') {
                line.code.push('"');
                (At::RawStr(hashes), 2 + hashes)
            } else {
                line.code.push(c);
                (At::Code, 1)
            }
        }
        ('\'', Some('\\')) => {
            // An escaped character: up to its closing quote.
            let len = chars[i + 3..].iter().position(|c| *c == '\'').map_or(1, |at| at + 4);
            (At::Code, len)
        }
        // A character, not a lifetime.
        ('\'', Some(_)) if chars.get(i + 2) == Some(&'\'') => (At::Code, 3),
        _ => {
            line.code.push(c);
            (At::Code, 1)
        }
    }
}

/// Whether the character at `i` stands within a name (`br"…"` is a literal, `bar"` is none).
fn continues_name(chars: &[char], i: usize) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    match i.checked_sub(1).map(|i| chars[i]) {
        Some('b' | 'c') => i >= 2 && is_name(chars[i - 2]),
        Some(c) => is_name(c),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(String, String)> {
        lines(text).into_iter().map(|line| (line.code, line.comment)).collect()
    }

    fn pair(code: &str, comment: &str) -> (String, String) {
        (code.to_owned(), comment.to_owned())
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(split("a // b\nc"), [pair("a ", "// b"), pair("c", "")]);
        assert_eq!(split("a /* b /* c */ d */ e"), [pair("a  e", "/* b  c  d ")]);
        assert_eq!(split("f(\"// no \\\" unsafe\") // yes"), [pair("f(\"\") ", "// yes")]);
        assert_eq!(split("r#\"a \" // b\"# + x"), [pair("\"\" + x", "")]);
        assert_eq!(split("\"a\nb\" c"), [pair("\"", ""), pair("\" c", "")]);
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        assert_eq!(split("'\"' x"), [pair(" x", "")]);
        assert_eq!(split("'\\'' x '\\u{1f}' y"), [pair(" x  y", "")]);
        assert_eq!(
            split("fn f<'a>(x: &'a str) {} // c"),
            [pair("fn f<'a>(x: &'a str) {} ", "// c")]
        );
    }

    #[test]
    fn a_name_that_ends_in_r_starts_no_literal() {
        assert_eq!(split("br\"x\" bar!(\"y\")"), [pair("b\"\" bar!(\"\")", "")]);
    }
}
