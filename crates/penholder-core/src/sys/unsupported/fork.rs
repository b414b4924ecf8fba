//! Forks, which are not noticed here.

use std::io;

pub(crate) use crate::sys::fork_handlers::Handlers;

/// Returns 0.
pub(crate) fn generation() -> u64 {
    0
}

/// Registers nothing, and succeeds: no lock can be taken here that a forked child
/// could release.
pub(crate) fn install(_handlers: &'static Handlers) -> io::Result<()> {
    Ok(())
}
