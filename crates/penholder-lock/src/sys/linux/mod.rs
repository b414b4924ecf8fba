//! Linux.

pub(crate) mod file;
pub(crate) mod filesystem;
pub(crate) mod fork;
pub(crate) mod locks;
pub(crate) mod process;
