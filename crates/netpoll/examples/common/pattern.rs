//! Bytes that both ends of a check can name: windows into one long random string.

use std::sync::OnceLock;

/// The longest window.
pub(crate) const LONGEST: usize = 16 << 20;
/// Windows start below this.
const STARTS: usize = 1 << 16;

/// `len` bytes, at most [`LONGEST`], that hardly another `stamp` has.
pub(crate) fn window(stamp: u64, len: usize) -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    // The long tail is made only for those who want it.
    static SHORT: OnceLock<Vec<u8>> = OnceLock::new();
    let start = (mix(stamp) % STARTS as u64) as usize;
    let pattern = if len <= 1 << 20 {
        SHORT.get_or_init(|| random(STARTS + (1 << 20)))
    } else {
        PATTERN.get_or_init(|| random(STARTS + LONGEST))
    };
    &pattern[start..start + len]
}

fn random(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(0x6e65_7470_6f6c_6c21);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

/// A well-mixed function of `n`: a stand-in for a random number that can be asked for again.
pub(crate) fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
