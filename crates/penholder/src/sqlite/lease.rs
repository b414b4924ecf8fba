//! The lease of the writing connection: SQLite's locks are kept from one write to the next.

use std::ffi::CStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penholder_core::LeaseParty;
use penholder_vfs::DatabaseFile;

use crate::mutex::lock;
use crate::options::OpenOptions;
use crate::sqlite::ffi;

/// Returns the VFS that connections with these options are opened with; `None` for SQLite's
/// default.
pub(crate) fn vfs(options: &OpenOptions) -> Option<&'static CStr> {
    let is_wanted = options.lease && ffi::register_vfs().is_ok();
    is_wanted.then_some(penholder_vfs::NAME)
}

/// The lease of a handle's writing connection, which may be opened again.
#[derive(Debug, Default)]
pub(crate) struct ConnectionLease {
    file: Mutex<Option<Arc<DatabaseFile>>>,
}

impl ConnectionLease {
    /// Notes which connection writes from now on.
    pub(crate) fn set(&self, file: Option<Arc<DatabaseFile>>) {
        let former = std::mem::replace(&mut *lock(&self.file), file);
        if let Some(former) = former {
            former.end_lease();
        }
    }

    fn file(&self) -> Option<Arc<DatabaseFile>> {
        lock(&self.file).clone()
    }
}

impl LeaseParty for ConnectionLease {
    fn end(&self) {
        if let Some(file) = self.file() {
            file.end_lease();
        }
    }

    fn leave_gap(&self, held: Duration, now: fn() -> u64) {
        if let Some(file) = self.file() {
            file.listen_for_outsiders(held, now);
        }
    }
}
