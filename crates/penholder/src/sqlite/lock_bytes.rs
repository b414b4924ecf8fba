//! The bytes on which SQLite takes its locks. Who holds one is read from the
//! kernel's tables. Those of writers are known to `penholder_core::SqliteHolder`.

use std::ops::RangeInclusive;

/// The bytes of the `-shm` file on which readers have shared locks: `WAL_READ_LOCK(0)` to
/// `WAL_READ_LOCK(4)`.
pub(crate) const WAL_READ: RangeInclusive<u64> = 123..=127;
/// The byte of the `-shm` file on which each connection that uses it has a shared lock:
/// `UNIX_SHM_DMS` (`os_unix.c`).
pub(crate) const INDEX_IN_USE: u64 = 128;
/// The bytes of the database file on which each connection in WAL mode has a shared lock:
/// `SHARED_FIRST` and `SHARED_SIZE` (`lockingv3.html`).
pub(crate) const SHARED: RangeInclusive<u64> = 0x4000_0002..=0x4000_01ff;
