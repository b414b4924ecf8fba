//! Operating-system calls, behind one platform switch. Every platform offers the same
//! modules, which import nothing from the rest of the command:
//!
//! | module | contents |
//! | --- | --- |
//! | `open_file` | remove files that this process has open; tell whether two paths are one file |
//! | `permission` | what this user may do |
//! | `pidfd` | send signals to other processes; on Windows, end them |
//! | `pipe` | wait until a pipe has something to read, or has lost its reader |
//! | `process` | run a child process and forward signals to it; run a command line; end with the parent |
//! | `signal` | receive signals, and name them; end at once |
//! | `terminal` | read from the terminal with a timeout |
//!
//! `sent_signal` is the same on all of them.
//!
//! `--cfg penholder_unsupported` selects `unsupported` on Linux too, so that it can be
//! compiled there.

pub(crate) mod sent_signal;

#[cfg(all(target_os = "linux", not(penholder_unsupported)))]
mod linux;
#[cfg(all(target_os = "macos", not(penholder_unsupported)))]
mod macos;
#[cfg(all(
    any(target_os = "linux", target_os = "macos"),
    not(penholder_unsupported)
))]
mod unix;
#[cfg(any(
    not(any(target_os = "linux", target_os = "macos", windows)),
    penholder_unsupported
))]
mod unsupported;
#[cfg(all(windows, not(penholder_unsupported)))]
mod windows;

#[cfg(all(target_os = "linux", not(penholder_unsupported)))]
use linux as platform;
#[cfg(all(target_os = "macos", not(penholder_unsupported)))]
use macos as platform;
#[cfg(any(
    not(any(target_os = "linux", target_os = "macos", windows)),
    penholder_unsupported
))]
use unsupported as platform;
#[cfg(all(windows, not(penholder_unsupported)))]
use windows as platform;

#[cfg(all(
    any(target_os = "linux", target_os = "macos"),
    not(penholder_unsupported)
))]
use platform::{descent, ignored_signals, own_files};
pub(crate) use platform::{open_file, permission, pidfd, pipe, process, signal, terminal};
