//! What is macOS's own of the platform layer.

pub(in crate::sys) mod advice;
pub(crate) mod clock;
pub(crate) mod file;
pub(crate) mod filesystem;
pub(crate) mod futex;
mod libproc;
pub(crate) mod mounts;
pub(crate) mod process;
pub(in crate::sys) mod process_files;
pub(in crate::sys) mod process_table;
mod sysctl;

pub(crate) use super::bsd::locks;
pub(crate) use super::portable::parking;
#[cfg(feature = "failpoints")]
pub(crate) use super::unix::signal;
pub(crate) use super::unix::{descriptor, fork, map, openers, user};
