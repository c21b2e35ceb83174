//! A pool of reused worker threads: cap, growth, panic isolation, names
