//! Plain peers take part unchanged: `flock(1)` and Python's `fcntl.flock`
//! exclude us and are excluded by us, counted over many critical sections.
#![cfg(test)]

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::WriteLocker;
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, requirement};

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        lock_fixture::COUNT_ROLE,
        ("bustle", bustle),
    ]);
}

/// The shell's counted critical section; opening the lock file for writing
/// empties it, which must harm nobody.
const SHELL: &str = r#"
echo ready; read go
for i in $(seq "$1"); do
    ( flock 9; read n <counter; echo $((n + 1)) >counter ) 9>db.lock
done
echo done; read end
"#;

/// Python's, with its own lock function and nothing of ours.
const PYTHON: &str = r#"
import fcntl, sys
print("ready", flush=True); sys.stdin.readline()
for i in range(int(sys.argv[1])):
    with open("db.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open("counter") as file: n = int(file.read())
        with open("counter", "w") as file: file.write(f"{n + 1}\n")
print("done", flush=True); sys.stdin.readline()
"#;

/// Exits with 3 if the lock is taken.
const PYTHON_TRIES: &str = r#"
import fcntl, sys
try: fcntl.flock(open("db.lock", "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: sys.exit(3)
"#;

/// Holds until its input ends.
const PYTHON_HOLDS: &str = r#"
import fcntl, sys
lock = open("db.lock", "a")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True); sys.stdin.readline()
"#;

fn command(program: &str, args: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(directory);
    command
}

/// Four of ours and two of theirs count at once.
fn count_with(program: &str, script: &str, times: u64) {
    const OURS: u64 = 1000;
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let times_text = times.to_string();
    // A shell calls the word after the script $0, Python has the script as that.
    let mut args = vec!["-c", script, "name", &times_text];
    if program == "python3" {
        args.remove(2);
    }
    let theirs = (0..2).map(|_| Peer::spawn(command(program, &args, directory.path())));
    let ours_text = OURS.to_string();
    let ours_args = [directory.path().as_os_str(), ours_text.as_ref()];
    let ours = (0..4).map(|_| Peer::start(lock_fixture::COUNT_ROLE.0, ours_args));
    let mut peers: Vec<Peer> = theirs.chain(ours).collect();
    lock_fixture::run_together(&mut peers);
    assert_eq!(counter.read(), 4 * OURS + 2 * times);
}

#[test]
fn counts_right_with_flock() {
    if requirement::has_program("flock") {
        count_with("sh", SHELL, 300);
    }
}

#[test]
fn counts_right_with_python() {
    if requirement::has_program("python3") {
        count_with("python3", PYTHON, 2000);
    }
}

/// Takes the lock and gives it back as fast as it can until its input ends.
fn bustle(args: &[OsString]) {
    let locker = WriteLocker::new(&args[0]).unwrap();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
    peer::send("ready");
    thread::spawn(|| peer::expect("never said"));
    loop {
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
    }
}

/// Eight of ours leave a plain peer that blocks its chance.
#[test]
fn a_flock_that_blocks_gets_in_beside_eight_busy_ones() {
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let peers: Vec<Peer> = (0..8)
        .map(|_| Peer::start("bustle", [directory.path()]))
        .collect();
    for peer in &peers {
        peer.expect("ready");
    }
    let mut times = [(); 7].map(|()| {
        let begun = Instant::now();
        let flock = command("flock", &["db.lock", "true"], directory.path());
        assert!(Peer::spawn(flock).close().success());
        begun.elapsed()
    });
    times.sort_unstable();
    eprintln!("{times:?}");
    assert!(times[3] < Duration::from_secs(2), "{times:?}");
}

/// `holds` says `held` and lets go at the end of its input; `tries` fails if it
/// does not get the lock at once.
fn exclude_one_another(directory: &Path, holds: Command, mut tries: Command) {
    let mut lock_peer = LockPeer::holding(&lock_file(directory));
    assert!(
        !tries.status().unwrap().success(),
        "they were excluded by us"
    );
    lock_peer.release();
    assert!(tries.status().unwrap().success(), "free for them");

    let locker = WriteLocker::new(directory).unwrap();
    let mut theirs = Peer::spawn(holds);
    theirs.expect("held");
    assert!(locker.try_acquire().unwrap().is_none(), "we by them");
    lock_peer.assert_blocked_by(theirs.pid());
    theirs.close();
    drop(locker.try_acquire().unwrap().expect("free for us"));
}

#[test]
fn flock_and_we_exclude_one_another() {
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let holds = ["db.lock", "sh", "-c", "echo held; read line"];
    exclude_one_another(
        directory,
        command("flock", &holds, directory),
        command("flock", &["--nonblock", "db.lock", "true"], directory),
    );
}

#[test]
fn python_and_we_exclude_one_another() {
    if !requirement::has_program("python3") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    exclude_one_another(
        directory,
        command("python3", &["-c", PYTHON_HOLDS], directory),
        command("python3", &["-c", PYTHON_TRIES], directory),
    );
}
