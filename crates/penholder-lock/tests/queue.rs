//! The line of processes: who is served when, whatever others in it do, and what
//! is told of it afterwards.
#![cfg(test)]

mod peer;
mod stage;

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use peer::Peer;
use penholder_lock::{Event, EventKind, WriteLocker};
use stage::{Actor, Counter, LONG, lock_file};

/// What "at once" may take at the median on a busy machine; meant are 2 ms.
const AT_ONCE: Duration = Duration::from_millis(50);

#[test]
fn peer() {
    peer::play(&[stage::OBEY, ("share", share), ("bustle", bustle)]);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    eprintln!("{times:?}");
    times[times.len() / 2]
}

fn waiting(path: &Path, number: usize) -> Vec<Actor> {
    let mut actors: Vec<_> = (0..number)
        .map(|_| Actor::spawn(Actor::command(path, &["policy=fifo"])))
        .collect();
    for actor in &mut actors {
        actor.queues(path, LONG);
    }
    actors
}

fn events(path: &Path, kind: EventKind) -> Vec<Event> {
    let mut events = WriteLocker::at(path).unwrap().status().unwrap().events;
    events.retain(|event| event.kind == kind);
    events
}

#[test]
fn first_come_first_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let mut last = Actor::holding(&path);
    let mut line = waiting(&path, 6);
    let queue = WriteLocker::at(&path).unwrap().status().unwrap().queue;
    let in_line: Vec<u32> = queue.iter().map(|waiter| waiter.pid).collect();
    let came: Vec<u32> = line.iter().map(Actor::pid).collect();
    assert_eq!(in_line, came);
    while !line.is_empty() {
        last.releases();
        last = line.remove(0);
        last.peer.expect("held");
        for other in &line {
            assert_eq!(other.peer.line_within(Duration::ZERO), None);
        }
    }
    last.releases();
}

/// Is inside as often as it can for a while.
fn share(args: &[OsString]) {
    let folder = Path::new(&args[0]);
    let locker = WriteLocker::new(folder).unwrap();
    let counter = Counter::of(folder);
    peer::say("ready");
    peer::hear("go");
    let begun = Instant::now();
    let mut times = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        let guard = locker.acquire(LONG).unwrap();
        counter.add_one();
        guard.release().unwrap();
        times += 1;
    }
    peer::say(&times.to_string());
}

#[test]
fn eight_that_want_all_they_can_get_have_about_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let counter = Counter::new(folder.path());
    let mut peers: Vec<Peer> = (0..8)
        .map(|_| Peer::start("share", [folder.path()]))
        .collect();
    for peer in &peers {
        peer.expect("ready");
    }
    for peer in &mut peers {
        peer.tell("go");
    }
    let shares: Vec<u64> = peers
        .iter()
        .map(|peer| peer.line().parse().unwrap())
        .collect();
    eprintln!("{shares:?}");
    assert_eq!(counter.read(), shares.iter().sum());
    assert!(shares.iter().min().unwrap() * 4 >= *shares.iter().max().unwrap());
}

/// From the release to the one behind it.
#[test]
fn a_killed_waiter_costs_those_behind_it_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let times = [(); 10].map(|()| {
        let mut holder = Actor::holding(&path);
        let mut line = waiting(&path, 2);
        line[0].peer.kill();
        let begun = Instant::now();
        holder.releases();
        line[1].peer.expect("held");
        let time = begun.elapsed();
        line[1].releases();
        time
    });
    assert!(median(times.into()) < AT_ONCE);
}

#[test]
fn a_stopped_heir_is_passed_over_and_served_when_it_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    for stopped in [0, 1] {
        let mut holder = Actor::holding(&path);
        let mut line = waiting(&path, 3);
        let sleeper = line.remove(stopped);
        sleeper.peer.stop();
        holder.releases();
        for other in &mut line {
            other.peer.expect("held");
            other.releases();
        }
        holder.takes();
        sleeper.peer.signal("CONT");
        assert_eq!(sleeper.peer.line_within(Duration::from_millis(50)), None);
        holder.releases();
        sleeper.peer.expect("held");
    }
    let passed = events(&path, EventKind::PassedOver);
    assert!(!passed.is_empty(), "the first in line was reserved for");
}

#[test]
fn nothing_is_stolen_from_a_stopped_holder() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let mut holder = Actor::holding(&path);
    holder.peer.stop();
    let mut line = [(); 3].map(|()| Actor::start(&path));
    for (place, actor) in line.iter_mut().enumerate() {
        actor.queues(&path, Duration::from_millis(800 + 100 * place as u64));
    }
    let mut last = Actor::start(&path);
    let told = last.take(Duration::from_millis(300));
    let named = format!("  holder: pid:{} since ", holder.pid());
    assert!(
        told.contains(&named) && told.contains(", stopped, held "),
        "{told}"
    );
    assert!(told.contains("|  queue: 3 ahead of you|"), "{told}");
    for actor in &line {
        let told = actor.peer.line();
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
    holder.releases();
    last.takes();
}

/// Takes it for random short times, and gives up after random ones.
fn bustle(args: &[OsString]) {
    let folder = Path::new(&args[0]);
    let hasty = args[1] == "hasty";
    let locker = WriteLocker::new(folder).unwrap();
    let counter = Counter::of(folder);
    let mut random = u64::from(std::process::id());
    // A linear congruence is random enough.
    let mut micros = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Duration::from_micros((random >> 33) % below)
    };
    peer::say("ready");
    peer::hear("go");
    let begun = Instant::now();
    let mut times = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        let timeout = if hasty { micros(4000) } else { LONG };
        match locker.acquire(timeout) {
            Ok(guard) => {
                counter.add_one();
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
    peer::say(&times.to_string());
}

#[test]
fn giving_up_at_the_hand_off_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let counter = Counter::new(folder.path());
    let ways = [
        "patient", "patient", "hasty", "hasty", "hasty", "hasty", "hasty",
    ];
    let start = |way: &str| Peer::start("bustle", [folder.path().as_os_str(), way.as_ref()]);
    let mut peers: Vec<Peer> = ways.into_iter().map(start).collect();
    for peer in &peers {
        peer.expect("ready");
    }
    for peer in &mut peers {
        peer.tell("go");
    }
    let times: u64 = peers
        .iter()
        .map(|peer| peer.line().parse::<u64>().unwrap())
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
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let mut holder = Actor::holding(&path);
    let mut waiter = Actor::start(&path);
    let mut trier = Actor::start(&path);
    assert!(!trier.tries(), "it is held");
    // Stopped, but within its time.
    waiter.queues(&path, LONG);
    waiter.peer.stop();
    holder.releases();
    for _ in 0..20 {
        assert!(!trier.tries() && !holder.tries());
    }
    waiter.peer.signal("CONT");
    waiter.peer.expect("held");
    // Past its time.
    let timeout = Duration::from_millis(500);
    let begun = Instant::now();
    holder.queues(&path, timeout);
    holder.peer.stop();
    waiter.releases();
    peer::until("it is over time", || trier.tries());
    assert!(begun.elapsed() > timeout);
    trier.releases();
    holder.peer.signal("CONT");
    let told = holder.peer.line();
    assert!(
        told == "held" || told.starts_with("write lock timeout"),
        "{told}"
    );
    if told == "held" {
        holder.releases();
    }
    // Dead.
    trier.takes();
    waiter.queues(&path, LONG);
    waiter.peer.stop();
    trier.releases();
    assert!(!trier.tries());
    waiter.peer.kill();
    assert!(trier.tries());
}

#[test]
fn the_next_in_line_has_what_a_killed_holder_had() {
    const KILLS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let [mut next, mut behind] = [(); 2].map(|()| Actor::start(&path));
    let mut dead = Vec::new();
    let mut times = Vec::new();
    for _ in 0..KILLS {
        let mut holder = Actor::holding(&path);
        next.queues(&path, LONG);
        behind.queues(&path, LONG);
        let begun = Instant::now();
        holder.peer.signal("KILL");
        next.peer.expect("held");
        times.push(begun.elapsed());
        holder.peer.kill();
        dead.push(holder.pid());
        next.releases();
        behind.peer.expect("held");
        behind.releases();
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
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let mut holder = Actor::spawn(Actor::command(&path, &["label=nightly import"]));
    holder.takes();
    thread::sleep(Duration::from_millis(510));
    holder.releases();
    holder.takes();
    holder.releases();
    let told = events(&path, EventKind::LongHold);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].pid, holder.pid());
    assert_eq!(told[0].label.as_deref(), Some("nightly import"));
    assert!(told[0].duration >= Duration::from_millis(510));
}

/// Two lockers of one process, one of which does not queue.
#[test]
fn a_pause_is_not_told_as_a_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let queues = WriteLocker::at(&path).unwrap();
    let polls = WriteLocker::at(&path).unwrap().no_page();
    drop(queues.acquire(LONG).unwrap());
    thread::sleep(Duration::from_millis(510));
    drop(polls.acquire(LONG).unwrap());
    assert_eq!(events(&path, EventKind::LongHold), []);
    assert_eq!(queues.status().unwrap().holds.count, 1);
}

#[test]
fn a_holder_that_does_not_queue_is_told() {
    if !peer::has("flock") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let mut waiter = Actor::holding(&path);
    waiter.releases();
    let flock = flock(folder.path());
    waiter.queues(&path, LONG);
    is_told(&path, &mut waiter, flock);
}

/// It has taken the lock that the first in line was to have.
#[test]
fn one_that_does_not_queue_is_told_by_the_heir() {
    if !peer::has("flock") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let mut holder = Actor::holding(&path);
    let mut heir = waiting(&path, 1).remove(0);
    heir.peer.stop();
    holder.releases();
    let flock = flock(folder.path());
    heir.peer.signal("CONT");
    is_told(&path, &mut heir, flock);
}

/// Holds until its input ends.
fn flock(folder: &Path) -> Peer {
    let mut flock = Command::new("flock");
    let args = ["db.lock", "sh", "-c", "echo held; read line"];
    flock.args(args).current_dir(folder);
    let flock = Peer::spawn(flock);
    flock.expect("held");
    flock
}

fn is_told(path: &Path, waiter: &mut Actor, mut flock: Peer) {
    // It has to find out first.
    thread::sleep(Duration::from_millis(100));
    flock.end();
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
    let folder = tempfile::tempdir().unwrap();
    let path = lock_file(folder.path());
    let locker = WriteLocker::at(&path).unwrap();
    let mut other = Actor::start(&path);
    let over = std::sync::atomic::AtomicBool::new(false);
    let takes = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(locker.acquire(LONG).unwrap());
                }
            });
        }
        let takes: Vec<_> = (0..21)
            .map(|_| {
                let begun = Instant::now();
                other.takes();
                other.releases();
                begun.elapsed()
            })
            .collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        takes
    });
    let median = median(takes);
    assert!(median < AT_ONCE, "{median:?}");
}
