//! Processes acquire the lock in the order of the queue, even if others in the queue are
//! stopped, killed or give up. Events and counters report what happened.
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

/// The longest time for an immediate step at the median on a busy machine. It usually
/// takes 2 ms.
const PROMPT: Duration = Duration::from_millis(50);

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        ("acquire_often", acquire_often),
        ("acquire_at_random", acquire_at_random),
    ]);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    eprintln!("{times:?}");
    times[times.len() / 2]
}

fn start_waiters(path: &Path, number: usize) -> Vec<LockPeer> {
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

/// A waiter or a releasing process that the machine does not let run in time is passed over, like
/// a stopped one: so one of five attempts has to show the order, which is one of 720.
#[test]
fn waiters_are_served_in_order_of_arrival() {
    assert!((0..5).any(|_| are_served_in_order()));
}

/// Returns whether six waiters are served in the order in which they came.
fn are_served_in_order() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let locker = WriteLocker::at(&path).unwrap();
    let mut last = LockPeer::holding(&path);
    let mut waiters = start_waiters(&path, 6);
    let queue = locker.status().unwrap().queue;
    let queued: Vec<u32> = queue.iter().map(|waiter| waiter.pid).collect();
    let arrived: Vec<u32> = waiters.iter().map(LockPeer::pid).collect();
    assert_eq!(queued, arrived);
    while !waiters.is_empty() {
        last.release();
        let mut next = None;
        wait::until("a waiter has the lock", || {
            let is_served = |waiter: &LockPeer| {
                waiter.peer.read_line_within(Duration::ZERO).as_deref() == Some("held")
            };
            next = waiters.iter().position(is_served);
            next.is_some()
        });
        let next = next.unwrap();
        if next != 0 {
            return false;
        }
        last = waiters.remove(next);
    }
    last.release();
    true
}

/// Increments the counter as often as possible for a while.
fn acquire_often(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = WriteLocker::new(directory).unwrap();
    let counter = Counter::open(directory);
    peer::send("ready");
    peer::expect("go");
    let start = Instant::now();
    let mut times = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        counter.increment();
        guard.release().unwrap();
        times += 1;
    }
    peer::send(&times.to_string());
}

#[test]
fn eight_busy_processes_get_similar_shares() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let mut peers: Vec<Peer> = (0..8)
        .map(|_| Peer::start("acquire_often", [directory.path()]))
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

/// Measures the time from the release to the acquisition of the waiter behind it.
#[test]
fn a_killed_waiter_does_not_delay_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let times = [(); 10].map(|()| {
        let mut holder = LockPeer::holding(&path);
        let mut waiters = start_waiters(&path, 2);
        waiters[0].peer.kill();
        let start = Instant::now();
        holder.release();
        waiters[1].peer.expect("held");
        let time = start.elapsed();
        waiters[1].release();
        time
    });
    assert!(median(times.into()) < PROMPT);
}

#[test]
fn a_stopped_waiter_is_passed_over_and_served_after_it_continues() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    for stopped_index in [0, 1] {
        let mut holder = LockPeer::holding(&path);
        let mut waiters = start_waiters(&path, 3);
        let stopped = waiters.remove(stopped_index);
        stopped.peer.stop();
        holder.release();
        while !waiters.is_empty() {
            let next = LockPeer::first_to_hold(&waiters);
            waiters.remove(next).release();
        }
        holder.acquire();
        stopped.peer.signal("CONT");
        assert_eq!(
            stopped.peer.read_line_within(Duration::from_millis(50)),
            None
        );
        holder.release();
        stopped.peer.expect("held");
    }
    let passed = events(&path, EventKind::PassedOver);
    assert!(
        !passed.is_empty(),
        "the lock was reserved for the first in the queue"
    );
}

#[test]
fn a_stopped_holder_keeps_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holder = LockPeer::holding(&path);
    holder.peer.stop();
    let mut waiters = [(); 3].map(|()| LockPeer::start(&path));
    for (place, lock_peer) in waiters.iter_mut().enumerate() {
        lock_peer.enqueue(&path, Duration::from_millis(800 + 100 * place as u64));
    }
    let mut last = LockPeer::start(&path);
    let text = last.acquire_within(Duration::from_millis(300));
    let named = format!("  holder: pid:{} since ", holder.pid());
    assert!(
        text.contains(&named) && text.contains(", stopped, held "),
        "{text}"
    );
    assert!(text.contains("|  queue: 3 ahead of you|"), "{text}");
    for lock_peer in &waiters {
        let text = lock_peer.peer.read_line();
        assert!(
            text.contains(&named) && text.contains(", stopped, held "),
            "{text}"
        );
        assert!(!text.contains("  queue: "), "{text}");
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

/// It is not served any more, so the next waiter is the first.
#[test]
fn a_stopped_waiter_is_not_ahead_of_others_after_its_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holder = LockPeer::holding(&path);
    let [mut stopped, mut next] = [(); 2].map(|()| LockPeer::start(&path));
    stopped.enqueue(&path, Duration::from_secs(2));
    stopped.peer.stop();
    let text = next.acquire_within(Duration::from_millis(50));
    assert!(text.contains("|  queue: 1 ahead of you|"), "{text}");
    wait::until("the stopped waiter is not counted any more", || {
        let text = next.acquire_within(Duration::from_millis(50));
        text.starts_with("write lock timeout") && !text.contains("  queue: ")
    });
    holder.release();
    next.acquire();
}

/// Holds the lock for random short times, and gives up after random timeouts.
fn acquire_at_random(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let hasty = args[1] == "hasty";
    let locker = WriteLocker::new(directory).unwrap();
    let counter = Counter::open(directory);
    let mut random = u64::from(std::process::id());
    // A linear congruential generator is random enough.
    let mut micros = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Duration::from_micros((random >> 33) % below)
    };
    peer::send("ready");
    peer::expect("go");
    let start = Instant::now();
    let mut times = 0;
    while start.elapsed() < Duration::from_millis(1500) {
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
fn timeouts_during_handoff_lose_no_acquisition() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let counter = Counter::new(directory.path());
    let ways = [
        "patient", "patient", "hasty", "hasty", "hasty", "hasty", "hasty",
    ];
    let start = |way: &str| {
        Peer::start(
            "acquire_at_random",
            [directory.path().as_os_str(), way.as_ref()],
        )
    };
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
fn a_try_overtakes_no_waiter() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holder = LockPeer::holding(&path);
    let mut waiter = LockPeer::start(&path);
    let mut trier = LockPeer::start(&path);
    assert!(!trier.try_acquire(), "it is held");
    // The waiter is stopped, but its reserved time has not passed.
    waiter.enqueue(&path, LONG_TIMEOUT);
    waiter.peer.stop();
    holder.release();
    for _ in 0..20 {
        assert!(!trier.try_acquire() && !holder.try_acquire());
    }
    waiter.peer.signal("CONT");
    waiter.peer.expect("held");
    // The deadline of the waiter has passed.
    let timeout = Duration::from_millis(500);
    let start = Instant::now();
    holder.enqueue(&path, timeout);
    holder.peer.stop();
    waiter.release();
    wait::until("the deadline has passed", || trier.try_acquire());
    assert!(start.elapsed() > timeout);
    trier.release();
    holder.peer.signal("CONT");
    let answer = holder.peer.read_line();
    assert!(
        answer == "held" || answer.starts_with("write lock timeout"),
        "{answer}"
    );
    if answer == "held" {
        holder.release();
    }
    // The waiter is killed.
    trier.acquire();
    waiter.enqueue(&path, LONG_TIMEOUT);
    waiter.peer.stop();
    trier.release();
    assert!(!trier.try_acquire());
    waiter.peer.kill();
    assert!(trier.try_acquire());
}

#[test]
fn the_first_waiter_acquires_the_lock_of_a_killed_holder() {
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
        let start = Instant::now();
        holder.peer.signal("KILL");
        next.peer.expect("held");
        times.push(start.elapsed());
        holder.peer.kill();
        dead.push(holder.pid());
        next.release();
        behind.peer.expect("held");
        behind.release();
    }
    assert!(median(times) < PROMPT);
    let reported = events(&path, EventKind::Recovery);
    for event in &reported {
        assert_eq!(event.pid, next.pid());
        assert!(dead.contains(&event.other.unwrap()));
    }
    // The kernel frees the lock a moment before it shows that the holder has exited, so a
    // process that acquires in between reports no recovery.
    assert!(reported.len() > KILLS / 2, "{} reported", reported.len());
    let counters = WriteLocker::at(&path).unwrap().status().unwrap().counters;
    assert_eq!(counters.recoveries, reported.len() as u64);
    assert_eq!(counters.acquisitions, 3 * KILLS as u64);
    assert_eq!(counters.contended, 2 * KILLS as u64);
}

#[test]
fn a_long_hold_is_reported_with_its_label() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holder = LockPeer::spawn(LockPeer::command(&path, &["label=nightly import"]));
    holder.acquire();
    thread::sleep(Duration::from_millis(510));
    holder.release();
    holder.acquire();
    holder.release();
    let reported = events(&path, EventKind::LongHold);
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert_eq!(reported[0].pid, holder.pid());
    assert_eq!(reported[0].label.as_deref(), Some("nightly import"));
    assert!(reported[0].duration >= Duration::from_millis(510));
}

/// One of the two lockers of this process does not queue.
#[test]
fn a_pause_is_not_reported_as_a_hold() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let queueing = WriteLocker::at(&path).unwrap();
    let polling = WriteLocker::at(&path).unwrap().queue(false);
    drop(queueing.acquire(LONG_TIMEOUT).unwrap());
    thread::sleep(Duration::from_millis(510));
    drop(polling.acquire(LONG_TIMEOUT).unwrap());
    assert_eq!(events(&path, EventKind::LongHold), []);
    assert_eq!(queueing.status().unwrap().holds.count, 1);
}

#[test]
fn a_holder_that_does_not_queue_is_reported() {
    if !requirement::names_holders() {
        return;
    }
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut waiter = LockPeer::holding(&path);
    waiter.release();
    let flock = start_flock(directory.path());
    waiter.enqueue(&path, LONG_TIMEOUT);
    assert_bypass_reported(&path, &mut waiter, flock);
}

/// It acquired the lock that was reserved for the first waiter.
#[test]
fn a_process_that_overtakes_the_queue_is_reported_by_the_first_waiter() {
    if !requirement::names_holders() {
        return;
    }
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holder = LockPeer::holding(&path);
    let mut first = start_waiters(&path, 1).remove(0);
    first.peer.stop();
    holder.release();
    let flock = start_flock(directory.path());
    first.peer.signal("CONT");
    assert_bypass_reported(&path, &mut first, flock);
}

/// Starts `flock`, which holds the lock until its input ends.
fn start_flock(directory: &Path) -> Peer {
    let mut flock = Command::new("flock");
    let args = ["db.lock", "sh", "-c", "echo held; read line"];
    flock.args(args).current_dir(directory);
    let flock = Peer::spawn(flock);
    flock.expect("held");
    flock
}

fn assert_bypass_reported(path: &Path, waiter: &mut LockPeer, mut flock: Peer) {
    // The waiter has to find the holder first.
    thread::sleep(Duration::from_millis(100));
    flock.close();
    waiter.peer.expect("held");
    let reported = events(path, EventKind::UnqueuedHolder);
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert_eq!(reported[0].pid, waiter.pid());
    assert_eq!(reported[0].other, Some(flock.pid()));
    let counters = WriteLocker::at(path).unwrap().status().unwrap().counters;
    assert_eq!(counters.unqueued_holders, 1);
}

/// The time slice of a process ends even if many of its threads wait for the lock.
#[test]
fn many_threads_of_one_process_do_not_starve_other_processes() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let locker = WriteLocker::at(&path).unwrap();
    let mut other = LockPeer::start(&path);
    let stopped = std::sync::atomic::AtomicBool::new(false);
    let times = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(locker.acquire(LONG_TIMEOUT).unwrap());
                }
            });
        }
        let times: Vec<_> = (0..21)
            .map(|_| {
                let start = Instant::now();
                other.acquire();
                other.release();
                start.elapsed()
            })
            .collect();
        stopped.store(true, std::sync::atomic::Ordering::Relaxed);
        times
    });
    let median = median(times);
    assert!(median < PROMPT, "{median:?}");
}
