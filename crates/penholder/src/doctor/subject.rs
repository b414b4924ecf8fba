//! What is examined.

use penholder_lock::WriteLocker;

use crate::location::Location;
use crate::options::OpenOptions;

/// A database to examine, and how it is opened.
pub(super) struct Subject<'a> {
    pub(super) location: &'a Location,
    pub(super) options: &'a OpenOptions,
    pub(super) locker: &'a WriteLocker,
}
