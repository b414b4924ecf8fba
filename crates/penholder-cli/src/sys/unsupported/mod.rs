//! A platform that the command does not know: what needs the operating system fails
//! and says so, or does without where that does no harm.

pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod terminal;

use std::io;

fn unsupported(what: &str) -> io::Error {
    let message = format!("{what} is not supported on this platform");
    io::Error::new(io::ErrorKind::Unsupported, message)
}
