//! Stubs for a platform without an implementation. A function fails with
//! [`io::ErrorKind::Unsupported`], or gives an answer that does no harm.

pub(crate) mod open_file;
pub(crate) mod permission;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod terminal;

use std::io;

fn unsupported(what: &str) -> io::Error {
    let message = format!("{what} is not supported on this platform");
    io::Error::new(io::ErrorKind::Unsupported, message)
}
