//! Unchanged programs take part: `flock(1)` and Python's `fcntl.flock` exclude this
//! crate's holders and are excluded by them, over many critical sections.
#![cfg(test)]
#![cfg(unix)] // flock(1), and Python's fcntl

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
        ("acquire_often", acquire_often),
    ]);
}

/// Increments the counter in a shell. Opening the lock file for writing empties it, which
/// must harm no process.
const SHELL: &str = r#"
echo ready; read go
for i in $(seq "$1"); do
    ( flock 9; read n <counter; echo $((n + 1)) >counter ) 9>db.lock
done
echo done; read end
"#;

/// Increments the counter in Python, with Python's own lock function.
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

/// Exits with 3 if the lock is held.
const PYTHON_TRIES: &str = r#"
import fcntl, sys
try: fcntl.flock(open("db.lock", "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: sys.exit(3)
"#;

/// Holds the lock until its input ends.
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

/// Runs four processes of this crate and two other programs that count at once.
fn assert_counts_with(program: &str, script: &str, times: u64) {
    const OURS: u64 = 1000;
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let times_text = times.to_string();
    // The word after the script is $0 in a shell. Python has no such word.
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
fn counts_are_right_together_with_flock() {
    if requirement::has_program("flock") {
        assert_counts_with("sh", SHELL, 300);
    }
}

#[test]
fn counts_are_right_together_with_python() {
    if requirement::has_program("python3") {
        assert_counts_with("python3", PYTHON, 2000);
    }
}

/// Acquires and releases the lock as fast as possible until its input ends.
fn acquire_often(args: &[OsString]) {
    let locker = WriteLocker::new(&args[0]).unwrap();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
    peer::send("ready");
    thread::spawn(|| peer::expect("never sent"));
    loop {
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
    }
}

/// Eight processes of this crate do not starve another program that blocks.
#[test]
fn a_blocking_flock_acquires_among_eight_busy_processes() {
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let peers: Vec<Peer> = (0..8)
        .map(|_| Peer::start("acquire_often", [directory.path()]))
        .collect();
    for peer in &peers {
        peer.expect("ready");
    }
    let mut times = [(); 7].map(|()| {
        let start = Instant::now();
        let flock = command("flock", &["db.lock", "true"], directory.path());
        assert!(Peer::spawn(flock).close().success());
        start.elapsed()
    });
    times.sort_unstable();
    eprintln!("{times:?}");
    assert!(times[3] < Duration::from_secs(2), "{times:?}");
}

/// Asserts that a program and this crate exclude one another.
///
/// `hold` sends `held` and releases at the end of its input. `attempt` fails if it does
/// not acquire the lock at once.
fn assert_exclude_one_another(directory: &Path, hold: Command, mut attempt: Command) {
    let mut lock_peer = LockPeer::holding(&lock_file(directory));
    assert!(
        !attempt.status().unwrap().success(),
        "the program is excluded by this crate"
    );
    lock_peer.release();
    assert!(attempt.status().unwrap().success(), "free for the program");

    let locker = WriteLocker::new(directory).unwrap();
    let mut theirs = Peer::spawn(hold);
    theirs.expect("held");
    assert!(
        locker.try_acquire().unwrap().is_none(),
        "this crate is excluded by the program"
    );
    lock_peer.assert_blocked_by(theirs.pid());
    theirs.close();
    drop(locker.try_acquire().unwrap().expect("free for this crate"));
}

#[test]
fn flock_and_this_crate_exclude_one_another() {
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let hold = ["db.lock", "sh", "-c", "echo held; read line"];
    assert_exclude_one_another(
        directory,
        command("flock", &hold, directory),
        command("flock", &["--nonblock", "db.lock", "true"], directory),
    );
}

#[test]
fn python_and_this_crate_exclude_one_another() {
    if !requirement::has_program("python3") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    assert_exclude_one_another(
        directory,
        command("python3", &["-c", PYTHON_HOLDS], directory),
        command("python3", &["-c", PYTHON_TRIES], directory),
    );
}
