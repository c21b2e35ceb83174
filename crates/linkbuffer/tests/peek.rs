//! What growing peeks hold. Alone in its process, since it counts what the process has out.

use linkbuffer::{LinkBuffer, Reader, Writer};

fn bytes_out() -> usize {
    mcache::Cache::global().stats().bytes_out
}

#[test]
fn growing_peeks_hold_less_than_twice_the_largest() {
    const TOTAL: usize = 1 << 20;
    let mut buf = LinkBuffer::new();
    (0..TOTAL / 1024).for_each(|_| buf.write_binary(&[7; 1024]).unwrap());
    buf.flush().unwrap();
    let before = bytes_out();
    for n in (1024..=TOTAL).step_by(1024) {
        buf.peek(n).unwrap();
        // The largest block is the power of two that holds the peek; headers have 128 bytes.
        let largest = n.next_power_of_two().max(2048);
        assert!(bytes_out() - before < 2 * largest + 2048, "{n}: {}", bytes_out() - before);
    }
    assert!(bytes_out() - before <= 2 * TOTAL);
    buf.release();
    assert_eq!(bytes_out(), before);
}
