//! The lock works again after its file was deleted, replaced or truncated, and reports
//! anything else in its place as an error. It also works under any path.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "a test prints its own paths")]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{Deadline, LockError, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
#[cfg(unix)]
use penholder_testkit::portable;
#[cfg(windows)]
use penholder_testkit::wait;
use penholder_testkit::{lock_fixture, peer, raw_file, requirement};

/// A replaced lock file is noticed within 100 ms. This is a little more.
const NOTICE_TIME: Duration = Duration::from_millis(150);

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        ("change_directory", change_directory),
    ]);
}

#[test]
fn a_lock_file_deleted_while_free_is_created_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let [mut first, mut second] = [(); 2].map(|()| start_attached(&path));
    raw_file::remove(&path);
    first.acquire();
    assert!(path.exists());
    second.assert_blocked_by(first.pid());
    first.release();
    second.acquire();
    first.assert_blocked_by(second.pid());
}

#[test]
fn a_lock_file_deleted_while_held_is_abandoned_for_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut first = LockPeer::holding(&path);
    raw_file::remove(&path);
    assert_eq!(first.status(), "Free", "the path names nothing");
    let mut second = LockPeer::holding(&path);
    // The deleted file has no path any more. The new file has one holder.
    first.release();
    first.assert_blocked_by(second.pid());
    second.release();
    first.acquire();
    second.assert_blocked_by(first.pid());
}

#[test]
fn a_lock_file_replaced_while_free_is_noticed_soon() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut old = start_attached(&path);
    fs::rename(&path, directory.path().join("away")).unwrap();
    fs::write(&path, "").unwrap();
    let mut new = LockPeer::holding(&path);
    thread::sleep(NOTICE_TIME);
    old.assert_blocked_by(new.pid());
    new.release();
    old.acquire();
    new.assert_blocked_by(old.pid());
}

/// Two lockers of one process use two names of one file. Then one name is given to
/// another file, and each locker locks the file under its own name.
#[test]
fn two_names_of_one_file_are_two_locks_after_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let [kept, replaced] = ["kept.lock", "replaced.lock"].map(|name| directory.path().join(name));
    fs::write(&kept, "").unwrap();
    fs::hard_link(&kept, &replaced).unwrap();
    let lockers = [&kept, &replaced].map(|path| WriteLocker::at(path).unwrap());
    for locker in &lockers {
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
    }
    replace(&replaced);
    thread::sleep(NOTICE_TIME);
    for (this, path, other) in [(0, &kept, 1), (1, &replaced, 0)] {
        let mut peer = LockPeer::start(path);
        // The state of the file under the other name says nothing about this one.
        drop(lockers[other].acquire(LONG_TIMEOUT).unwrap());
        let guard = lockers[this].acquire(LONG_TIMEOUT).unwrap();
        peer.assert_blocked_by(std::process::id());
        drop(guard);
    }
}

/// The time runs from the replacement, not from the arrival of the waiter.
#[test]
fn a_lock_file_replaced_while_a_thread_is_queued_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let locker = WriteLocker::at(&path).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
            LockPeer::start(&path).assert_blocked_by(std::process::id());
        });
        // Long enough for it to queue. If it is not, the test is only easier.
        thread::sleep(Duration::from_millis(20));
        replace(&path);
        thread::sleep(NOTICE_TIME);
        guard.release().unwrap();
        waiter.join().unwrap();
    });
}

/// One deadline may bound many acquisitions. Each of them checks the file.
#[test]
fn a_lock_file_replaced_between_acquisitions_by_one_deadline_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let locker = WriteLocker::at(&path).unwrap();
    let deadline = Deadline::after(LONG_TIMEOUT);
    drop(locker.acquire_until(&deadline).unwrap());
    replace(&path);
    thread::sleep(NOTICE_TIME);
    let _guard = locker.acquire_until(&deadline).unwrap();
    LockPeer::start(&path).assert_blocked_by(std::process::id());
}

/// Renames another file over the lock file, so that the path always names a file. The
/// old file keeps another name, so that its link count does not show the replacement.
fn replace(path: &Path) {
    let [away, other] = ["away", "other"].map(|name| path.with_extension(name));
    fs::hard_link(path, &away).unwrap();
    fs::write(&other, "").unwrap();
    raw_file::replace(path, &other);
}

/// A waiter checks the file at every probe, so it does not wait for the holder of a file
/// that was replaced.
#[test]
fn a_waiter_follows_a_replaced_lock_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let holder = LockPeer::holding(&path);
    let mut waiter = LockPeer::start(&path);
    waiter.start_acquire(LONG_TIMEOUT);
    assert_eq!(
        waiter.peer.read_line_within(Duration::from_millis(100)),
        None
    );
    replace(&path);
    waiter.peer.expect("held");
    LockPeer::start(&path).assert_blocked_by(waiter.pid());
    drop(holder);
}

#[test]
fn a_lock_file_truncated_while_held_is_still_held() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut first = LockPeer::holding(&path);
    let mut second = LockPeer::start(&path);
    // As `: > db.lock` does.
    fs::File::create(&path).unwrap();
    assert_eq!(lock_fixture::record_text(&path), "");
    second.assert_blocked_by(first.pid());
    assert!(second.status().ends_with("recorded:false"));
    first.release();
    assert_eq!(lock_fixture::record_text(&path).trim(), "");
    second.acquire();
    assert!(lock_fixture::record_text(&path).starts_with(&format!("pid:{}\ntime:", second.pid())));
    first.assert_blocked_by(second.pid());
}

#[test]
fn garbage_in_the_lock_file_harms_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let live_pid = std::process::id();
    for garbage in [
        "\0\u{1b}[31mpid:\n".repeat(1000),
        format!("pid:{live_pid}\ntime:2026-01-15T10:30:45Z\n"),
        "pid:0\ntime:\n".to_owned(),
    ] {
        fs::write(&path, garbage).unwrap();
        let mut first = LockPeer::start(&path);
        // Windows shows no locks, so there the record of a process that lives is believed.
        let is_believed = cfg!(windows) && garbage_names(&path, live_pid);
        assert!(first.status() == "Free" || is_believed);
        first.acquire();
        assert_eq!(lock_fixture::record_text(&path).len(), 512);
        LockPeer::start(&path).assert_blocked_by(first.pid());
        first.release();
    }
}

fn garbage_names(path: &Path, pid: u32) -> bool {
    lock_fixture::record_text(path).starts_with(&format!("pid:{pid}\n"))
}

/// Starts a process that has the lock file open but does not hold the lock.
fn start_attached(lock_file: &Path) -> LockPeer {
    let mut lock_peer = LockPeer::holding(lock_file);
    lock_peer.release();
    lock_peer
}

/// Asserts that a process which had the lock file open and a new process get this error
/// at once, and that the lock works after the obstacle is removed.
fn assert_refused(put_there: impl Fn(&Path), why: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let old = start_attached(&path);
    raw_file::remove(&path);
    put_there(&path);
    for mut lock_peer in [old, LockPeer::start(&path)] {
        let start = Instant::now();
        let text = lock_peer.acquire_within(LONG_TIMEOUT);
        assert!(start.elapsed() < Duration::from_secs(5), "it waited");
        let expected = format!("open lock file: {}: {why}", path.display());
        assert!(text.starts_with(&expected), "{text}");
        // Reading the status fails too, or finds no holder, but does not hang.
        assert!(!lock_peer.status().starts_with("Held"));
    }
    fs::remove_file(&path)
        .or_else(|_| fs::remove_dir(&path))
        .unwrap();
    LockPeer::start(&path).acquire();
}

#[test]
fn a_directory_in_place_of_the_lock_file_is_refused() {
    assert_refused(
        |path| fs::create_dir(path).unwrap(),
        "it is a directory: remove it",
    );
}

#[cfg(unix)]
#[test]
fn a_fifo_in_place_of_the_lock_file_is_refused_without_hanging() {
    assert_refused(portable::make_fifo, "not a regular file: remove it");
}

#[test]
fn a_symbolic_link_in_place_of_the_lock_file_is_refused_and_its_target_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    fs::write(&target, "content").unwrap();
    let missing = directory.path().join("missing");
    let why = "it is a symbolic link: remove it";
    if !raw_file::link(&target, &directory.path().join("link")) {
        return;
    }
    for target in [&target, &missing] {
        assert_refused(|path| assert!(raw_file::link(target, path)), why);
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "content");
    assert!(!missing.exists());
}

fn error_of(path: &Path) -> LockError {
    WriteLocker::at(path).unwrap_err()
}

#[test]
fn a_path_without_a_directory_or_a_file_name_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();

    let error = WriteLocker::new(directory.path().join("missing"))
        .unwrap_err()
        .to_string();
    let missing = Path::new("missing").join("db.lock");
    assert!(
        error.contains(&format!("{}: ", missing.display())),
        "{error}"
    );
    assert!(error.ends_with("create the directory first"), "{error}");
    let error = WriteLocker::new(&file).unwrap_err().to_string();
    assert!(
        error.contains("what should be its directory is a file"),
        "{error}"
    );
    for path in ["", "/", ".."] {
        let error = error_of(Path::new(path)).to_string();
        assert!(error.contains("it names no file"), "{path:?}: {error}");
    }
}

#[test]
fn a_directory_that_is_deleted_later_is_an_error_until_it_exists_again() {
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("nested");
    fs::create_dir(&nested).unwrap();
    let locker = WriteLocker::new(&nested).unwrap();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
    let removed = fs::remove_dir_all(&nested);
    if removed.is_err() && cfg!(windows) {
        return requirement::skip("to delete an open file, which Wine does when it is closed");
    }
    removed.unwrap();
    let error = locker.acquire(LONG_TIMEOUT).unwrap_err();
    assert!(!error.is_timeout() && error.to_string().ends_with("create the directory first"));
    assert_eq!(locker.holder().unwrap(), None);
    fs::create_dir(&nested).unwrap();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
}

/// Creates two lockers with relative paths in one directory and uses them in another.
fn change_directory(args: &[OsString]) {
    std::env::set_current_dir(&args[0]).unwrap();
    let lockers = [WriteLocker::new("."), WriteLocker::at("other.lock")].map(Result::unwrap);
    std::env::set_current_dir("/").unwrap();
    let _guards = lockers
        .each_ref()
        .map(|locker| locker.acquire(LONG_TIMEOUT).unwrap());
    peer::send("held");
    peer::expect("release");
}

#[test]
fn a_relative_path_is_resolved_when_the_locker_is_created() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Peer::start("change_directory", [directory.path()]);
    holder.expect("held");
    for name in ["db.lock", "other.lock"] {
        let path = directory.path().join(name);
        LockPeer::start(&path).assert_blocked_by(holder.pid());
    }
    holder.send("release");
    assert!(holder.close().success());
}

#[cfg(unix)]
#[test]
fn a_path_may_consist_of_any_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let directory = tempfile::tempdir().unwrap();
    let odd = directory
        .path()
        .join(OsStr::from_bytes(b"\xff odd: (deleted)"));
    fs::create_dir(&odd).unwrap();
    let path = odd.join(OsStr::from_bytes(b"\xfe\x80.lock"));
    let mut lock_peer = LockPeer::holding(&path);
    LockPeer::start(&path).assert_blocked_by(lock_peer.pid());
    // Also if only the name of the descriptor identifies the holder.
    fs::File::create(&path).unwrap();
    let locker = WriteLocker::at(&path).unwrap();
    assert_eq!(locker.holder().unwrap().unwrap().pid, Some(lock_peer.pid()));
    lock_peer.release();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
}

/// As a virus scanner or a backup program does for a moment.
#[cfg(windows)]
#[test]
fn a_lock_file_that_is_not_shared_is_waited_for_until_the_deadline() {
    use std::os::windows::fs::OpenOptionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    fs::write(&path, "").unwrap();
    let open_alone = || {
        let mut options = fs::File::options();
        options.read(true).share_mode(0).open(&path).unwrap()
    };
    let alone = open_alone();
    let (error, took) = wait::timed(|| {
        let locker = WriteLocker::new(directory.path()).unwrap();
        locker.acquire(Duration::from_millis(200)).unwrap_err()
    });
    assert!(error.to_string().contains("virus scanner"), "{error}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let scanner = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1500));
        drop(alone);
    });
    let locker = WriteLocker::new(directory.path()).unwrap();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
    scanner.join().unwrap();
}
