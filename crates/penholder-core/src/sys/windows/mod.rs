//! The platform layer on Windows, from Windows 10 on, with 64 bits.
//!
//! | what | how |
//! | --- | --- |
//! | the lock, and bytes that are locked | `LockFileEx`, on bytes far past the end of any file: a locked byte cannot be read, and the record must be |
//! | sleeping in the queue | a named event for each word that a thread sleeps on: `WaitOnAddress` works within a process only |
//! | whether a process lives | its pid and its time of creation |
//!
//! A lock belongs to a handle, as a `flock` does, and ends with it. Children do not inherit the
//! handles, because `std` opens files so that they do not.

pub(crate) use crate::sys::portable::{fork, parking};

mod access;
pub(crate) mod clock;
pub(crate) mod descriptor;
mod error_code;
mod event;
pub(crate) mod file;
pub(crate) mod filesystem;
pub(crate) mod futex;
mod handle;
pub(crate) mod locks;
pub(crate) mod map;
pub(crate) mod mounts;
pub(crate) mod openers;
pub(crate) mod process;
mod process_table;
#[cfg(feature = "failpoints")]
pub(crate) mod signal;
pub(crate) mod user;
