#![expect(unsafe_code, reason = "calls of the Windows API")]
//! Windows.

pub(crate) mod open_file;
pub(crate) mod permission;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod terminal;

use std::io;
use std::time::Duration;

/// Where nothing wakes a wait, it looks this often.
const LOOK: Duration = Duration::from_millis(5);

/// Makes a result of the answer of a function that returns zero if it fails.
fn succeeded(answer: i32) -> io::Result<()> {
    match answer {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Returns whether an error of the system has this number.
fn is_code(error: &io::Error, code: u32) -> bool {
    let found = error
        .raw_os_error()
        .and_then(|found| u32::try_from(found).ok());
    found == Some(code)
}
