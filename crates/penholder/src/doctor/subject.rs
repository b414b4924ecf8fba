//! What is examined.

use penholder_lock::WriteLocker;

use crate::location::Location;
use crate::options::Options;

/// A database to examine, and how it is opened.
pub(super) struct Subject<'a> {
    pub(super) location: &'a Location,
    pub(super) options: &'a Options,
    pub(super) locker: &'a WriteLocker,
}
