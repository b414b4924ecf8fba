//! When a directory was last changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When a name in a directory was last created, deleted or changed: since 1970, by the clock that
/// the system can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectoryStamp(pub(crate) Duration);

impl DirectoryStamp {
    /// Returns whether it is older than `age` at the time `now`; `false` if the clock was set
    /// back since.
    pub(crate) fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        now.duration_since(UNIX_EPOCH)
            .is_ok_and(|now| self.0 + age < now)
    }
}
