//! The lock file under attack: deleted, replaced, truncated, and everything
//! that may stand in its place; and the paths that lead to it.
#![cfg(test)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{Deadline, LockError, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// After this time a replaced lock file is noticed: 100 ms and a bit.
const NOTICED: Duration = Duration::from_millis(150);

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        ("change_folder", change_folder),
    ]);
}

#[test]
fn deleted_while_free_is_created_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let [mut one, mut other] = [(); 2].map(|()| holding_and_releasing(&path));
    fs::remove_file(&path).unwrap();
    one.acquire();
    assert!(path.exists());
    other.assert_blocked_by(one.pid());
    one.release();
    other.acquire();
    one.assert_blocked_by(other.pid());
}

#[test]
fn deleted_while_held_is_left_for_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut one = LockPeer::holding(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(one.status(), "Free", "the path names nothing");
    let mut other = LockPeer::holding(&path);
    // What it held is nobody's file any more; of the new one there is one holder.
    one.release();
    one.assert_blocked_by(other.pid());
    other.release();
    one.acquire();
    other.assert_blocked_by(one.pid());
}

#[test]
fn replaced_while_free_is_noticed_soon() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut old = holding_and_releasing(&path);
    fs::rename(&path, directory.path().join("away")).unwrap();
    fs::write(&path, "").unwrap();
    let mut new = LockPeer::holding(&path);
    thread::sleep(NOTICED);
    old.assert_blocked_by(new.pid());
    new.release();
    old.acquire();
    new.assert_blocked_by(old.pid());
}

/// One process, two lockers, one file with two names, until one name is given
/// to another file: then each locker locks what its own name names.
#[test]
fn two_names_of_one_file_part_when_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let [kept, replaced] = ["kept.lock", "replaced.lock"].map(|name| directory.path().join(name));
    fs::write(&kept, "").unwrap();
    fs::hard_link(&kept, &replaced).unwrap();
    let lockers = [&kept, &replaced].map(|path| WriteLocker::at(path).unwrap());
    for locker in &lockers {
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
    }
    replace(&replaced);
    thread::sleep(NOTICED);
    for (mine, path, neighbour) in [(0, &kept, 1), (1, &replaced, 0)] {
        let mut outsider = LockPeer::start(path);
        // What the neighbour saw under its name says nothing of the other name.
        drop(lockers[neighbour].acquire(LONG_TIMEOUT).unwrap());
        let guard = lockers[mine].acquire(LONG_TIMEOUT).unwrap();
        outsider.assert_blocked_by(std::process::id());
        drop(guard);
    }
}

/// The time runs from the replacement, not from when the waiter came.
#[test]
fn replaced_while_a_thread_waits_in_line_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let locker = WriteLocker::at(&path).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
            LockPeer::start(&path).assert_blocked_by(std::process::id());
        });
        // Long enough for it to stand in line; if not, the test is only easier.
        thread::sleep(Duration::from_millis(20));
        replace(&path);
        thread::sleep(NOTICED);
        guard.release().unwrap();
        waiter.join().unwrap();
    });
}

/// One deadline may bound many acquisitions; each of them looks.
#[test]
fn replaced_between_two_acquisitions_by_one_deadline_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let locker = WriteLocker::at(&path).unwrap();
    let deadline = Deadline::after(LONG_TIMEOUT);
    drop(locker.acquire_by(&deadline).unwrap());
    replace(&path);
    thread::sleep(NOTICED);
    let _guard = locker.acquire_by(&deadline).unwrap();
    LockPeer::start(&path).assert_blocked_by(std::process::id());
}

/// Renames another file over it: at no moment is the path empty. The old one
/// keeps a name, so that its link count does not give it away.
fn replace(path: &Path) {
    let [away, other] = ["away", "other"].map(|name| path.with_extension(name));
    fs::hard_link(path, &away).unwrap();
    fs::write(&other, "").unwrap();
    fs::rename(&other, path).unwrap();
}

/// A waiter looks at every probe, so it does not wait for whoever holds a file
/// that has been replaced.
#[test]
fn replaced_while_waited_for_is_followed() {
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
fn truncated_while_held_is_still_held() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut one = LockPeer::holding(&path);
    let mut other = LockPeer::start(&path);
    // What `: > db.lock` does.
    fs::File::create(&path).unwrap();
    assert_eq!(lock_fixture::record_text(&path), "");
    other.assert_blocked_by(one.pid());
    assert!(other.status().ends_with("recorded:false"));
    one.release();
    assert_eq!(lock_fixture::record_text(&path).trim(), "");
    other.acquire();
    assert!(lock_fixture::record_text(&path).starts_with(&format!("pid:{}\ntime:", other.pid())));
    one.assert_blocked_by(other.pid());
}

#[test]
fn garbage_in_it_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let living = std::process::id();
    for garbage in [
        "\0\u{1b}[31mpid:\n".repeat(1000),
        format!("pid:{living}\ntime:2026-01-15T10:30:45Z\n"),
        "pid:0\ntime:\n".to_owned(),
    ] {
        fs::write(&path, garbage).unwrap();
        let mut one = LockPeer::start(&path);
        assert_eq!(one.status(), "Free");
        one.acquire();
        assert_eq!(lock_fixture::record_text(&path).len(), 512);
        LockPeer::start(&path).assert_blocked_by(one.pid());
        one.release();
    }
}

/// Starts a process that has the lock file open and does not hold the lock.
fn holding_and_releasing(lock_file: &Path) -> LockPeer {
    let mut lock_peer = LockPeer::holding(lock_file);
    lock_peer.release();
    lock_peer
}

/// It gets a clear error, at once, as one that had the lock file open and as
/// one that comes new; and the lock once what stands there is gone.
fn is_refused(put_there: impl Fn(&Path), why: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let old = holding_and_releasing(&path);
    fs::remove_file(&path).unwrap();
    put_there(&path);
    for mut lock_peer in [old, LockPeer::start(&path)] {
        let begun = Instant::now();
        let told = lock_peer.acquire_within(LONG_TIMEOUT);
        assert!(begun.elapsed() < Duration::from_secs(5), "it waited");
        let expected = format!("open lock file: {}: {why}", path.display());
        assert!(told.starts_with(&expected), "{told}");
        // Looking fails too or finds nobody, but does not hang.
        assert!(!lock_peer.status().starts_with("Held"));
    }
    fs::remove_file(&path)
        .or_else(|_| fs::remove_dir(&path))
        .unwrap();
    LockPeer::start(&path).acquire();
}

#[test]
fn a_folder_in_its_place_is_refused() {
    is_refused(
        |path| fs::create_dir(path).unwrap(),
        "a folder stands there: remove it",
    );
}

#[test]
fn a_fifo_in_its_place_is_refused_without_hanging() {
    let make = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
    is_refused(|path| make(path).unwrap(), "not a regular file: remove it");
}

#[test]
fn a_symbolic_link_in_its_place_is_refused_and_its_target_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("precious");
    fs::write(&target, "precious").unwrap();
    let missing = directory.path().join("missing");
    let why = "a symbolic link stands there: remove it";
    is_refused(|path| symlink(&target, path).unwrap(), why);
    is_refused(|path| symlink(&missing, path).unwrap(), why);
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert!(!missing.exists());
}

fn refused(path: &Path) -> LockError {
    WriteLocker::at(path).unwrap_err()
}

#[test]
fn a_path_that_leads_nowhere_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();

    let error = WriteLocker::new(directory.path().join("missing"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("missing/db.lock: No such file"), "{error}");
    assert!(error.ends_with("create the folder first"), "{error}");
    let error = WriteLocker::new(&file).unwrap_err().to_string();
    assert!(
        error.contains("what should be its directory is a file"),
        "{error}"
    );
    for path in ["", "/", ".."] {
        let error = refused(Path::new(path)).to_string();
        assert!(error.contains("it names no file"), "{path:?}: {error}");
    }
}

#[test]
fn a_folder_that_is_deleted_later_is_an_error_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let deeper = directory.path().join("deeper");
    fs::create_dir(&deeper).unwrap();
    let locker = WriteLocker::new(&deeper).unwrap();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
    fs::remove_dir_all(&deeper).unwrap();
    let error = locker.acquire(LONG_TIMEOUT).unwrap_err();
    assert!(!error.is_timeout() && error.to_string().ends_with("create the folder first"));
    assert_eq!(locker.holder().unwrap(), None);
    fs::create_dir(&deeper).unwrap();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
}

/// Two relative lockers made in one directory, used in another.
fn change_folder(args: &[OsString]) {
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
fn a_relative_path_means_what_it_meant_at_first() {
    let directory = tempfile::tempdir().unwrap();
    let mut wanderer = Peer::start("change_folder", [directory.path()]);
    wanderer.expect("held");
    for name in ["db.lock", "other.lock"] {
        let path = directory.path().join(name);
        LockPeer::start(&path).assert_blocked_by(wanderer.pid());
    }
    wanderer.send("release");
    assert!(wanderer.close().success());
}

#[test]
fn a_path_may_be_any_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let odd = directory
        .path()
        .join(OsStr::from_bytes(b"\xff odd: (deleted)"));
    fs::create_dir(&odd).unwrap();
    let path = odd.join(OsStr::from_bytes(b"\xfe\x80.lock"));
    let mut lock_peer = LockPeer::holding(&path);
    LockPeer::start(&path).assert_blocked_by(lock_peer.pid());
    // Also where only the descriptor's name tells who holds.
    fs::File::create(&path).unwrap();
    let locker = WriteLocker::at(&path).unwrap();
    assert_eq!(locker.holder().unwrap().unwrap().pid, Some(lock_peer.pid()));
    lock_peer.release();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
}
