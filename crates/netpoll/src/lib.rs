//! Non-blocking network I/O for RPC: straight-line handlers at the speed of an event loop
