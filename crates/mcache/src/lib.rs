//! A power-of-two slab cache of unzeroed memory: per-thread stock over a shared depot
