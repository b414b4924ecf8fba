//! What Linux and macOS have in common.

pub(crate) mod open_file;
pub(crate) mod permission;
pub(crate) mod pipe;
mod poll;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod terminal;
