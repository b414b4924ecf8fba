//! The queue file has room for the processes that use it, and grows when there are more. A number of
//! slots that is garbage makes no process touch what there is not.
#![cfg(test)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use penholder_core::failpoint;
use penholder_lock::{QueueFileState, WriteLocker};
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::{self, Peer};
use penholder_testkit::queue_file as layout;
use penholder_testkit::{lock_fixture, raw_file, wait};

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE, lock_fixture::COUNT_ROLE]);
}

fn queue_file(directory: &Path) -> PathBuf {
    directory.join("db.lockq")
}

fn length(directory: &Path) -> u64 {
    fs::metadata(queue_file(directory)).unwrap().len()
}

fn open(directory: &Path) -> File {
    let path = queue_file(directory);
    File::options().read(true).write(true).open(path).unwrap()
}

fn read_word(directory: &Path, at: u64) -> u64 {
    let mut word = [0; 8];
    raw_file::read_at(&open(directory), &mut word, at).unwrap();
    u64::from_ne_bytes(word)
}

/// Starts a process that keeps to the order of the queue.
fn start(path: &Path) -> LockPeer {
    LockPeer::spawn(LockPeer::command(path, &["policy=fifo"]))
}

fn holding(path: &Path) -> LockPeer {
    let mut holder = start(path);
    holder.acquire();
    holder
}

/// Starts waiters, each behind the ones before.
fn enqueue(path: &Path, count: usize) -> Vec<LockPeer> {
    let mut waiters: Vec<_> = (0..count).map(|_| start(path)).collect();
    for waiter in &mut waiters {
        waiter.enqueue(path, LONG_TIMEOUT);
    }
    waiters
}

/// Asserts that the waiters get the lock in their order.
fn assert_served(waiters: &mut [LockPeer]) {
    for waiter in waiters {
        waiter.peer.expect("held");
        waiter.release();
    }
}

/// Asserts that all get the lock, also one that polls and comes before or after its time.
fn assert_all_served(mut waiters: Vec<&mut LockPeer>) {
    wait::until("all had the lock", || {
        waiters.retain_mut(|waiter| {
            let line = waiter.peer.read_line_within(Duration::from_millis(1));
            let Some(line) = line else {
                return true;
            };
            assert_eq!(line, "held");
            waiter.release();
            false
        });
        waiters.is_empty()
    });
}

#[test]
fn a_handful_of_processes_needs_a_short_file() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let path = lock_file(directory);
    let mut holder = holding(&path);
    let mut waiters = enqueue(&path, 7);
    assert_eq!(length(directory), layout::length(1));
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(queue_file(directory)).unwrap();
        assert!(meta.blocks() * 512 >= meta.len(), "no holes");
    }
    holder.release();
    assert_served(&mut waiters);
}

/// Each finds the others, with whichever length each of them has mapped the file.
#[test]
fn the_file_grows_for_more_processes_which_queue_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let path = lock_file(directory);
    let mut holder = holding(&path);
    let mut waiters = enqueue(&path, 40);
    let slots = read_word(directory, 16);
    assert_eq!(layout::slots(length(directory)), slots);
    assert_eq!(read_word(directory, 24), length(directory));
    assert!((41..=80).contains(&slots), "{slots}");
    let status = WriteLocker::at(&path).unwrap().status().unwrap();
    let pids = |waiters: &[LockPeer]| waiters.iter().map(LockPeer::pid).collect::<Vec<_>>();
    let seen: Vec<u32> = status.queue.iter().map(|waiter| waiter.pid).collect();
    assert_eq!(seen, pids(&waiters));
    holder.release();
    assert_served(&mut waiters);
    // It does not shrink, and its slots are used again.
    drop(waiters);
    let before = length(directory);
    holder.acquire();
    drop(enqueue(&path, 20));
    assert_eq!(length(directory), before);
}

#[test]
fn processes_that_lengthen_the_file_at_once_agree() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let counter = Counter::new(directory);
    let args = [directory.as_os_str(), "20".as_ref()];
    let start = |_| Peer::start(lock_fixture::COUNT_ROLE.0, args);
    let mut peers: Vec<Peer> = (0..60).map(start).collect();
    lock_fixture::run_together(&mut peers);
    assert_eq!(counter.read(), 60 * 20);
    let slots = read_word(directory, 16);
    assert_eq!(layout::slots(length(directory)), slots);
    assert_eq!(read_word(directory, 24), length(directory));
    assert!(slots >= 60, "{slots}");
    let status = WriteLocker::new(directory).unwrap().status().unwrap();
    assert_eq!(status.queue_file, QueueFileState::InUse);
}

#[test]
fn a_process_killed_while_it_lengthens_the_file_harms_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let path = lock_file(directory);
    let mut holder = holding(&path);
    let mut waiters = enqueue(&path, 7);
    let mut command = LockPeer::command(&path, &[]);
    command.env(failpoint::VARIABLE, "lengthened KILL 1");
    let mut victim = LockPeer::spawn(command);
    victim.start_acquire(LONG_TIMEOUT);
    assert!(!victim.peer.wait().success());
    assert_eq!(length(directory), layout::length(2));
    assert_eq!(read_word(directory, 16), 8);
    waiters.extend(enqueue(&path, 3));
    assert_eq!(read_word(directory, 16), 16);
    assert_eq!(length(directory), layout::length(2));
    holder.release();
    assert_served(&mut waiters);
}

/// A process that is stopped while it lengthens the file keeps nobody from the lock.
#[test]
fn a_process_stopped_while_it_lengthens_the_file_delays_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let path = lock_file(directory);
    let mut holder = holding(&path);
    let mut waiters = enqueue(&path, 7);
    let mut command = LockPeer::command(&path, &[]);
    command.env(failpoint::VARIABLE, "lengthened STOP 1");
    let mut stopped = LockPeer::spawn(command);
    stopped.start_acquire(LONG_TIMEOUT);
    wait::until("it is stopped", || length(directory) > layout::length(1));
    let mut polling = start(&path);
    polling.start_acquire(LONG_TIMEOUT);
    holder.release();
    assert_all_served(waiters.iter_mut().chain([&mut polling]).collect());
    stopped.peer.signal("CONT");
    stopped.peer.expect("held");
}

/// A process that may not make the file longer polls, as where there is no file.
#[cfg(unix)]
#[test]
fn a_process_that_cannot_lengthen_the_file_polls() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let path = lock_file(directory);
    let mut holder = holding(&path);
    let mut waiters = enqueue(&path, 7);
    let command = LockPeer::command(&path, &[]);
    // In blocks of 512 or 1024 bytes: either way less than two blocks of the file.
    let limited = peer::wrapped(&["sh", "-c", "ulimit -f 120; exec \"$@\"", "sh"], &command);
    let mut polling = LockPeer::spawn(limited);
    polling.start_acquire(LONG_TIMEOUT);
    thread::sleep(Duration::from_millis(150));
    assert_eq!(length(directory), layout::length(1));
    holder.release();
    assert_all_served(waiters.iter_mut().chain([&mut polling]).collect());
}

/// The number of slots, the bits of the queue and the word of the turnstile name slots that are far
/// beyond the end of the file.
#[test]
fn a_number_of_slots_that_is_too_large_makes_no_process_touch_what_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let counter = Counter::new(directory);
    let locker = WriteLocker::new(directory).unwrap();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
    let args = [directory.as_os_str(), "100".as_ref()];
    let start = |_| Peer::start(lock_fixture::COUNT_ROLE.0, args);
    let mut peers: Vec<Peer> = (0..4).map(start).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            let slots = [16, 64, 512, 8].into_iter().cycle();
            for slots in slots.take_while(|_| !is_over.load(Ordering::Relaxed)) {
                // If it fails, the file is being replaced.
                let _ = name_missing_slots(directory, slots);
                let status = locker.status().unwrap();
                assert!(status.queue.len() <= 4, "{:?}", status.queue);
                thread::sleep(Duration::from_millis(5));
            }
        });
        lock_fixture::run_together(&mut peers);
    });
    for peer in &mut peers {
        assert!(peer.close().success());
    }
    assert_eq!(counter.read(), 4 * 100);
}

/// Ends the damage also if the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn name_missing_slots(directory: &Path, slots: u64) -> std::io::Result<()> {
    let path = queue_file(directory);
    let file = File::options().read(true).write(true).open(path)?;
    // The length that goes with it, at once: the header is valid.
    let mut words = slots.to_ne_bytes().to_vec();
    words.extend(layout::length(slots / 8).to_ne_bytes());
    raw_file::write_at(&file, &words, 16)?;
    for group in 0..8 {
        let at = layout::QUEUE + group * 8;
        let mut word = [0; 8];
        raw_file::read_at(&file, &mut word, at)?;
        let missing = if group == 0 { !0xFF } else { u64::MAX };
        let word = u64::from_ne_bytes(word) | missing;
        raw_file::write_at(&file, &word.to_ne_bytes(), at)?;
    }
    for state in 0..4 {
        let word = state | (slots - 1) << 2 | 1 << 30;
        raw_file::write_at(&file, &word.to_ne_bytes(), 64)?;
    }
    Ok(())
}

/// An older beginning of the file, written over it, has fewer slots than there are processes.
#[test]
fn an_older_number_of_slots_is_corrected() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let path = lock_file(directory);
    let mut holder = holding(&path);
    let mut older = [0; 32];
    raw_file::read_at(&open(directory), &mut older, 0).unwrap();
    let mut waiters = enqueue(&path, 11);
    raw_file::write_at(&open(directory), &older, 0).unwrap();
    wait::until("the number of slots is right again", || {
        read_word(directory, 16) >= 12
    });
    holder.release();
    assert_served(&mut waiters);
}

/// A short copy of the file under its name is recognised before anything in it is touched.
#[test]
fn a_file_that_ends_before_its_last_slot_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let path = lock_file(directory);
    drop(LockPeer::holding(&path));
    let whole = fs::read(queue_file(directory)).unwrap();
    for kept in [100, 4096, layout::HEAD, layout::length(1) - 1] {
        let other = directory.join("other");
        fs::write(&other, &whole[..usize::try_from(kept).unwrap()]).unwrap();
        raw_file::replace(&queue_file(directory), &other);
        let status = WriteLocker::at(&path).unwrap().status().unwrap();
        assert_eq!(status.queue_file, QueueFileState::Unusable);
        drop(LockPeer::holding(&path));
        let status = WriteLocker::at(&path).unwrap().status().unwrap();
        assert_eq!(status.queue_file, QueueFileState::InUse, "{kept}");
    }
}
