//! A process that is killed or stopped at any step of the protocol delays no other
//! process and never leads to two holders. A stopped process goes on when it continues.

#![cfg(test)]

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use penholder_core::failpoint;
use penholder_lock::WriteLocker;
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, raw_file, wait};

/// How many processes count besides the victim.
const OTHERS: usize = 3;
/// The longest time for an immediate acquisition on a busy machine.
const PROMPT: Duration = Duration::from_secs(5);
/// A timeout that often passes before the lock is acquired.
const SHORT_TIMEOUT: Duration = Duration::from_millis(1);

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE, ("work", work)]);
}

/// How the victim works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Patient,
    /// It starts before the other processes.
    Alone,
    /// It has a short timeout.
    Hasty,
    /// It damages the queue file now and then.
    Damaging,
}

/// Increments the counter under the lock, and a count of its own, until the test ends it.
fn work(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let mode = args[1].to_str().unwrap();
    let locker = WriteLocker::new(directory).unwrap();
    let counter = Counter::open(directory);
    let timeout = if mode == "Hasty" {
        SHORT_TIMEOUT
    } else {
        LONG_TIMEOUT
    };
    let (mut acquisitions, mut attempts) = (0, 0_u32);
    peer::send("ready");
    peer::expect("go");
    // If the pipe closes, the process ends.
    thread::spawn(|| peer::expect("never sent"));
    while !directory.join("stop").exists() {
        attempts += 1;
        if mode == "Damaging" && attempts.is_multiple_of(50) {
            damage_queue_file(directory);
        }
        match locker.acquire(timeout) {
            Ok(guard) => {
                counter.increment();
                acquisitions += 1;
                // One write, so that every reader sees a whole number.
                write_acquisitions(directory, acquisitions);
                guard.release().unwrap();
            }
            Err(error) => assert!(error.is_timeout() && timeout == SHORT_TIMEOUT, "{error}"),
        }
    }
    peer::send("done");
}

/// Writes an unknown version into the queue file.
fn damage_queue_file(directory: &Path) {
    let queue_file = OpenOptions::new()
        .write(true)
        .open(directory.join("db.lockq"));
    if let Ok(queue_file) = queue_file {
        raw_file::write_at(&queue_file, &[0xFF; 8], 8).unwrap();
    }
}

fn acquisitions_file(directory: &Path, pid: u32) -> PathBuf {
    directory.join(format!("by-{pid}"))
}

fn write_acquisitions(directory: &Path, count: u64) {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(acquisitions_file(directory, std::process::id()))
        .unwrap();
    raw_file::write_at(&file, &count.to_ne_bytes(), 0).unwrap();
}

/// Returns how often a process has acquired the lock.
fn acquisitions(directory: &Path, peer: &Peer) -> u64 {
    let bytes = fs::read(acquisitions_file(directory, peer.pid())).unwrap_or_default();
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}

/// A process with a failpoint, and other processes. All of them count.
struct Scenario {
    victim: Peer,
    others: Vec<Peer>,
    counter: Counter,
    /// The last field, so that it is removed after the processes ended.
    directory: tempfile::TempDir,
}

impl Scenario {
    fn new(point: &str, signal: &str, time: u32, mode: Mode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let counter = Counter::new(directory.path());
        let mode_text = format!("{mode:?}");
        let args = [directory.path().as_os_str(), mode_text.as_ref()];
        let mut victim = Peer::command("work", args);
        victim.env(failpoint::VARIABLE, format!("{point} {signal} {time}"));
        if KEEPING.contains(&point) {
            // On a loaded machine a debug build seldom comes back quickly.
            victim.env(failpoint::ALL_QUICK, "");
        }
        let start = |_| Peer::start("work", [directory.path().as_os_str(), "Patient".as_ref()]);
        let mut scenario = Self {
            victim: Peer::spawn(victim),
            others: (0..OTHERS).map(start).collect(),
            directory,
            counter,
        };
        for peer in scenario.others.iter().chain([&scenario.victim]) {
            peer.expect("ready");
        }
        scenario.victim.send("go");
        if mode == Mode::Alone {
            let acquired =
                || acquisitions(scenario.directory.path(), &scenario.victim) >= time.into();
            wait::until("the victim acquired the lock", acquired);
        }
        for other in &mut scenario.others {
            other.send("go");
        }
        scenario
    }

    /// Waits until each of the other processes has acquired the lock many times.
    fn await_progress_of_others(&self) {
        let count = |peer| acquisitions(self.directory.path(), peer);
        let before: Vec<u64> = self.others.iter().map(count).collect();
        for (other, before) in self.others.iter().zip(before) {
            wait::until("each of the other processes makes progress", || {
                count(other) >= before + 20
            });
        }
    }

    fn await_progress_of_victim(&self) {
        let before = acquisitions(self.directory.path(), &self.victim);
        wait::until("the victim acquires the lock after it continues", || {
            acquisitions(self.directory.path(), &self.victim) > before + 2
        });
    }

    /// Ends all processes and checks the count and the state of the lock.
    fn finish(self, victim_survives: bool) {
        let directory = self.directory.path();
        fs::write(directory.join("stop"), "").unwrap();
        for other in &self.others {
            other.expect("done");
        }
        if victim_survives {
            self.victim.expect("done");
        }
        let all = self.others.iter().chain([&self.victim]);
        let sum: u64 = all.map(|peer| acquisitions(directory, peer)).sum();
        assert_eq!(
            self.counter.read(),
            sum,
            "two processes were in the critical section at once"
        );
        let locker = WriteLocker::new(directory).unwrap();
        assert_eq!(locker.holder().unwrap(), None);
        assert_eq!(locker.status().unwrap().queue, []);
        let mut newcomer = LockPeer::start(&lock_file(directory));
        let start = Instant::now();
        newcomer.acquire();
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        newcomer.release();
    }
}

/// The steps of a process that keeps the right to take the lock again. Under Wine a hold takes so long
/// that its slice is over.
const KEEPING: &[&str] = if cfg!(windows) {
    &[]
} else {
    &["unlocked_to_keep", "kept"]
};

/// Kills the victim at a failpoint, when it reaches it for the nth time.
fn check_kill_at(point: &str, times: &[u32], mode: Mode) {
    for &time in times {
        eprintln!("killed at {point}, time {time}");
        let mut scenario = Scenario::new(point, "KILL", time, mode);
        assert!(peer::was_killed(scenario.victim.wait()));
        scenario.await_progress_of_others();
        scenario.finish(false);
    }
}

/// Stops the victim where it does not hold the lock: it is passed over, and acquires the
/// lock after it continues.
fn check_stop_at(point: &str, time: u32, mode: Mode) {
    eprintln!("stopped at {point}");
    let scenario = Scenario::new(point, "STOP", time, mode);
    wait::until("the victim is stopped", || scenario.victim.has_stopped());
    scenario.await_progress_of_others();
    scenario.victim.signal("CONT");
    scenario.await_progress_of_victim();
    scenario.await_progress_of_others();
    scenario.finish(true);
}

/// Stops the victim where it holds the lock: no other process acquires it meanwhile.
fn check_stop_as_holder_at(point: &str, time: u32, mode: Mode) {
    eprintln!("stopped as the holder at {point}");
    let scenario = Scenario::new(point, "STOP", time, mode);
    wait::until("the victim is stopped", || scenario.victim.has_stopped());
    let before = scenario.counter.read();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(scenario.counter.read(), before, "the lock was stolen");
    scenario.victim.signal("CONT");
    scenario.await_progress_of_victim();
    scenario.await_progress_of_others();
    scenario.finish(true);
}

#[test]
fn a_process_killed_while_it_acquires_harms_no_other() {
    for point in ["flocked", "held", "published", "leaving", "left"] {
        check_kill_at(point, &[1, 7], Mode::Patient);
    }
}

#[test]
fn a_process_killed_while_it_waits_harms_no_other() {
    for point in ["ticket", "queued", "woken"] {
        check_kill_at(point, &[1, 7], Mode::Patient);
    }
    for point in ["leaving", "gave_up"] {
        check_kill_at(point, &[1, 7], Mode::Hasty);
    }
}

#[test]
fn a_process_killed_while_it_releases_harms_no_other() {
    for point in ["unlocked", "passed"].iter().chain(KEEPING) {
        check_kill_at(point, &[1, 7], Mode::Patient);
    }
    check_kill_at("unlocked_alone", &[1, 7], Mode::Alone);
}

#[test]
fn a_process_killed_while_it_claims_a_slot_or_rebuilds_the_queue_file_harms_no_other() {
    for point in ["claimed", "rebuilding", "built"] {
        check_kill_at(point, &[1, 2], Mode::Damaging);
    }
}

#[test]
fn a_process_stopped_while_it_waits_is_passed_over() {
    for point in ["ticket", "queued", "woken"] {
        check_stop_at(point, 5, Mode::Patient);
    }
    check_stop_at("gave_up", 5, Mode::Hasty);
    check_stop_at("claimed", 1, Mode::Patient);
}

#[test]
fn a_process_stopped_while_it_releases_delays_no_other() {
    for point in ["unlocked", "passed"].iter().chain(KEEPING) {
        check_stop_at(point, 5, Mode::Patient);
    }
    check_stop_at("unlocked_alone", 7, Mode::Alone);
}

#[test]
fn a_process_stopped_while_it_holds_keeps_the_lock() {
    for point in ["flocked", "held", "published", "left"] {
        check_stop_as_holder_at(point, 5, Mode::Patient);
    }
    for point in ["rebuilding", "built"] {
        check_stop_as_holder_at(point, 1, Mode::Damaging);
    }
}
