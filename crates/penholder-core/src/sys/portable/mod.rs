//! What needs nothing but `std`: parking, and what platforms without forks share.

#[cfg(any(
    not(any(target_os = "linux", target_os = "macos")),
    penholder_unsupported
))]
pub(crate) mod descriptor;
#[cfg(any(
    not(any(target_os = "linux", target_os = "macos")),
    penholder_unsupported
))]
pub(crate) mod fork;
pub(crate) mod parking;
