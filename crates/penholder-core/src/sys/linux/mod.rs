//! What is Linux's own of the platform layer.

pub(crate) mod clock;
pub(crate) mod file;
pub(crate) mod filesystem;
pub(crate) mod futex;
pub(crate) mod locks;
pub(crate) mod mounts;
pub(crate) mod openers;
pub(crate) mod parking;
pub(crate) mod process;
pub(in crate::sys) mod process_table;

#[cfg(feature = "failpoints")]
pub(crate) use super::unix::signal;
pub(crate) use super::unix::{descriptor, fork, map, user};
