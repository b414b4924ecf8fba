//! Linux.

pub(crate) mod pipe;
mod poll;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod terminal;
