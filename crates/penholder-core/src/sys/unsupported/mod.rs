//! The platform layer on a platform that is not supported yet.
//!
//! It compiles for every target. Each operation returns an error that says so, or,
//! if it returns no `Result`, the harmless answer: nothing found, nothing known. What
//! `std` does portably (reading and writing a file, the clocks) works.

use std::io;

pub(crate) use crate::sys::portable::{fork, parking};

pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod file;
pub(crate) mod filesystem;
pub(crate) mod futex;
pub(crate) mod locks;
pub(crate) mod map;
pub(crate) mod mounts;
pub(crate) mod openers;
pub(crate) mod process;
#[cfg(feature = "failpoints")]
pub(crate) mod signal;
pub(crate) mod user;

/// Returns the error of every operation: `what` is in the plural.
fn unsupported<T>(what: &str) -> io::Result<T> {
    let text =
        format!("{what} are not supported on this platform (penholder runs on Linux only so far)");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}
