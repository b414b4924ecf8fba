//! The one platform switch of this crate: `watch_forks` has functions called around each fork of
//! this process; `path_of` is what SQLite calls a file.

#[cfg(all(unix, not(penholder_unsupported)))]
mod unix;
#[cfg(all(unix, not(penholder_unsupported)))]
use unix as platform;

#[cfg(all(windows, not(penholder_unsupported)))]
mod windows;
#[cfg(all(windows, not(penholder_unsupported)))]
use windows as platform;

#[cfg(any(penholder_unsupported, not(any(unix, windows))))]
mod unsupported;
#[cfg(any(penholder_unsupported, not(any(unix, windows))))]
use unsupported as platform;

pub use platform::path_of;
pub(crate) use platform::watch_forks;
