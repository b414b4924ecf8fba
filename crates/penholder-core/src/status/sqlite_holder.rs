//! The process that has one of SQLite's own locks on a database, from the kernel's tables.
//!
//! SQLite takes POSIX locks on bytes of the database file (`lockingv3.html`) and, in WAL mode, of
//! the `-shm` file (`walformat.html`). Nothing here opens a file or takes a lock.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::process::Process;
use crate::sys::locks::{self, LockSeen};
use crate::sys::process;

/// One of SQLite's locks, and what its holder does to others with it. The first keep most others
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum SqliteLock {
    /// EXCLUSIVE: no other connection reads or writes. A write outside WAL mode that commits, or
    /// `PRAGMA locking_mode=EXCLUSIVE`.
    Exclusive,
    /// PENDING: a write outside WAL mode waits for readers to end, and lets no others begin.
    Pending,
    /// The write lock of WAL mode.
    Write,
    /// RESERVED: the write lock outside WAL mode.
    Reserved,
    /// The lock under which the WAL is recovered.
    Recovery,
    /// SHARED, outside WAL mode: a read transaction, which a commit and a switch to WAL mode wait
    /// for. In WAL mode every open connection has it.
    Shared,
}

/// What a connection wants to do that one of SQLite's locks can prevent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SqliteAccess {
    /// To read, or to open.
    Read,
    /// To write.
    Write,
    /// To be the only connection: to switch the journal mode.
    Alone,
}

/// A process that has one of SQLite's own locks on a database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteHolder {
    /// The process.
    pub process: Process,
    /// The lock that it has; of several the one that keeps most others out.
    pub lock: SqliteLock,
    /// Whether it neither has the write lock nor works under it: a program that does not know of
    /// the write lock. A read transaction and a recovery need no write lock.
    pub is_outsider: bool,
}

/// `PENDING_BYTE` of the database file.
const PENDING: u64 = 0x4000_0000;
/// `RESERVED_BYTE`.
const RESERVED: u64 = PENDING + 1;
/// `SHARED_FIRST`, and the last of the `SHARED_SIZE` bytes.
const SHARED: (u64, u64) = (PENDING + 2, PENDING + 511);
/// `WAL_WRITE_LOCK` at `UNIX_SHM_BASE` of the `-shm` file.
const WAL_WRITE: u64 = 120;
/// `WAL_RECOVER_LOCK`.
const WAL_RECOVER: u64 = 122;

impl SqliteLock {
    const ALL: [Self; 6] = [
        Self::Exclusive,
        Self::Pending,
        Self::Write,
        Self::Reserved,
        Self::Recovery,
        Self::Shared,
    ];

    /// Returns the number that stands for it in a queue file, from two on: one is the write lock
    /// itself.
    pub(crate) fn number(self) -> u64 {
        self as u64 + 2
    }

    /// Whether it keeps writers out.
    #[must_use]
    pub fn keeps_writers_out(self) -> bool {
        SqliteAccess::Write.is_prevented_by(self)
    }

    /// Returns which of them a lock on the database file is, if it is one.
    fn on_database(lock: &LockSeen) -> Option<Self> {
        let covers = |first, last| lock.first <= last && lock.last >= first;
        if covers(SHARED.0, SHARED.1) {
            return Some(if lock.exclusive {
                Self::Exclusive
            } else {
                Self::Shared
            });
        }
        if !lock.exclusive {
            return None;
        }
        // Who has PENDING as well as RESERVED is about to commit.
        if covers(PENDING, PENDING) {
            Some(Self::Pending)
        } else {
            covers(RESERVED, RESERVED).then_some(Self::Reserved)
        }
    }

    /// Returns which of them a lock on the `-shm` file is, if it is one.
    fn on_index(lock: &LockSeen) -> Option<Self> {
        let covers = |byte| lock.exclusive && (lock.first..=lock.last).contains(&byte);
        // Who recovers has the write lock too, and the kernel joins neighbouring locks.
        if covers(WAL_RECOVER) {
            Some(Self::Recovery)
        } else {
            covers(WAL_WRITE).then_some(Self::Write)
        }
    }
}

impl SqliteAccess {
    fn is_prevented_by(self, lock: SqliteLock) -> bool {
        match lock {
            SqliteLock::Exclusive | SqliteLock::Pending | SqliteLock::Recovery => true,
            SqliteLock::Write | SqliteLock::Reserved => self != Self::Read,
            SqliteLock::Shared => self == Self::Alone,
        }
    }
}

impl SqliteHolder {
    /// Finds the process with a lock of SQLite that prevents this access to a database, if the
    /// kernel's tables show one at this moment; with a lock file, also whether it is an outsider
    /// to that. No file is opened, so this is safe for a database that SQLite has open in
    /// this process.
    #[must_use]
    pub fn find(database: &Path, lock_file: Option<&Path>, access: SqliteAccess) -> Option<Self> {
        let index = index_of(database);
        // Together: the write lock may change hands before a second look.
        let [on_database, on_index, on_lock_file] =
            locks::locks_on([database, &index, lock_file.unwrap_or(Path::new(""))]);
        let posix = |held: &&LockSeen| held.is_posix;
        let on_database = on_database.iter().filter(posix);
        let on_database =
            on_database.filter_map(|held| Some((SqliteLock::on_database(held)?, held.pid)));
        let on_index = on_index.iter().filter(posix);
        let on_index = on_index.filter_map(|held| Some((SqliteLock::on_index(held)?, held.pid)));
        let own = std::process::id();
        let (lock, pid) = on_database
            .chain(on_index)
            .filter(|&(lock, pid)| {
                access.is_prevented_by(lock) && (lock != SqliteLock::Shared || pid != own)
            })
            .min()?;
        let takers = on_lock_file.iter().filter(|held| !held.is_posix);
        let takers: Vec<u32> = takers.map(|held| held.pid).collect();
        Some(Self {
            process: Process::of(pid),
            lock,
            is_outsider: !matches!(lock, SqliteLock::Shared | SqliteLock::Recovery)
                && lock_file.is_some_and(|lock_file| !is_under(pid, &takers, lock_file)),
        })
    }

    /// Makes it of what a process left in the queue file.
    pub(super) fn of_record(process: Process, number: u64) -> Option<Self> {
        let lock = SqliteLock::ALL
            .into_iter()
            .find(|lock| lock.number() == number)?;
        Some(Self {
            process,
            lock,
            is_outsider: true,
        })
    }
}

/// Whether a process has the write lock, which these processes took, or works under the hold of
/// one of them.
fn is_under(pid: u32, takers: &[u32], lock_file: &Path) -> bool {
    if takers.is_empty() {
        return false;
    }
    // The process that took it may have ended, and left it to its parent or its children.
    let holds = |pid| {
        let name = locks::table_name(lock_file);
        name.is_some_and(|name| locks::holds_flock(pid, lock_file, &name) == Some(true))
    };
    let own = std::process::id();
    let mut family = process::ancestors(pid);
    family.push(pid);
    // This process lends its hold to no child while it waits for SQLite's lock itself.
    family.retain(|&one| one != own || pid == own);
    family.iter().any(|one| takers.contains(one)) || family.into_iter().any(holds)
}

/// Returns the path of the `-shm` file.
fn index_of(database: &Path) -> PathBuf {
    let mut name = OsString::from(database);
    name.push("-shm");
    name.into()
}

/// What its holder does.
impl fmt::Display for SqliteLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exclusive => {
                "has the database locked exclusively (`PRAGMA locking_mode=EXCLUSIVE`, or a write \
                 outside WAL mode)"
            }
            Self::Pending | Self::Reserved => "writes outside WAL mode",
            Self::Write => "writes",
            Self::Recovery => "recovers the WAL",
            Self::Shared => "reads outside WAL mode",
        })
    }
}

impl fmt::Display for SqliteHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.process.pid == std::process::id() {
            return write!(f, "another connection of this process {}", self.lock);
        }
        write!(f, "{} {}", self.process, self.lock)?;
        if self.is_outsider {
            f.write_str(" without the write lock")?;
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for SqliteHolder {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("SqliteHolder", 5)?;
        out.serialize_field("pid", &self.process.pid)?;
        out.serialize_field("cmd", &self.process.cmd)?;
        out.serialize_field("state", &self.process.state)?;
        out.serialize_field("lock", &self.lock)?;
        out.serialize_field("outsider", &self.is_outsider)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(exclusive: bool, first: u64, last: u64) -> LockSeen {
        LockSeen {
            is_posix: true,
            pid: 1,
            exclusive,
            first,
            last,
        }
    }

    #[test]
    fn locks_are_told_apart_by_their_bytes() {
        for (lock, found) in [
            (held(true, SHARED.0, SHARED.1), Some(SqliteLock::Exclusive)),
            // The kernel joins neighbouring locks of one process.
            (held(true, PENDING, SHARED.1), Some(SqliteLock::Exclusive)),
            (held(true, RESERVED, SHARED.1), Some(SqliteLock::Exclusive)),
            (held(true, PENDING, PENDING), Some(SqliteLock::Pending)),
            (held(true, PENDING, RESERVED), Some(SqliteLock::Pending)),
            (held(true, RESERVED, RESERVED), Some(SqliteLock::Reserved)),
            (held(false, SHARED.0, SHARED.1), Some(SqliteLock::Shared)),
            (held(false, PENDING, PENDING), None),
            (held(true, 0, 10), None),
        ] {
            assert_eq!(SqliteLock::on_database(&lock), found, "{lock:?}");
        }
        for (lock, found) in [
            (held(true, 120, 120), Some(SqliteLock::Write)),
            (held(true, 120, 121), Some(SqliteLock::Write)),
            (held(true, 120, 122), Some(SqliteLock::Recovery)),
            (held(true, 120, 127), Some(SqliteLock::Recovery)),
            (held(true, 121, 122), Some(SqliteLock::Recovery)),
            (held(true, 121, 121), None),
            (held(false, 123, 123), None),
            (held(false, 128, 128), None),
        ] {
            assert_eq!(SqliteLock::on_index(&lock), found, "{lock:?}");
        }
    }

    #[test]
    fn a_reader_is_in_the_way_only_of_who_wants_to_be_alone() {
        use SqliteAccess::{Alone, Read, Write};
        assert!(Alone.is_prevented_by(SqliteLock::Shared));
        assert!(!Write.is_prevented_by(SqliteLock::Shared));
        assert!(Write.is_prevented_by(SqliteLock::Reserved));
        assert!(!Read.is_prevented_by(SqliteLock::Reserved));
        assert!(Read.is_prevented_by(SqliteLock::Exclusive));
    }
}
