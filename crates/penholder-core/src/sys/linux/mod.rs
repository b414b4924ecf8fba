//! The platform layer on Linux.

pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod file;
pub(crate) mod filesystem;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod locks;
pub(crate) mod map;
pub(crate) mod mounts;
pub(crate) mod openers;
pub(crate) mod parking;
pub(crate) mod process;
#[cfg(feature = "failpoints")]
pub(crate) mod signal;
pub(crate) mod user;
