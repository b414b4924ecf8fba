//! The one platform switch of this crate: `watch_forks` has functions called around each fork of
//! this process; `file_id` says which file it is, `path_of` what SQLite calls it.

#[cfg(all(unix, not(penholder_unsupported)))]
mod unix;
#[cfg(all(unix, not(penholder_unsupported)))]
pub use unix::path_of;
#[cfg(all(unix, not(penholder_unsupported)))]
pub(crate) use unix::{file_id, watch_forks};

#[cfg(not(all(unix, not(penholder_unsupported))))]
mod unsupported;
#[cfg(not(all(unix, not(penholder_unsupported))))]
pub use unsupported::path_of;
#[cfg(not(all(unix, not(penholder_unsupported))))]
pub(crate) use unsupported::{file_id, watch_forks};
