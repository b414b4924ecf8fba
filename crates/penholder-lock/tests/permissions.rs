//! Two users of one group share a lock, and whoever may not use the lock file
//! is told so. Needs root, to play the users.
#![cfg(test)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use penholder_lock::{PageState, WriteLocker};
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
    /// This test binary, where every user may run it.
    program: PathBuf,
}

impl Shared {
    /// `None` if we cannot play other users.
    fn new(folder_bits: u32) -> Option<Self> {
        if !requirement::is_root() || !requirement::has_program("setpriv") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        // Not copied by this process: a child forked meanwhile by another test
        // would have the copy open for writing, and it could not be run.
        let copied = Command::new("cp")
            .arg(std::env::current_exe().unwrap())
            .arg(&program)
            .status();
        assert!(copied.unwrap().success(), "cp");
        let shared = Self { directory, program };
        fs::write(shared.path("db"), "").unwrap();
        set(&shared.path("db"), 0o664);
        set(shared.directory.path(), folder_bits);
        Some(shared)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A user who is in the group, but whose own group is another.
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

/// The command's arguments and environment, for another program.
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

fn set(path: &Path, bits: u32) {
    chown(path, None, Some(GROUP)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
}

/// The first user creates the lock file, the second one uses it.
fn can_share(folder_bits: u32) {
    let Some(shared) = Shared::new(folder_bits) else {
        return;
    };
    let model = format!("model={}", shared.path("db").display());
    let mut one = shared.user(USERS[0], &[&model, "umask=077"]);
    one.acquire();
    let made = fs::metadata(shared.path("db.lock")).unwrap();
    assert_eq!((made.mode() & 0o777, made.uid()), (0o664, USERS[0]));
    assert_eq!(made.gid(), GROUP);

    let mut other = shared.user(USERS[1], &[&model, "umask=077"]);
    other.assert_blocked_by(one.pid());
    one.release();
    other.acquire();
    one.assert_blocked_by(other.pid());
}

#[test]
fn two_users_of_one_group_share_a_lock() {
    can_share(0o2770);
}

/// Where the directory does not give its group to new files.
#[test]
fn two_users_of_one_group_share_a_lock_in_a_plain_folder() {
    can_share(0o770);
}

/// What `permissions_like` is for.
#[test]
fn without_a_model_the_umask_keeps_the_second_user_out() {
    let Some(shared) = Shared::new(0o2770) else {
        return;
    };
    let mut one = shared.user(USERS[0], &["umask=077"]);
    one.acquire();
    let told = shared.user(USERS[1], &[]).acquire_within(LONG_TIMEOUT);
    assert!(told.starts_with("open lock file: "), "{told}");
    assert!(told.contains("Permission denied"), "{told}");
    assert!(told.ends_with("read and write permission on the lock file and its folder"));
}

/// The lock file is there, but no page can be made beside it.
#[test]
fn in_a_folder_that_may_not_be_written_all_get_in() {
    let Some(shared) = Shared::new(0o2770) else {
        return;
    };
    let model = format!("model={}", shared.path("db").display());
    let [mut one, mut other] = {
        let mut maker = shared.user(USERS[0], &[&model]);
        maker.acquire();
        maker.release();
        drop(maker);
        fs::remove_file(shared.path("db.lockq")).unwrap();
        set(shared.directory.path(), 0o2550);
        USERS.map(|user| shared.user(user, &[&model]))
    };
    let locker = WriteLocker::at(shared.path("db.lock")).unwrap();
    for _ in 0..5 {
        one.acquire();
        other.assert_blocked_by(one.pid());
        other.start_acquire(LONG_TIMEOUT);
        one.release();
        other.peer.expect("held");
        one.assert_blocked_by(other.pid());
        other.release();
    }
    assert_eq!(locker.status().unwrap().page, PageState::None);
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
    // Whoever has it open works on; whoever comes new is told.
    user.acquire();
    let mut newcomer = shared.user(USERS[0], &[]);
    for told in [newcomer.acquire_within(LONG_TIMEOUT), newcomer.status()] {
        assert!(told.contains("Permission denied"), "{told}");
        assert!(!told.contains("timeout"), "{told}");
    }
    fs::set_permissions(shared.path("db.lock"), Permissions::from_mode(0o600)).unwrap();
    newcomer.assert_blocked_by(user.pid());
    user.release();
    newcomer.acquire();
}
