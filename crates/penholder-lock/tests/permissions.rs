//! Two users of one group share a lock, and a user without permission on the lock file
//! gets an error. The tests need root, because they start processes of other users.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "a test prints its own paths")]
#![cfg(unix)] // users and groups have no numbers on Windows

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use penholder_lock::{QueueFileFault, QueueFileState, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, requirement, wait};
use tempfile::TempDir;

const GROUP: u32 = 64_321;
const USERS: [u32; 2] = [64_322, 64_323];

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        ("queue_by_group", queue_by_group),
    ]);
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

/// A user who may not write the database.
const STRANGER: u32 = 61_234;

/// A database of root in a directory that every user may write, with a queue file of a stranger
/// in it.
struct Planted {
    shared: Shared,
    /// The process that uses it.
    stranger: LockPeer,
}

impl Planted {
    fn new() -> Option<Self> {
        let shared = Shared::new(0o1777)?;
        fs::set_permissions(shared.path("db"), Permissions::from_mode(0o644)).unwrap();
        chown(shared.path("db"), Some(0), Some(0)).unwrap();
        let mut stranger = shared.user(STRANGER, &[]);
        stranger.acquire();
        assert_eq!(
            fs::metadata(shared.path("db.lockq")).unwrap().uid(),
            STRANGER
        );
        Some(Self { shared, stranger })
    }

    fn locker(&self) -> WriteLocker {
        let locker = WriteLocker::at(self.shared.path("db.lock")).unwrap();
        locker.permissions_like(self.shared.path("db"))
    }

    /// Starts a process of root.
    fn root(&self) -> LockPeer {
        let model = format!("model={}", self.shared.path("db").display());
        LockPeer::spawn(LockPeer::command(&self.shared.path("db.lock"), &[&model]))
    }
}

#[test]
fn a_queue_file_of_a_stranger_that_is_truncated_ends_no_process() {
    let Some(mut planted) = Planted::new() else {
        return;
    };
    let mut root = planted.root();
    root.start_acquire(LONG_TIMEOUT);
    planted.stranger.release();
    root.peer.expect("held");
    let queue_file = planted.shared.path("db.lockq");
    planted.stranger.peer.kill();
    let truncated = Command::new("setpriv")
        .args([
            &format!("--reuid={STRANGER}"),
            "--clear-groups",
            "truncate",
            "--size=0",
        ])
        .arg(&queue_file)
        .status();
    assert!(truncated.unwrap().success(), "truncate");
    root.release();
    let mut other = planted.root();
    for lock_peer in [&mut root, &mut other] {
        lock_peer.acquire();
        lock_peer.release();
    }
    // It is not even replaced.
    assert_eq!(fs::metadata(&queue_file).unwrap().uid(), STRANGER);
}

#[test]
fn a_queue_file_of_a_stranger_stays_and_status_names_its_owner() {
    let Some(mut planted) = Planted::new() else {
        return;
    };
    let queue_file = planted.shared.path("db.lockq");
    let ino = fs::metadata(&queue_file).unwrap().ino();
    let mut root = planted.root();
    planted.stranger.release();
    for _ in 0..4 {
        root.acquire();
        planted.stranger.start_acquire(LONG_TIMEOUT);
        thread::sleep(Duration::from_millis(110));
        root.release();
        planted.stranger.peer.expect("held");
        root.start_acquire(LONG_TIMEOUT);
        planted.stranger.release();
        root.peer.expect("held");
        root.release();
    }
    assert_eq!(fs::metadata(&queue_file).unwrap().ino(), ino);
    let status = planted.locker().status().unwrap();
    assert_eq!(status.queue_file, QueueFileState::Unusable);
    let fault = status.queue_file_fault.unwrap();
    assert_eq!(fault, QueueFileFault::OtherUser(STRANGER));
    assert!(
        fault.to_string().contains("belongs to user 61234"),
        "{fault}"
    );
    // The advice works.
    let advice = fault.advice(&queue_file);
    let command = advice.split('`').nth(1).unwrap();
    let removed = Command::new("sh").args(["-c", command]).status();
    assert!(removed.unwrap().success(), "{command}");
    thread::sleep(Duration::from_millis(110));
    root.acquire();
    let status = planted.locker().status().unwrap();
    assert_eq!(status.queue_file, QueueFileState::InUse);
}

/// The database does not exist yet, and the lock file is the stranger's too.
#[test]
fn without_a_database_a_lock_file_of_a_stranger_says_nothing() {
    let Some(mut planted) = Planted::new() else {
        return;
    };
    fs::remove_file(planted.shared.path("db")).unwrap();
    let fault = planted.locker().status().unwrap().queue_file_fault;
    assert_eq!(fault, Some(QueueFileFault::OtherUser(STRANGER)));
    let mut root = planted.root();
    root.start_acquire(LONG_TIMEOUT);
    planted.stranger.release();
    root.peer.expect("held");
}

#[test]
fn a_queue_file_that_more_users_may_write_than_the_lock_file_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_fixture::lock_file(directory.path());
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    LockPeer::holding(&path).release();
    let queue_file = directory.path().join("db.lockq");
    assert_eq!(fs::metadata(&queue_file).unwrap().mode() & 0o777, 0o644);
    fs::set_permissions(&queue_file, Permissions::from_mode(0o646)).unwrap();
    let mut lock_peer = LockPeer::start(&path);
    lock_peer.acquire();
    let status = WriteLocker::at(&path).unwrap().status().unwrap();
    let (mode, group) = (0o646, fs::metadata(&queue_file).unwrap().gid());
    let expected = QueueFileFault::WritableByOthers { mode, group };
    assert_eq!(status.queue_file_fault, Some(expected));
    let holder = status.holder.unwrap();
    assert_eq!(holder.pid, Some(lock_peer.pid()));
}

/// Users that `/etc/group` names share a queue, and others poll. In a mount namespace of its own.
fn queue_by_group(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let [ann, bob] = USERS;
    let users = format!("root:x:0:0::/:/bin/sh\nann:x:{ann}:{ann}::/:\nbob:x:{bob}:{bob}::/:\n");
    for (file, text) in [
        ("passwd", users),
        ("group", format!("shared:x:{GROUP}:ann\n")),
    ] {
        let replacement = directory.join(file);
        fs::write(&replacement, text).unwrap();
        let mut mount = Command::new("mount");
        mount
            .arg("--bind")
            .arg(replacement)
            .arg(format!("/etc/{file}"));
        assert!(mount.status().unwrap().success(), "mount");
    }
    // Bob builds a queue file, and Ann cannot tell that he is a member.
    for (builder, other, is_shared) in [(ann, bob, true), (bob, ann, false)] {
        let shared = Shared::new(0o2770).unwrap();
        let model = format!("model={}", shared.path("db").display());
        let holder = {
            let mut holder = shared.user(builder, &[&model]);
            holder.acquire();
            holder
        };
        let mut waiter = shared.user(other, &[&model]);
        waiter.start_acquire(LONG_TIMEOUT);
        let locker = WriteLocker::at(shared.path("db.lock")).unwrap();
        if is_shared {
            wait::until("it waits in the queue", || {
                !locker.status().unwrap().queue.is_empty()
            });
        } else {
            thread::sleep(Duration::from_millis(200));
            assert!(locker.status().unwrap().queue.is_empty());
        }
        drop(holder);
        waiter.peer.expect("held");
    }
    peer::send("done");
}

#[test]
fn members_of_the_group_of_the_database_share_a_queue() {
    if !requirement::is_root()
        || !requirement::has_program("setpriv")
        || !requirement::has_program("unshare")
        || !requirement::has_program("mount")
    {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let command = Peer::command("queue_by_group", [directory.path()]);
    let wrapper = ["unshare", "--mount", "--propagation", "private"];
    Peer::spawn(peer::wrapped(&wrapper, &command)).expect("done");
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
