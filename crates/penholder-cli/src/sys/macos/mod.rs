//! What is macOS's own.

pub(crate) mod descent;
mod exit_event;
pub(crate) mod ignored_signals;
pub(crate) mod own_files;
pub(crate) mod pidfd;

pub(crate) use super::unix::{open_file, permission, pipe, process, signal, terminal};
