//! The line of processes: who is served when, whatever others in it do, and what
//! is told of it afterwards.
#![cfg(test)]

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{Event, EventKind, WriteLocker};
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, requirement, wait};

/// What "at once" may take at the median on a busy machine; meant are 2 ms.
const AT_ONCE: Duration = Duration::from_millis(50);

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        ("share", share),
        ("bustle", bustle),
    ]);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    eprintln!("{times:?}");
    times[times.len() / 2]
}

fn waiting(path: &Path, number: usize) -> Vec<LockPeer> {
    let mut lock_peers: Vec<_> = (0..number)
        .map(|_| LockPeer::spawn(LockPeer::command(path, &["policy=fifo"])))
        .collect();
    for lock_peer in &mut lock_peers {
        lock_peer.enqueue(path, LONG_TIMEOUT);
    }
    lock_peers
}

fn events(path: &Path, kind: EventKind) -> Vec<Event> {
    let mut events = WriteLocker::at(path).unwrap().status().unwrap().events;
    events.retain(|event| event.kind == kind);
    events
}

#[test]
fn first_come_first_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut last = LockPeer::holding(&path);
    let mut line = waiting(&path, 6);
    let queue = WriteLocker::at(&path).unwrap().status().unwrap().queue;
    let in_line: Vec<u32> = queue.iter().map(|waiter| waiter.pid).collect();
    let came: Vec<u32> = line.iter().map(LockPeer::pid).collect();
    assert_eq!(in_line, came);
    while !line.is_empty() {
        last.release();
        last = line.remove(0);
        last.peer.expect("held");
        for other in &line {
            assert_eq!(other.peer.read_line_within(Duration::ZERO), None);
        }
    }
    last.release();
}

/// Is inside as often as it can for a while.
fn share(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = WriteLocker::new(directory).unwrap();
    let counter = Counter::open(directory);
    peer::send("ready");
    peer::expect("go");
    let begun = Instant::now();
    let mut times = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        counter.increment();
        guard.release().unwrap();
        times += 1;
    }
    peer::send(&times.to_string());
}

#[test]
fn eight_that_want_all_they_can_get_have_about_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let mut peers: Vec<Peer> = (0..8)
        .map(|_| Peer::start("share", [directory.path()]))
        .collect();
    for peer in &peers {
        peer.expect("ready");
    }
    for peer in &mut peers {
        peer.send("go");
    }
    let shares: Vec<u64> = peers
        .iter()
        .map(|peer| peer.read_line().parse().unwrap())
        .collect();
    eprintln!("{shares:?}");
    assert_eq!(counter.read(), shares.iter().sum::<u64>());
    assert!(shares.iter().min().unwrap() * 4 >= *shares.iter().max().unwrap());
}

/// From the release to the one behind it.
#[test]
fn a_killed_waiter_costs_those_behind_it_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let times = [(); 10].map(|()| {
        let mut holder = LockPeer::holding(&path);
        let mut line = waiting(&path, 2);
        line[0].peer.kill();
        let begun = Instant::now();
        holder.release();
        line[1].peer.expect("held");
        let time = begun.elapsed();
        line[1].release();
        time
    });
    assert!(median(times.into()) < AT_ONCE);
}

#[test]
fn a_stopped_heir_is_passed_over_and_served_when_it_wakes() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    for stopped in [0, 1] {
        let mut holder = LockPeer::holding(&path);
        let mut line = waiting(&path, 3);
        let sleeper = line.remove(stopped);
        sleeper.peer.stop();
        holder.release();
        for other in &mut line {
            other.peer.expect("held");
            other.release();
        }
        holder.acquire();
        sleeper.peer.signal("CONT");
        assert_eq!(
            sleeper.peer.read_line_within(Duration::from_millis(50)),
            None
        );
        holder.release();
        sleeper.peer.expect("held");
    }
    let passed = events(&path, EventKind::PassedOver);
    assert!(!passed.is_empty(), "the first in line was reserved for");
}

#[test]
fn nothing_is_stolen_from_a_stopped_holder() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holder = LockPeer::holding(&path);
    holder.peer.stop();
    let mut line = [(); 3].map(|()| LockPeer::start(&path));
    for (place, lock_peer) in line.iter_mut().enumerate() {
        lock_peer.enqueue(&path, Duration::from_millis(800 + 100 * place as u64));
    }
    let mut last = LockPeer::start(&path);
    let told = last.acquire_within(Duration::from_millis(300));
    let named = format!("  holder: pid:{} since ", holder.pid());
    assert!(
        told.contains(&named) && told.contains(", stopped, held "),
        "{told}"
    );
    assert!(told.contains("|  queue: 3 ahead of you|"), "{told}");
    for lock_peer in &line {
        let told = lock_peer.peer.read_line();
        assert!(
            told.contains(&named) && told.contains(", stopped, held "),
            "{told}"
        );
        assert!(!told.contains("  queue: "), "{told}");
    }
    let timeouts = events(&path, EventKind::Timeout);
    assert_eq!(timeouts.len(), 4);
    for event in timeouts {
        assert_eq!(event.other, Some(holder.pid()));
    }
    holder.peer.signal("CONT");
    holder.release();
    last.acquire();
}

/// Takes it for random short times, and gives up after random ones.
fn bustle(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let hasty = args[1] == "hasty";
    let locker = WriteLocker::new(directory).unwrap();
    let counter = Counter::open(directory);
    let mut random = u64::from(std::process::id());
    // A linear congruence is random enough.
    let mut micros = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Duration::from_micros((random >> 33) % below)
    };
    peer::send("ready");
    peer::expect("go");
    let begun = Instant::now();
    let mut times = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        let timeout = if hasty { micros(4000) } else { LONG_TIMEOUT };
        match locker.acquire(timeout) {
            Ok(guard) => {
                counter.increment();
                times += 1;
                if !hasty {
                    thread::sleep(micros(2000));
                }
                guard.release().unwrap();
            }
            Err(error) => assert!(error.is_timeout() && hasty, "{error}"),
        }
        thread::sleep(micros(500));
    }
    peer::send(&times.to_string());
}

#[test]
fn giving_up_at_the_hand_off_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let counter = Counter::new(directory.path());
    let ways = [
        "patient", "patient", "hasty", "hasty", "hasty", "hasty", "hasty",
    ];
    let start = |way: &str| Peer::start("bustle", [directory.path().as_os_str(), way.as_ref()]);
    let mut peers: Vec<Peer> = ways.into_iter().map(start).collect();
    for peer in &peers {
        peer.expect("ready");
    }
    for peer in &mut peers {
        peer.send("go");
    }
    let times: u64 = peers
        .iter()
        .map(|peer| peer.read_line().parse::<u64>().unwrap())
        .sum();
    assert_eq!(counter.read(), times);
    let locker = WriteLocker::at(&path).unwrap();
    let status = locker.status().unwrap();
    eprintln!("{:?}", status.counters);
    assert!(status.counters.timeouts > 20, "{:?}", status.counters);
    assert_eq!(status.queue, []);
    drop(locker.try_acquire().unwrap().expect("free"));
}

#[test]
fn a_try_passes_nobody_who_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holder = LockPeer::holding(&path);
    let mut waiter = LockPeer::start(&path);
    let mut trier = LockPeer::start(&path);
    assert!(!trier.try_acquire(), "it is held");
    // Stopped, but within its time.
    waiter.enqueue(&path, LONG_TIMEOUT);
    waiter.peer.stop();
    holder.release();
    for _ in 0..20 {
        assert!(!trier.try_acquire() && !holder.try_acquire());
    }
    waiter.peer.signal("CONT");
    waiter.peer.expect("held");
    // Past its time.
    let timeout = Duration::from_millis(500);
    let begun = Instant::now();
    holder.enqueue(&path, timeout);
    holder.peer.stop();
    waiter.release();
    wait::until("it is over time", || trier.try_acquire());
    assert!(begun.elapsed() > timeout);
    trier.release();
    holder.peer.signal("CONT");
    let told = holder.peer.read_line();
    assert!(
        told == "held" || told.starts_with("write lock timeout"),
        "{told}"
    );
    if told == "held" {
        holder.release();
    }
    // Dead.
    trier.acquire();
    waiter.enqueue(&path, LONG_TIMEOUT);
    waiter.peer.stop();
    trier.release();
    assert!(!trier.try_acquire());
    waiter.peer.kill();
    assert!(trier.try_acquire());
}

#[test]
fn the_next_in_line_has_what_a_killed_holder_had() {
    const KILLS: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let [mut next, mut behind] = [(); 2].map(|()| LockPeer::start(&path));
    let mut dead = Vec::new();
    let mut times = Vec::new();
    for _ in 0..KILLS {
        let mut holder = LockPeer::holding(&path);
        next.enqueue(&path, LONG_TIMEOUT);
        behind.enqueue(&path, LONG_TIMEOUT);
        let begun = Instant::now();
        holder.peer.signal("KILL");
        next.peer.expect("held");
        times.push(begun.elapsed());
        holder.peer.kill();
        dead.push(holder.pid());
        next.release();
        behind.peer.expect("held");
        behind.release();
    }
    assert!(median(times) < AT_ONCE);
    let told = events(&path, EventKind::Recovery);
    for event in &told {
        assert_eq!(event.pid, next.pid());
        assert!(dead.contains(&event.other.unwrap()));
    }
    // The kernel frees the lock a moment before it says that the holder is gone:
    // whoever tries just then cannot know.
    assert!(told.len() > KILLS / 2, "{} told", told.len());
    let counters = WriteLocker::at(&path).unwrap().status().unwrap().counters;
    assert_eq!(counters.recoveries, told.len() as u64);
    assert_eq!(counters.acquisitions, 3 * KILLS as u64);
    assert_eq!(counters.contended, 2 * KILLS as u64);
}

#[test]
fn a_long_hold_is_told_with_its_label() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holder = LockPeer::spawn(LockPeer::command(&path, &["label=nightly import"]));
    holder.acquire();
    thread::sleep(Duration::from_millis(510));
    holder.release();
    holder.acquire();
    holder.release();
    let told = events(&path, EventKind::LongHold);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].pid, holder.pid());
    assert_eq!(told[0].label.as_deref(), Some("nightly import"));
    assert!(told[0].duration >= Duration::from_millis(510));
}

/// Two lockers of one process, one of which does not queue.
#[test]
fn a_pause_is_not_told_as_a_hold() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let queues = WriteLocker::at(&path).unwrap();
    let polls = WriteLocker::at(&path).unwrap().no_page();
    drop(queues.acquire(LONG_TIMEOUT).unwrap());
    thread::sleep(Duration::from_millis(510));
    drop(polls.acquire(LONG_TIMEOUT).unwrap());
    assert_eq!(events(&path, EventKind::LongHold), []);
    assert_eq!(queues.status().unwrap().holds.count, 1);
}

#[test]
fn a_holder_that_does_not_queue_is_told() {
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut waiter = LockPeer::holding(&path);
    waiter.release();
    let flock = flock(directory.path());
    waiter.enqueue(&path, LONG_TIMEOUT);
    is_told(&path, &mut waiter, flock);
}

/// It has taken the lock that the first in line was to have.
#[test]
fn one_that_does_not_queue_is_told_by_the_heir() {
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holder = LockPeer::holding(&path);
    let mut heir = waiting(&path, 1).remove(0);
    heir.peer.stop();
    holder.release();
    let flock = flock(directory.path());
    heir.peer.signal("CONT");
    is_told(&path, &mut heir, flock);
}

/// Holds until its input ends.
fn flock(directory: &Path) -> Peer {
    let mut flock = Command::new("flock");
    let args = ["db.lock", "sh", "-c", "echo held; read line"];
    flock.args(args).current_dir(directory);
    let flock = Peer::spawn(flock);
    flock.expect("held");
    flock
}

fn is_told(path: &Path, waiter: &mut LockPeer, mut flock: Peer) {
    // It has to find out first.
    thread::sleep(Duration::from_millis(100));
    flock.close();
    waiter.peer.expect("held");
    let told = events(path, EventKind::Bypass);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].pid, waiter.pid());
    assert_eq!(told[0].other, Some(flock.pid()));
    let counters = WriteLocker::at(path).unwrap().status().unwrap().counters;
    assert_eq!(counters.foreign, 1);
}

/// However many threads of a process want the lock, one after the other: its slice
/// ends, and the next process has its turn.
#[test]
fn many_threads_of_one_process_leave_others_their_turn() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let locker = WriteLocker::at(&path).unwrap();
    let mut other = LockPeer::start(&path);
    let over = std::sync::atomic::AtomicBool::new(false);
    let takes = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(locker.acquire(LONG_TIMEOUT).unwrap());
                }
            });
        }
        let takes: Vec<_> = (0..21)
            .map(|_| {
                let begun = Instant::now();
                other.acquire();
                other.release();
                begun.elapsed()
            })
            .collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        takes
    });
    let median = median(takes);
    assert!(median < AT_ONCE, "{median:?}");
}
