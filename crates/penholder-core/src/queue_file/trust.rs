//! Whose queue file a process uses.
//!
//! The owner of a file can truncate it, and a process that then touches its mapping ends with
//! SIGBUS. SQLite's `-shm` has that weakness too. So a queue file is used only if its owner
//! could as well truncate the `-shm`: who may write the database may end its processes, and
//! nobody else.

use std::path::Path;

use super::fault::QueueFileFault;
use crate::sys::file;
use crate::sys::ownership::Ownership;
use crate::sys::user;

/// Mode bit: members of the file's group may write.
const GROUP_WRITES: u32 = 0o020;
/// Mode bit: all users may write.
const OTHERS_WRITE: u32 = 0o002;

/// The file that says who may write here: the database, or the lock file where no database is
/// known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authority {
    ownership: Ownership,
    /// Whether this user may write that file. Otherwise no writer would use its queue file.
    may_build: bool,
}

impl Authority {
    /// Looks at the database (the model), or at the lock file without one.
    ///
    /// A lock file of another user says nothing about a database that does not exist yet: that
    /// user may have put it there. Then only this user and root are trusted.
    pub(crate) fn of(lock_file: &Path, model: Option<&Path>) -> Self {
        let user = user::effective();
        let nobody_else = Ownership {
            user,
            group: u32::MAX,
            mode: 0o600,
            is_regular: true,
        };
        if let Some(found) = model.and_then(|model| file::ownership_of_path(model).ok()) {
            return Self::new(found, model.is_some_and(file::may_write));
        }
        let found = file::ownership_of_path(lock_file).unwrap_or(nobody_else);
        let is_trusted = model.is_none() || found.user == user || found.user == 0;
        Self::new(if is_trusted { found } else { nobody_else }, true)
    }

    fn new(ownership: Ownership, may_build: bool) -> Self {
        Self {
            ownership,
            may_build,
        }
    }

    /// Returns whether this user may build the queue file.
    pub(crate) fn may_build(&self) -> bool {
        self.may_build
    }

    /// Returns what a queue file that is built here is to look like.
    pub(crate) fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Returns why a file is not used as the queue file, if it is not.
    pub(crate) fn fault_of(&self, file: &Ownership) -> Option<QueueFileFault> {
        self.judge(file, user::effective(), user::is_member)
    }

    fn judge(
        &self,
        file: &Ownership,
        this_user: u32,
        is_member: impl Fn(u32, u32) -> bool,
    ) -> Option<QueueFileFault> {
        let here = self.ownership;
        if !file.is_regular {
            return Some(QueueFileFault::NotAFile);
        }
        if here.mode & OTHERS_WRITE != 0 {
            return None;
        }
        let group_writes = here.mode & GROUP_WRITES != 0;
        let is_writer = [this_user, 0, here.user].contains(&file.user)
            || (group_writes && is_member(file.user, here.group));
        if !is_writer {
            return Some(QueueFileFault::OtherUser(file.user));
        }
        let same_group_writes = group_writes && file.group == here.group;
        let is_open =
            file.mode & OTHERS_WRITE != 0 || (file.mode & GROUP_WRITES != 0 && !same_group_writes);
        is_open.then_some(QueueFileFault::WritableByOthers {
            mode: file.mode,
            group: file.group,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u32 = 1;
    const OWNER: u32 = 2;
    const MEMBER: u32 = 3;
    const STRANGER: u32 = 4;
    const GROUP: u32 = 50;

    fn file(user: u32, group: u32, mode: u32) -> Ownership {
        Ownership {
            user,
            group,
            mode,
            is_regular: true,
        }
    }

    fn judge(database: u32, queue_file: Ownership) -> Option<QueueFileFault> {
        let authority = Authority::new(file(OWNER, GROUP, database), true);
        authority.judge(&queue_file, ME, |user, group| {
            (user, group) == (MEMBER, GROUP)
        })
    }

    #[test]
    fn only_who_may_write_the_database_is_trusted() {
        for user in [ME, 0, OWNER] {
            assert_eq!(judge(0o644, file(user, GROUP, 0o644)), None);
            assert_eq!(judge(0o600, file(user, 9, 0o600)), None);
        }
        for (database, user) in [(0o644, MEMBER), (0o644, STRANGER), (0o664, STRANGER)] {
            let found = judge(database, file(user, GROUP, 0o644));
            assert_eq!(found, Some(QueueFileFault::OtherUser(user)));
        }
        assert_eq!(judge(0o664, file(MEMBER, GROUP, 0o664)), None);
        assert_eq!(judge(0o666, file(STRANGER, 9, 0o666)), None);
    }

    #[test]
    fn a_file_that_more_users_may_write_than_the_database_is_not_used() {
        for (database, mode, group, is_used) in [
            (0o644, 0o664, GROUP, false),
            (0o644, 0o646, GROUP, false),
            (0o664, 0o664, GROUP, true),
            (0o664, 0o664, 9, false),
            (0o664, 0o644, 9, true),
            (0o664, 0o666, GROUP, false),
            (0o666, 0o666, 9, true),
        ] {
            let found = judge(database, file(OWNER, group, mode));
            assert_eq!(found.is_none(), is_used, "{database:o} {mode:o} {group}");
        }
    }

    #[test]
    fn only_a_regular_file_is_used() {
        let mut pipe = file(ME, GROUP, 0o666);
        pipe.is_regular = false;
        assert_eq!(judge(0o666, pipe), Some(QueueFileFault::NotAFile));
    }
}
