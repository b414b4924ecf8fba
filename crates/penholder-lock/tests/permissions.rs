//! Two users of one group share a lock, and a user without permission on the lock file
//! gets an error. The tests need root, because they start processes of other users.
#![cfg(test)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use penholder_lock::{QueueFileState, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer};
use penholder_testkit::{lock_fixture, peer, requirement};
use tempfile::TempDir;

const GROUP: u32 = 64_321;
const USERS: [u32; 2] = [64_322, 64_323];

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE]);
}

/// A directory that the group may write, with a model database in it.
struct Shared {
    directory: TempDir,
    /// A copy of this test binary that every user may run.
    program: PathBuf,
}

impl Shared {
    /// Returns `None` if no process of another user can be started.
    fn new(directory_mode: u32) -> Option<Self> {
        if !requirement::is_root() || !requirement::has_program("setpriv") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        // Another process copies it: a child that another test forks meanwhile would have
        // the copy open for writing, and a file open for writing cannot be run.
        let copied = Command::new("cp")
            .arg(std::env::current_exe().unwrap())
            .arg(&program)
            .status();
        assert!(copied.unwrap().success(), "cp");
        let shared = Self { directory, program };
        fs::write(shared.path("db"), "").unwrap();
        set_group_and_mode(&shared.path("db"), 0o664);
        set_group_and_mode(shared.directory.path(), directory_mode);
        Some(shared)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a process of a user whose primary group is not the shared group.
    fn user(&self, id: u32, options: &[&str]) -> LockPeer {
        let command = LockPeer::command(&self.path("db.lock"), options);
        let mut command = peer::wrapped(
            &[
                "setpriv",
                &format!("--reuid={id}"),
                &format!("--regid={id}"),
                &format!("--groups={GROUP}"),
                self.program.to_str().unwrap(),
            ],
            &without_program(&command),
        );
        command.current_dir("/");
        LockPeer::spawn(command)
    }
}

/// Returns the command without its program, for a wrapper.
fn without_program(command: &Command) -> Command {
    let mut words = command.get_args();
    let mut rest = Command::new(words.next().unwrap());
    rest.args(words);
    rest.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    rest
}

fn set_group_and_mode(path: &Path, bits: u32) {
    chown(path, None, Some(GROUP)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
}

/// The first user creates the lock file, and the second user uses it.
fn assert_can_share(directory_mode: u32) {
    let Some(shared) = Shared::new(directory_mode) else {
        return;
    };
    let model = format!("model={}", shared.path("db").display());
    let mut first = shared.user(USERS[0], &[&model, "umask=077"]);
    first.acquire();
    let made = fs::metadata(shared.path("db.lock")).unwrap();
    assert_eq!((made.mode() & 0o777, made.uid()), (0o664, USERS[0]));
    assert_eq!(made.gid(), GROUP);

    let mut second = shared.user(USERS[1], &[&model, "umask=077"]);
    second.assert_blocked_by(first.pid());
    first.release();
    second.acquire();
    first.assert_blocked_by(second.pid());
}

#[test]
fn two_users_of_one_group_share_a_lock() {
    assert_can_share(0o2770);
}

/// New files do not inherit the group of this directory.
#[test]
fn two_users_of_one_group_share_a_lock_in_a_directory_without_setgid() {
    assert_can_share(0o770);
}

/// `permissions_like` prevents this.
#[test]
fn without_a_model_the_umask_excludes_the_second_user() {
    let Some(shared) = Shared::new(0o2770) else {
        return;
    };
    let mut first = shared.user(USERS[0], &["umask=077"]);
    first.acquire();
    let text = shared.user(USERS[1], &[]).acquire_within(LONG_TIMEOUT);
    assert!(text.starts_with("open lock file: "), "{text}");
    assert!(text.contains("Permission denied"), "{text}");
    assert!(text.ends_with("read and write permission on the lock file and its directory"));
}

/// The lock file exists, but no queue file can be created next to it.
#[test]
fn in_a_read_only_directory_all_processes_acquire_the_lock() {
    let Some(shared) = Shared::new(0o2770) else {
        return;
    };
    let model = format!("model={}", shared.path("db").display());
    let [mut first, mut second] = {
        let mut creator = shared.user(USERS[0], &[&model]);
        creator.acquire();
        creator.release();
        drop(creator);
        fs::remove_file(shared.path("db.lockq")).unwrap();
        set_group_and_mode(shared.directory.path(), 0o2550);
        USERS.map(|user| shared.user(user, &[&model]))
    };
    let locker = WriteLocker::at(shared.path("db.lock")).unwrap();
    for _ in 0..5 {
        first.acquire();
        second.assert_blocked_by(first.pid());
        second.start_acquire(LONG_TIMEOUT);
        first.release();
        second.peer.expect("held");
        first.assert_blocked_by(second.pid());
        second.release();
    }
    assert_eq!(locker.status().unwrap().queue_file, QueueFileState::None);
}

#[test]
fn a_lock_file_made_unreadable_is_an_error_until_it_is_readable() {
    let Some(shared) = Shared::new(0o2770) else {
        return;
    };
    let mut user = shared.user(USERS[0], &[]);
    user.acquire();
    user.release();
    fs::set_permissions(shared.path("db.lock"), Permissions::from_mode(0o000)).unwrap();
    // A process that has the file open goes on. A new process gets an error.
    user.acquire();
    let mut newcomer = shared.user(USERS[0], &[]);
    for text in [newcomer.acquire_within(LONG_TIMEOUT), newcomer.status()] {
        assert!(text.contains("Permission denied"), "{text}");
        assert!(!text.contains("timeout"), "{text}");
    }
    fs::set_permissions(shared.path("db.lock"), Permissions::from_mode(0o600)).unwrap();
    newcomer.assert_blocked_by(user.pid());
    user.release();
    newcomer.acquire();
}
