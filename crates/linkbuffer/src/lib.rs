//! A linked-block zero-copy byte buffer with one lock-free reader and one writer
