//! Memory that is not zeroed, and never readable before it is written
