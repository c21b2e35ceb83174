//! The bytes that a connection sends: a pure function of their position.
//!
//! So a short write needs no buffer of what is left, and every byte that comes back is checked against
//! what was sent without remembering it. Neighbouring frames and connections differ.

use std::sync::OnceLock;

/// The length in front of each frame.
pub(crate) const HEADER: usize = 4;
/// No frame of a scenario is longer.
pub(crate) const MAX_FRAME: usize = 1 << 20;
/// Frames begin at one of so many places of the pattern.
const PLACES: u64 = 1 << 16;

/// The endless stream of frames of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    header: [u8; HEADER],
    frame: usize,
    seed: u64,
    pattern: &'static [u8],
}

impl Stream {
    /// Frames of `frame` bytes; streams with different seeds differ.
    pub(crate) fn new(frame: usize, seed: u64) -> Stream {
        assert!(frame <= MAX_FRAME, "no scenario has frames of {frame} bytes");
        let header = u32::try_from(frame).expect("at most MAX_FRAME").to_be_bytes();
        Stream { header, frame, seed: mix(seed), pattern: pattern() }
    }

    /// A frame with its header.
    pub(crate) fn len(&self) -> u64 {
        (HEADER + self.frame) as u64
    }

    /// Writes what stands at `at`.
    pub(crate) fn fill(&self, at: u64, mut out: &mut [u8]) {
        let mut at = at;
        while !out.is_empty() {
            let piece = self.piece(at);
            let n = piece.len().min(out.len());
            out[..n].copy_from_slice(&piece[..n]);
            out = &mut out[n..];
            at += n as u64;
        }
    }

    /// Whether `bytes` are what stands at `at`.
    pub(crate) fn matches(&self, at: u64, mut bytes: &[u8]) -> bool {
        let mut at = at;
        while !bytes.is_empty() {
            let piece = self.piece(at);
            let n = piece.len().min(bytes.len());
            if bytes[..n] != piece[..n] {
                return false;
            }
            bytes = &bytes[n..];
            at += n as u64;
        }
        true
    }

    /// What stands at `at`, as far as it lies together: the rest of a header or of a body.
    pub(crate) fn piece(&self, at: u64) -> &[u8] {
        let (frame, offset) = (at / self.len(), (at % self.len()) as usize);
        if offset < HEADER {
            return &self.header[offset..];
        }
        let start = (mix(self.seed ^ frame) % PLACES) as usize;
        &self.pattern[start + offset - HEADER..start + self.frame]
    }
}

fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let words = (PLACES as usize + MAX_FRAME) / 8;
        (0..words as u64).flat_map(|at| mix(at).to_le_bytes()).collect()
    })
}

/// Spreads the bits of a number (the finalizer of splitmix64).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_same_stream_however_they_are_cut() {
        let stream = Stream::new(10, 7);
        let mut whole = vec![0; 100];
        stream.fill(0, &mut whole);
        assert_eq!(whole[..4], [0, 0, 0, 10]);
        assert_eq!(whole[14..18], [0, 0, 0, 10]);
        for cut in 0..100 {
            let mut tail = vec![0; 100 - cut];
            stream.fill(cut as u64, &mut tail);
            assert_eq!(tail, whole[cut..]);
            assert!(stream.matches(cut as u64, &whole[cut..]));
        }
    }

    #[test]
    fn one_wrong_byte_is_seen() {
        let stream = Stream::new(10, 7);
        let mut bytes = vec![0; 100];
        stream.fill(0, &mut bytes);
        for at in 0..100 {
            bytes[at] ^= 1;
            assert!(!stream.matches(0, &bytes));
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn a_frame_in_the_wrong_place_is_seen() {
        let (stream, other) = (Stream::new(64, 1), Stream::new(64, 2));
        let mut bytes = vec![0; 68];
        stream.fill(0, &mut bytes);
        assert!(!stream.matches(68, &bytes));
        assert!(!other.matches(0, &bytes));
    }

    #[test]
    fn frames_may_be_empty() {
        let stream = Stream::new(0, 1);
        assert!(stream.matches(2, &[0, 0, 0, 0, 0, 0]));
    }
}
