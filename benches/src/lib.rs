//! What compares the crates with each other and with their peers; see `benches/README.md`.
