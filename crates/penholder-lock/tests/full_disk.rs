//! The lock works where no byte can be written. Only the record is missing, and the
//! kernel's tables name the holder instead.
#![cfg(test)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use penholder_testkit::lock_fixture::{LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, requirement};

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE, ("fill_disk", fill_disk)]);
}

fn assert_holds_without_a_record(lock_peer: &mut LockPeer, path: &Path) {
    lock_peer.acquire();
    assert_eq!(lock_fixture::record_text(path).trim(), "");
    let mut other = LockPeer::start(path);
    other.assert_blocked_by(lock_peer.pid());
    assert!(other.status().ends_with(" recorded:false"));
    // The lock is free, but `release` reports the failure.
    let text = lock_peer.ask("release");
    assert!(
        text.starts_with("empty the record of the write lock: "),
        "{text}"
    );
    assert_eq!(other.status(), "Free");
    other.acquire();
    // It releases, because a process killed while it holds would leave a record.
    other.ask("release");
}

/// The first time the lock file does not exist yet.
#[test]
fn a_process_that_may_write_no_file_holds_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let command = peer::wrapped(
        &["sh", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"],
        &LockPeer::command(&path, &[]),
    );
    let mut lock_peer = LockPeer::spawn(command);
    for _ in 0..2 {
        assert_holds_without_a_record(&mut lock_peer, &path);
    }
    // The record of a killed process is not taken for the record of the holder.
    let mut killed = LockPeer::holding(&path);
    killed.peer.kill();
    assert!(lock_fixture::record_text(&path).starts_with(&format!("pid:{}\n", killed.pid())));
    lock_peer.acquire();
    LockPeer::start(&path).assert_blocked_by(lock_peer.pid());
}

/// Fills a disk in a mount namespace of its own, which ends with the process.
fn fill_disk(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "full"])
        .arg(directory)
        .status();
    assert!(mounted.unwrap().success(), "mount");
    let filling = directory.join("filling");
    let mut file = File::create(&filling).unwrap();
    let error = (0..1000).find_map(|_| file.write_all(&[b'x'; 512]).err());
    assert_eq!(error.unwrap().kind(), ErrorKind::StorageFull);

    let path = lock_file(directory);
    let mut lock_peer = LockPeer::start(&path);
    assert_holds_without_a_record(&mut lock_peer, &path);
    // After there is space again, there are records again.
    fs::remove_file(&filling).unwrap();
    drop(file);
    lock_peer.acquire();
    assert!(
        lock_fixture::record_text(&path).starts_with(&format!("pid:{}\ntime:", lock_peer.pid()))
    );
    lock_peer.release();
    peer::send("done");
}

#[test]
fn on_a_full_disk_the_lock_is_held() {
    if !requirement::is_root()
        || !requirement::has_program("unshare")
        || !requirement::has_program("mount")
    {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let command = Peer::command("fill_disk", [directory.path()]);
    let wrapper = ["unshare", "--mount", "--propagation", "private"];
    Peer::spawn(peer::wrapped(&wrapper, &command)).expect("done");
}
