//! Searching for a delimiter: in one slice, and across chunks with a memory of how far it got.

/// The length through the first `delim` in `bytes`.
pub(crate) fn find(bytes: &[u8], delim: &[u8]) -> Option<usize> {
    if delim.is_empty() {
        return Some(0);
    }
    let mut finder = Finder::default();
    finder.seek(delim, 0);
    finder.feed(bytes)
}

/// Knuth, Morris and Pratt's automaton over a stream: it remembers how many bytes it has seen and how much
/// of the delimiter they end with, so no byte is looked at twice, however often the search is retried.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    delim: Vec<u8>,
    /// `border[i]`: the longest proper prefix of `delim` that also ends `delim[..=i]`.
    border: Vec<usize>,
    /// Position in the stream where this search began.
    start: usize,
    /// Bytes seen since `start`.
    seen: usize,
    /// How much of `delim` the bytes seen end with; all of it once found.
    matched: usize,
}

impl Finder {
    /// Continues the search for `delim` from stream position `at`, or begins a new one. Says how many bytes
    /// from `at` on were already seen, or the length through the delimiter if it was already found.
    pub(crate) fn seek(&mut self, delim: &[u8], at: usize) -> Progress {
        let passed = at.wrapping_sub(self.start);
        // What was seen counts only if the part that matched so far begins at or behind `at`.
        if self.delim == delim && passed.saturating_add(self.matched) <= self.seen {
            self.start = at;
            self.seen -= passed;
            return match self.matched == delim.len() {
                true => Progress::Found(self.seen),
                false => Progress::Seen(self.seen),
            };
        }
        if self.delim != delim {
            self.learn(delim);
        }
        (self.start, self.seen, self.matched) = (at, 0, 0);
        Progress::Seen(0)
    }

    fn learn(&mut self, delim: &[u8]) {
        self.delim.clear();
        self.delim.extend_from_slice(delim);
        self.border.clear();
        self.border.push(0);
        let mut matched = 0;
        for &byte in &delim[1..] {
            while matched > 0 && byte != delim[matched] {
                matched = self.border[matched - 1];
            }
            matched += usize::from(byte == delim[matched]);
            self.border.push(matched);
        }
    }

    /// Looks at the next bytes of the stream. Returns the length from the start through the delimiter if it
    /// is found in them; then it has seen no byte behind it.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Option<usize> {
        while let Some(&byte) = bytes.first() {
            if self.matched == 0 {
                let skipped = position(bytes, self.delim[0]).unwrap_or(bytes.len());
                if skipped > 0 {
                    self.seen += skipped;
                    bytes = &bytes[skipped..];
                    continue;
                }
            }
            while self.matched > 0 && byte != self.delim[self.matched] {
                self.matched = self.border[self.matched - 1];
            }
            self.matched += usize::from(byte == self.delim[self.matched]);
            self.seen += 1;
            bytes = &bytes[1..];
            if self.matched == self.delim.len() {
                return Some(self.seen);
            }
        }
        None
    }
}

/// What an earlier search already knows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Found(usize),
    Seen(usize),
}

/// Where `byte` is first, eight bytes at a time: a word has a zero byte exactly if subtracting one from each
/// of its bytes borrows into a bit that was clear.
fn position(bytes: &[u8], byte: u8) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let pattern = ONES * u64::from(byte);
    let mut words = bytes.chunks_exact(8);
    for (i, word) in words.by_ref().enumerate() {
        let word = u64::from_le_bytes(word.try_into().unwrap()) ^ pattern;
        let zeros = word.wrapping_sub(ONES) & !word & HIGHS;
        if zeros != 0 {
            return Some(8 * i + zeros.trailing_zeros() as usize / 8);
        }
    }
    let rest = words.remainder();
    rest.iter().position(|&b| b == byte).map(|i| bytes.len() - rest.len() + i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8], delim: &[u8]) -> Option<usize> {
        bytes.windows(delim.len()).position(|w| w == delim).map(|i| i + delim.len())
    }

    #[test]
    fn agrees_with_the_plain_search() {
        let mut x = 1_u32;
        for round in 0..if cfg!(miri) { 50 } else { 3000 } {
            let mut random = |below: u32| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 16) % below
            };
            let bytes: Vec<u8> = (0..random(60)).map(|_| b'a' + random(2) as u8).collect();
            let delim: Vec<u8> = (0..1 + random(5)).map(|_| b'a' + random(2) as u8).collect();
            let want = naive(&bytes, &delim);
            assert_eq!(find(&bytes, &delim), want, "{bytes:?} {delim:?} {round}");
            let mut finder = Finder::default();
            assert_eq!(finder.seek(&delim, 7), Progress::Seen(0));
            let got = bytes.chunks(1 + random(7) as usize).find_map(|chunk| finder.feed(chunk));
            assert_eq!(got, want);
            if let Some(n) = want {
                assert_eq!(finder.seek(&delim, 7), Progress::Found(n));
            }
        }
    }

    #[test]
    fn starts_again_where_its_match_was_consumed() {
        let mut finder = Finder::default();
        finder.seek(b"\r\n", 0);
        assert_eq!(finder.feed(b"abc\r"), None);
        assert_eq!(finder.seek(b"\r\n", 2), Progress::Seen(2));
        assert_eq!(finder.seek(b"\r\n", 4), Progress::Seen(0));
        assert_eq!(finder.feed(b"\n"), None);
    }

    #[test]
    fn finds_a_byte_anywhere() {
        for len in 0..40 {
            for at in 0..len {
                let mut bytes = vec![0x80; len];
                bytes[at] = 0x7f;
                assert_eq!(position(&bytes, 0x7f), Some(at));
                assert_eq!(position(&bytes[..at], 0x7f), None);
            }
        }
    }
}
