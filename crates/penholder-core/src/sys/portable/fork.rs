//! Forks, of which there are none.

use std::io;

pub(crate) use crate::sys::fork_handlers::Handlers;

/// Returns 0.
pub(crate) fn generation() -> u64 {
    0
}

/// Registers nothing, and succeeds.
pub(crate) fn install(_handlers: &'static Handlers) -> io::Result<()> {
    Ok(())
}
