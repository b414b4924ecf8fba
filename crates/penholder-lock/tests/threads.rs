//! Threads of one process exclude one another and acquire in the order of arrival. A
//! timeout says if another thread of the same process holds the lock.
#![cfg(test)]

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::WriteLocker;
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, wait};

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE, lock_fixture::COUNT_ROLE]);
}

#[test]
fn counts_of_sixteen_threads_and_another_process_are_right() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let locker = WriteLocker::new(directory.path()).unwrap();
    let args = [directory.path().as_os_str(), "1000".as_ref()];
    let mut others = [Peer::start(lock_fixture::COUNT_ROLE.0, args)];
    thread::scope(|scope| {
        for number in 0..16 {
            let (locker, directory, counter) = (&locker, directory.path(), &counter);
            scope.spawn(move || {
                // A shared locker and a locker of its own use the same lock.
                let own = WriteLocker::new(directory).unwrap();
                let locker = if number % 2 == 0 { locker } else { &own };
                for _ in 0..300 {
                    let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
                    counter.increment();
                }
            });
        }
        lock_fixture::run_together(&mut others);
    });
    assert_eq!(counter.read(), 16 * 300 + 1000);
}

/// Returns how many threads of this process hold or wait, from the error of an attempt
/// with a timeout of zero.
fn count_in_process(locker: &WriteLocker) -> usize {
    let error = locker.acquire(Duration::ZERO).unwrap_err();
    let text = error.to_string();
    let queue = text.lines().find_map(|line| line.strip_prefix("  queue: "));
    queue.map_or(1, |line| {
        let (number, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, "threads of this process ahead of you");
        number.parse().unwrap()
    })
}

#[test]
fn threads_are_served_in_order_of_arrival() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let order = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let (send_held, held) = channel();
        let (release, released) = channel::<()>();
        let first = &locker;
        scope.spawn(move || {
            let guard = first.acquire(LONG_TIMEOUT).unwrap();
            send_held.send(()).unwrap();
            released.recv().unwrap();
            guard.release().unwrap();
        });
        held.recv().unwrap();
        for number in 0..8 {
            let (locker, order) = (&locker, &order);
            scope.spawn(move || {
                let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
                order.lock().unwrap().push(number);
            });
            wait::until("it is queued", || count_in_process(locker) == number + 2);
        }
        release.send(()).unwrap();
    });
    assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_timeout_behind_another_thread_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let timeout = Duration::from_millis(200);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let start = Instant::now();
            let error = locker.acquire(timeout).unwrap_err();
            assert!(start.elapsed() >= timeout);
            error
        });
        let error = waiter.join().unwrap();
        let text = error.to_string();
        let named = format!(
            "write lock timeout after 200ms\n  holder: pid:{} since ",
            std::process::id()
        );
        assert!(text.starts_with(&named), "{text}");
        assert!(text.contains("(another thread of this process, "), "{text}");
        assert!(error.is_timeout() && error.holder().unwrap().is_this_process());
    });
    guard.release().unwrap();
}

/// The first thread of the queue waits for another process. The timeouts of the threads
/// behind it name that process.
#[test]
fn a_timeout_behind_a_waiting_thread_names_the_holding_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    let locker = WriteLocker::new(directory.path()).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| drop(locker.acquire(LONG_TIMEOUT).unwrap()));
        for timeout in [1, 100].map(Duration::from_millis) {
            let error = locker.acquire(timeout).unwrap_err();
            assert_eq!(error.holder().unwrap().pid, Some(lock_peer.pid()));
        }
        lock_peer.release();
        first.join().unwrap();
    });
}

#[test]
fn a_thread_that_panics_passes_the_lock_on() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    thread::scope(|scope| {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        let panicking = scope.spawn(|| {
            let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
            // A panic that prints no message.
            resume_unwind(Box::new("on purpose"));
        });
        let next = scope.spawn(|| drop(locker.acquire(LONG_TIMEOUT).unwrap()));
        guard.release().unwrap();
        assert!(panicking.join().is_err());
        next.join().unwrap();
    });
    drop(locker.try_acquire().unwrap().expect("free"));
}
