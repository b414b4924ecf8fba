//! What is Linux's own of the platform layer.

#![cfg_attr(
    penholder_macos_rules,
    allow(
        dead_code,
        unused_imports,
        reason = "the double of macOS takes only a part of it"
    )
)]

pub(in crate::sys) mod advice;
pub(crate) mod clock;
pub(crate) mod file;
pub(crate) mod filesystem;
pub(crate) mod futex;
pub(crate) mod locks;
pub(crate) mod mounts;
pub(crate) mod parking;
pub(crate) mod process;
pub(in crate::sys) mod process_files;
pub(in crate::sys) mod process_table;

#[cfg(feature = "failpoints")]
pub(crate) use super::unix::signal;
pub(crate) use super::unix::{descriptor, fork, map, openers, user};
