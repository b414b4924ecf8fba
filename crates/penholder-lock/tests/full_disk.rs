//! The lock works where no byte can be written. Only the record is missing, and the
//! kernel's tables name the holder instead.
#![cfg(test)]
#![cfg(unix)] // a limit on the size of files, and tmpfs

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use penholder_lock::WriteLocker;
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, requirement};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        ("fill_disk", fill_disk),
        ("acquire_within", acquire_within),
    ]);
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
    for limit in ["trap '' XFSZ; ulimit -f 0", "ulimit -f 0"] {
        assert_works_without_room_for_a_byte(limit);
    }
}

/// Starts a process in a shell that has set limits.
fn limited(path: &Path, limits: &str) -> LockPeer {
    let script = format!("{limits}; exec \"$@\"");
    let command = LockPeer::command(path, &[]);
    LockPeer::spawn(peer::wrapped(&["sh", "-c", &script, "sh"], &command))
}

fn assert_works_without_room_for_a_byte(limit: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut lock_peer = limited(&path, limit);
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

/// The limit leaves room for the record, and not for the queue file. The signal is not ignored.
#[test]
fn under_a_file_size_limit_a_process_polls_or_joins_the_queue_that_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let queue_file = directory.path().join("db.lockq");
    let mut lock_peer = limited(&path, "ulimit -f 100");
    for _ in 0..2 {
        lock_peer.acquire();
        lock_peer.release();
        assert!(!queue_file.exists());
    }
    let holder = LockPeer::holding(&path);
    assert!(queue_file.exists());
    limited(&path, "ulimit -f 100").enqueue(&path, LONG_TIMEOUT);
    // It does not replace one that it could not build.
    fs::write(directory.path().join("other"), "no queue file").unwrap();
    fs::rename(directory.path().join("other"), &queue_file).unwrap();
    drop(holder);
    let mut lock_peer = limited(&path, "ulimit -f 100");
    lock_peer.acquire();
    assert_eq!(fs::read(&queue_file).unwrap(), b"no queue file");
}

/// Takes the lock with a limit that the queue file does not fit into.
fn acquire_within(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let mut files = Vec::new();
    let limit = match args[1].to_str().unwrap() {
        "memory" => {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
            let kilobytes: u64 = size
                .unwrap()
                .trim()
                .strip_suffix(" kB")
                .unwrap()
                .parse()
                .unwrap();
            (Resource::As, (kilobytes + 2048) * 1024)
        }
        // The lock file is the last one; the double of macOS opens it twice.
        "files" => {
            files.push(File::open("/dev/null").unwrap());
            let next = File::open("/dev/null").unwrap().as_raw_fd();
            let more = 1 + u64::from(cfg!(penholder_macos_rules));
            (Resource::Nofile, u64::try_from(next).unwrap() + more)
        }
        other => panic!("unknown limit {other}"),
    };
    let locker = WriteLocker::at(path).unwrap();
    let maximum = getrlimit(limit.0).maximum;
    let current = Some(limit.1);
    setrlimit(limit.0, Rlimit { current, maximum }).unwrap();
    for _ in 0..2 {
        locker.acquire(LONG_TIMEOUT).unwrap().release().unwrap();
    }
    peer::send("done");
}

#[test]
fn without_memory_or_descriptors_for_the_queue_file_a_process_polls() {
    for limit in ["memory", "files"] {
        let directory = tempfile::tempdir().unwrap();
        let path = lock_file(directory.path());
        // Once where it would build the file, and once where it would join.
        for _ in 0..2 {
            let mut peer = Peer::start("acquire_within", [path.as_os_str(), limit.as_ref()]);
            peer.expect("done");
            assert!(peer.close().success());
            drop(LockPeer::holding(&path));
        }
    }
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
    assert_polls_beside_a_sparse_queue_file(directory, &filling);
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

/// Touching a hole of a mapped file without space on the disk ends a process.
fn assert_polls_beside_a_sparse_queue_file(directory: &Path, filling: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    LockPeer::holding(&lock_file(elsewhere.path())).release();
    let queue_file = fs::read(elsewhere.path().join("db.lockq")).unwrap();
    // Room for the beginning, and for no more.
    let full = File::options().write(true).open(filling).unwrap();
    full.set_len(full.metadata().unwrap().len() - 8192).unwrap();
    let sparse = File::create(directory.join("db.lockq")).unwrap();
    (&sparse).write_all(&queue_file[..4096]).unwrap();
    sparse
        .set_len(u64::try_from(queue_file.len()).unwrap())
        .unwrap();
    let mut rest = File::create(directory.join("rest")).unwrap();
    while rest.write_all(&[b'x'; 512]).is_ok() {}
    let mut lock_peer = LockPeer::start(&lock_file(directory));
    lock_peer.acquire();
    lock_peer.ask("release");
    for name in ["rest", "db.lockq"] {
        fs::remove_file(directory.join(name)).unwrap();
    }
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
