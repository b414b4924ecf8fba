//! What Linux, macOS and other Unix systems have in common. Each platform takes from here what it
//! does not do in its own way.

pub(crate) mod descriptor;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod map;
pub(crate) mod openers;
pub(crate) mod process;
#[cfg(feature = "failpoints")]
pub(crate) mod signal;
pub(in crate::sys) mod stat;
pub(crate) mod user;
