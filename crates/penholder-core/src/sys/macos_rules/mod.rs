//! A double of macOS on Linux, selected by `RUSTFLAGS='--cfg penholder_macos_rules'`.
//!
//! It runs what macOS runs (`bsd`), with the rules of macOS for locks (`file`). Only what Linux has in
//! another way is taken from Linux: the table of processes, the files that they have open, mounts, the
//! clock.

pub(crate) mod file;
pub(crate) mod futex;
mod one_table;
pub(in crate::sys) mod process_files;

pub(crate) use super::bsd::locks;
pub(in crate::sys) use super::linux::{advice, process_table};
pub(crate) use super::linux::{clock, filesystem, mounts, process};
pub(crate) use super::portable::parking;
#[cfg(feature = "failpoints")]
pub(crate) use super::unix::signal;
pub(crate) use super::unix::{descriptor, fork, map, openers, user};
