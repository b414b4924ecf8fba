//! Functions in place of SQLite's system calls.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

/// A function in place of a system call. It is called with the signature of that call.
pub(crate) type SystemCall = unsafe extern "C" fn();

/// What is told, and asked, by the functions in place of SQLite's system calls.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "no platform uses all of it")]
pub(crate) struct Observer {
    /// SQLite has opened the file at a path.
    pub(crate) opened: fn(&OsStr, &File),
    /// SQLite could not open a file.
    pub(crate) not_opened: fn(&io::Error),
    /// SQLite has deleted the file at a path.
    pub(crate) deleted: fn(&OsStr),
    /// Whether a file may be deleted while SQLite has it open, where SQLite prevents that.
    pub(crate) may_vanish: fn(&OsStr) -> bool,
    /// How often this process was forked since the functions are in place.
    pub(crate) forks: fn() -> u64,
}
