//! Tasks wait for the lock like threads, block no thread of their runtime while
//! they do, and whatever becomes of their futures, the lock is neither lost nor
//! held by nobody.
#![cfg(test)]
#![cfg(feature = "tokio")]
#![allow(unsafe_code, reason = "a test of fork has to fork")]

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{AsyncWriteGuard, LockError, WriteLocker};
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, wait};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// What is meant to be immediate, on a busy machine.
const SOON: Duration = Duration::from_millis(500);
/// How long a busy machine may let a runtime stand still.
const STILL: Duration = Duration::from_millis(200);

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        lock_fixture::COUNT_ROLE,
        ("crowd", crowd),
        ("forks", forks),
    ]);
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn two_threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_time().build().unwrap()
}

fn locker(directory: &Path) -> Arc<WriteLocker> {
    Arc::new(WriteLocker::new(directory).unwrap())
}

type Acquired = Result<AsyncWriteGuard, LockError>;

/// A task that takes the lock.
fn spawn_acquire(
    runtime: &Runtime,
    locker: &Arc<WriteLocker>,
    timeout: Duration,
) -> JoinHandle<Acquired> {
    let locker = Arc::clone(locker);
    runtime.spawn(async move { locker.acquire_async(timeout).await })
}

/// How many processes stand in the line of the page.
fn in_page(locker: &WriteLocker) -> usize {
    locker.status().unwrap().queue.len()
}

/// How many threads and tasks of this process hold or wait, as a thread that
/// holds nothing is told; also one if that is another process alone.
fn in_process(locker: &WriteLocker) -> usize {
    let text = locker.acquire(Duration::ZERO).unwrap_err().to_string();
    let queue = text.lines().find_map(|line| line.strip_prefix("  queue: "));
    queue.map_or(1, |line| line.split_once(' ').unwrap().0.parse().unwrap())
}

fn is_soon(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    wait::until(what, &mut so);
    assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
}

#[test]
fn future_and_guard_may_move_to_another_thread() {
    fn is_send(_: &impl Send) {}
    fn is_sync<T: Send + Sync>() {}
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    is_send(&locker.acquire_async(LONG_TIMEOUT));
    is_sync::<AsyncWriteGuard>();
}

#[test]
fn is_taken_released_and_recorded_as_by_a_thread() {
    let directory = tempfile::tempdir().unwrap();
    let locker = locker(directory.path());
    one_thread().block_on(async {
        // The first one of a locker opens the file, the second one finds it open.
        for timeout in [Duration::ZERO, LONG_TIMEOUT, Duration::MAX] {
            let guard = locker.acquire_async(timeout).await.unwrap();
            let holder = locker.holder().unwrap().unwrap();
            assert!(holder.is_this_process());
            guard.release().unwrap();
            assert!(locker.holder().unwrap().is_none());
        }
        let directory = directory.path().join("gone");
        fs::create_dir(&directory).unwrap();
        let lost = WriteLocker::new(&directory).unwrap();
        fs::remove_dir(&directory).unwrap();
        let error = lost.acquire_async(LONG_TIMEOUT).await.unwrap_err();
        assert!(!error.is_timeout(), "{error}");
    });
}

/// While tasks wait for another process, another one goes on.
#[test]
fn the_runtime_goes_on_while_a_task_waits() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    let locker = locker(directory.path());
    let runtime = one_thread();
    let pauses = Arc::new(Mutex::new(vec![Duration::ZERO; 3]));
    let heartbeat = runtime.spawn(beat(Arc::clone(&pauses)));
    let two = Duration::from_secs(2);
    let releases = thread::spawn(move || {
        thread::sleep(two + two);
        lock_peer.release();
    });
    runtime.block_on(async {
        // In line, behind another task, and looking for who is in the way.
        let first = locker.acquire_async(two);
        let second = locker.acquire_async(two);
        let (first, second) = tokio::join!(first, second);
        assert!(first.unwrap_err().is_timeout() && second.unwrap_err().is_timeout());
        drop(locker.acquire_async(LONG_TIMEOUT).await.unwrap());
    });
    releases.join().unwrap();
    assert!(!heartbeat.is_finished());
    let mut pauses = pauses.lock().unwrap().clone();
    pauses.sort();
    let longest = &pauses[pauses.len() - 3..];
    eprintln!("the longest pauses of the heartbeat: {longest:?}");
    // Whatever blocked would block for two seconds, or again and again; once or
    // twice a busy machine may let everything stand still.
    assert!(
        longest[0] > Duration::ZERO && longest[0] < STILL,
        "{longest:?}"
    );
    assert!(longest[2] < two / 2, "{longest:?}");
}

async fn beat(pauses: Arc<Mutex<Vec<Duration>>>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        pauses.lock().unwrap().push(last.elapsed());
        last = Instant::now();
    }
}

#[test]
fn fifty_tasks_and_four_processes_count_right() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Arc::new(Counter::new(directory.path()));
    let args = [directory.path().as_os_str(), "500".as_ref()];
    let mut others = [(); 4].map(|()| Peer::start(lock_fixture::COUNT_ROLE.0, args));
    let runtime = two_threads();
    let locker = locker(directory.path());
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (locker, counter) = (Arc::clone(&locker), Arc::clone(&counter));
            runtime.spawn(async move {
                for _ in 0..20 {
                    let guard = locker.acquire_async(LONG_TIMEOUT).await.unwrap();
                    counter.increment();
                    tokio::task::yield_now().await;
                    counter.increment();
                    drop(guard);
                }
            })
        })
        .collect();
    lock_fixture::run_together(&mut others);
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(counter.read(), 50 * 20 * 2 + 4 * 500);
}

#[test]
fn tasks_and_threads_are_served_in_the_order_they_came() {
    let directory = tempfile::tempdir().unwrap();
    let locker = locker(directory.path());
    let runtime = two_threads();
    let guard = runtime
        .block_on(locker.acquire_async(LONG_TIMEOUT))
        .unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for number in 0..10 {
            let (locker_there, order) = (Arc::clone(&locker), Arc::clone(&order));
            if number % 3 == 0 {
                scope.spawn(move || {
                    let _guard = locker_there.acquire(LONG_TIMEOUT).unwrap();
                    order.lock().unwrap().push(number);
                });
            } else {
                runtime.spawn(async move {
                    let _guard = locker_there.acquire_async(LONG_TIMEOUT).await.unwrap();
                    order.lock().unwrap().push(number);
                });
            }
            wait::until("it stands in line", || in_process(&locker) == number + 2);
        }
        drop(guard);
        wait::until("all had it", || order.lock().unwrap().len() == 10);
    });
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_timeout_names_the_holder_and_comes_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    let locker = locker(directory.path());
    let runtime = one_thread();
    let timeout = Duration::from_millis(200);
    let begun = Instant::now();
    // One waits for the process, the other one behind it.
    let waits = [(); 2].map(|()| spawn_acquire(&runtime, &locker, timeout));
    for task in waits {
        let error = runtime.block_on(task).unwrap().unwrap_err();
        assert!(error.is_timeout());
        assert_eq!(error.holder().unwrap().pid, Some(lock_peer.pid()));
        let text = error.to_string();
        assert!(
            text.starts_with("write lock timeout after 200ms\n"),
            "{text}"
        );
    }
    assert!((timeout..timeout + SOON).contains(&begun.elapsed()));
    let error = runtime.block_on(locker.acquire_async(Duration::ZERO));
    assert_eq!(
        error.unwrap_err().holder().unwrap().pid,
        Some(lock_peer.pid())
    );
    lock_peer.release();
    drop(
        runtime
            .block_on(locker.acquire_async(LONG_TIMEOUT))
            .unwrap(),
    );
}

#[test]
fn a_task_that_asks_again_waits_for_itself_and_no_longer_than_it_said() {
    let directory = tempfile::tempdir().unwrap();
    let locker = locker(directory.path());
    one_thread().block_on(async {
        let _guard = locker.acquire_async(LONG_TIMEOUT).await.unwrap();
        let again = locker.acquire_async(Duration::from_millis(50)).await;
        let error = again.unwrap_err();
        assert!(error.is_timeout() && error.holder().unwrap().is_this_process());
    });
}

#[test]
fn a_dropped_future_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = LockPeer::holding(&lock_file(directory.path()));
    let mut next = LockPeer::start(&lock_file(directory.path()));
    let locker = locker(directory.path());
    let runtime = two_threads();
    // Three tasks: one in line, two behind it in the process.
    let tasks = [(); 3].map(|()| spawn_acquire(&runtime, &locker, LONG_TIMEOUT));
    wait::until("it stands in line", || in_page(&locker) == 1);
    wait::until("the others stand behind", || in_process(&locker) == 3);
    next.start_acquire(LONG_TIMEOUT);
    wait::until("the next one stands in line", || in_page(&locker) == 2);

    tasks[1].abort();
    is_soon("one behind is gone", || in_process(&locker) == 2);
    tasks[0].abort();
    // The other task goes on, now behind the other process.
    is_soon("the first is gone", || in_process(&locker) == 1);
    wait::until("the other one stands in line", || in_page(&locker) == 2);
    tasks[2].abort();
    is_soon("nobody but the next one waits", || {
        let queue = locker.status().unwrap().queue;
        queue.len() == 1 && queue[0].pid == next.pid()
    });
    holder.release();
    let begun = Instant::now();
    next.peer.expect("held");
    assert!(begun.elapsed() < SOON);
    next.release();
    drop(locker.try_acquire().unwrap().expect("free"));
}

/// The thread that waits is called: further back in line it would otherwise look
/// again after 26 ms or more.
#[test]
fn the_place_in_line_is_given_back_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let _holder = LockPeer::holding(&lock_file(directory.path()));
    let mut next = LockPeer::start(&lock_file(directory.path()));
    next.start_acquire(LONG_TIMEOUT);
    let locker = locker(directory.path());
    wait::until("one stands in line", || in_page(&locker) == 1);
    let runtime = one_thread();
    let fastest = (0..20).map(|_| {
        let begun = runtime.block_on(async {
            let mut waits = Box::pin(locker.acquire_async(LONG_TIMEOUT));
            while in_page(&locker) < 2 {
                let _ = tokio::time::timeout(Duration::from_millis(1), &mut waits).await;
            }
            Instant::now()
        });
        wait::until("it is gone", || in_page(&locker) == 1);
        begun.elapsed()
    });
    let fastest = fastest.min().unwrap();
    eprintln!("the fastest was gone after {fastest:?}");
    assert!(fastest < Duration::from_millis(10), "{fastest:?}");
}

/// Where processes do not queue, the thread polls; it is called all the same.
#[test]
fn a_dropped_future_leaves_no_trace_without_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = LockPeer::holding(&lock_file(directory.path()));
    let locker = WriteLocker::new(directory.path()).unwrap().no_page();
    let locker = Arc::new(locker);
    let runtime = two_threads();
    let fastest = (0..10).map(|_| {
        let task = spawn_acquire(&runtime, &locker, LONG_TIMEOUT);
        // By then it sleeps for 50 ms.
        thread::sleep(Duration::from_millis(80));
        holder.release();
        let begun = Instant::now();
        task.abort();
        // And the guard, if it got it meanwhile.
        drop(task);
        wait::until("the turn is free", || {
            locker.try_acquire().unwrap().is_some()
        });
        let elapsed = begun.elapsed();
        holder.acquire();
        elapsed
    });
    let fastest = fastest.min().unwrap();
    eprintln!("without a page the fastest was gone after {fastest:?}");
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");
    holder.release();
    drop(locker.try_acquire().unwrap().expect("free"));
}

/// Futures are dropped before, while and after the lock is passed to them.
#[test]
fn futures_dropped_at_any_moment_neither_lose_nor_keep_the_lock() {
    const TASKS: u64 = 6;
    const TIMES: u64 = 1000;
    let directory = tempfile::tempdir().unwrap();
    let counter = Arc::new(Counter::new(directory.path()));
    let args = [directory.path().as_os_str(), "3000".as_ref()];
    let mut others = [(); 2].map(|()| Peer::start(lock_fixture::COUNT_ROLE.0, args));
    let runtime = two_threads();
    let locker = locker(directory.path());
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (locker, counter) = (Arc::clone(&locker), Arc::clone(&counter));
            runtime.spawn(async move {
                let (mut counted, random) = (0, RandomState::new());
                for time in 0..TIMES {
                    // Most of them about as long as a hold or a hand-off takes.
                    let random = random.hash_one((task, time));
                    let patience = Duration::from_micros(random % (1 << ((random >> 32) % 13)));
                    let acquires = locker.acquire_async(LONG_TIMEOUT);
                    // The inner timeout drops the future, wherever it stands.
                    if let Ok(guard) = tokio::time::timeout(patience, acquires).await {
                        let _guard = guard.unwrap();
                        counter.increment();
                        counted += 1;
                    }
                }
                counted
            })
        })
        .collect();
    lock_fixture::run_together(&mut others);
    let counted: u64 = runtime.block_on(async {
        let mut counted = 0;
        for task in tasks {
            counted += task.await.unwrap();
        }
        counted
    });
    eprintln!("{counted} of {} futures got the lock", TASKS * TIMES);
    assert_eq!(counter.read(), counted + 2 * 3000);
    is_soon("nobody waits", || in_page(&locker) == 0);
    is_soon("it is free", || locker.try_acquire().unwrap().is_some());
}

#[test]
fn a_runtime_that_shuts_down_takes_its_futures_along() {
    for (name, runtime) in [("one thread", one_thread()), ("two", two_threads())] {
        let directory = tempfile::tempdir().unwrap();
        let mut holder = LockPeer::holding(&lock_file(directory.path()));
        let locker = locker(directory.path());
        let tasks: Vec<_> = (0..10)
            .map(|_| spawn_acquire(&runtime, &locker, LONG_TIMEOUT))
            .collect();
        runtime.block_on(async {
            while in_page(&locker) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let begun = Instant::now();
        drop(runtime);
        assert!(begun.elapsed() < SOON, "{name}: {:?}", begun.elapsed());
        assert!(tasks.iter().all(JoinHandle::is_finished));
        assert_eq!(in_page(&locker), 0);
        holder.release();
        drop(locker.try_acquire().unwrap().expect("free"));
    }
}

#[test]
fn a_guard_is_dropped_by_whoever_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut other = LockPeer::start(&lock_file(directory.path()));
    let locker = locker(directory.path());
    let runtime = two_threads();
    for _ in 0..20 {
        let guard = runtime
            .block_on(locker.acquire_async(LONG_TIMEOUT))
            .unwrap();
        other.assert_blocked_by(std::process::id());
        let there = runtime.spawn(async move {
            tokio::task::yield_now().await;
            drop(guard);
        });
        runtime.block_on(there).unwrap();
        other.acquire();
        other.release();
        // Unfinished, and a thread that belongs to no runtime.
        let guard = runtime
            .block_on(locker.acquire_async(LONG_TIMEOUT))
            .unwrap();
        let never = runtime.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        never.abort();
        runtime.block_on(never).unwrap_err();
        let guard = runtime
            .block_on(locker.acquire_async(LONG_TIMEOUT))
            .unwrap();
        thread::spawn(|| drop(guard)).join().unwrap();
        other.acquire();
        other.release();
    }
}

#[test]
fn blocking_work_under_the_lock_is_told_of_nesting() {
    let directory = tempfile::tempdir().unwrap();
    let locker = locker(directory.path());
    let runtime = two_threads();
    let guard = runtime
        .block_on(locker.acquire_async(LONG_TIMEOUT))
        .unwrap();
    let there = Arc::clone(&locker);
    let work = runtime.spawn_blocking(move || {
        let guard = guard.into_blocking();
        assert!(there.acquire(LONG_TIMEOUT).unwrap_err().is_nested());
        guard.release().unwrap();
        there.acquire(LONG_TIMEOUT).unwrap().release().unwrap();
    });
    runtime.block_on(work).unwrap();
}

/// All blocking threads are busy: the deadline holds, and dropping gives the turn
/// on at once.
#[test]
fn a_busy_pool_of_threads_holds_up_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = LockPeer::holding(&lock_file(directory.path()));
    let locker = locker(directory.path());
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(1);
    let runtime = builder.enable_time().build().unwrap();
    // The lock file is open from here on.
    let first = runtime.block_on(locker.acquire_async(Duration::ZERO));
    assert!(first.unwrap_err().is_timeout());
    let (free, busy) = channel::<()>();
    let keeps = runtime.spawn_blocking(move || busy.recv());

    let begun = Instant::now();
    let timeout = Duration::from_millis(100);
    let error = runtime.block_on(locker.acquire_async(timeout)).unwrap_err();
    assert!(error.is_timeout() && begun.elapsed() < timeout + 2 * SOON);

    let tasks = [(); 2].map(|()| spawn_acquire(&runtime, &locker, LONG_TIMEOUT));
    wait::until("one is behind the other", || in_process(&locker) == 2);
    for task in tasks {
        task.abort();
    }
    holder.release();
    is_soon("the turn is free", || {
        locker.try_acquire().unwrap().is_some()
    });
    free.send(()).unwrap();
    runtime.block_on(keeps).unwrap().unwrap();
    drop(
        runtime
            .block_on(locker.acquire_async(LONG_TIMEOUT))
            .unwrap(),
    );
}

/// Two hundred tasks wait; it takes one thread.
#[test]
fn one_thread_waits_for_all_tasks() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = LockPeer::holding(&lock_file(directory.path()));
    let mut crowd = Peer::start("crowd", [directory.path()]);
    crowd.expect("hardly a thread more");
    holder.release();
    crowd.expect("all had it");
    assert!(crowd.close().success());
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn crowd(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let runtime = one_thread();
    let locker = locker(directory);
    let before = threads();
    let tasks: Vec<_> = (0..200)
        .map(|_| spawn_acquire(&runtime, &locker, LONG_TIMEOUT))
        .collect();
    runtime.block_on(async {
        while in_page(&locker) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    // The one that waits; the one that opened the file may have been another.
    assert!(threads() <= before + 2);
    peer::send("hardly a thread more");
    runtime.block_on(async {
        for task in tasks {
            drop(task.await.unwrap().unwrap());
        }
    });
    peer::send("all had it");
}

/// A forked child drops what its parent holds and waits for: nothing happens.
#[test]
fn a_forked_child_gives_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.lock");
    let mut holder = LockPeer::holding(&other);
    let mut forks = Peer::start("forks", [directory.path()]);
    forks.expect("child gone");
    let mut outside = LockPeer::start(&lock_file(directory.path()));
    outside.assert_blocked_by(forks.pid());
    assert_eq!(in_page(&WriteLocker::at(&other).unwrap()), 1);
    holder.release();
    forks.expect("has both");
    forks.send("release");
    assert!(forks.close().success());
    outside.acquire();
}

fn forks(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let runtime = one_thread();
    let held = WriteLocker::new(directory).unwrap();
    let other = WriteLocker::at(directory.join("other.lock")).unwrap();
    let guard = runtime.block_on(held.acquire_async(LONG_TIMEOUT)).unwrap();
    let mut both = Some((guard, Box::pin(other.acquire_async(LONG_TIMEOUT))));
    runtime.block_on(async {
        while in_page(&other) == 0 {
            let (_, waits) = both.as_mut().unwrap();
            let mut now = Context::from_waker(Waker::noop());
            assert!(waits.as_mut().poll(&mut now).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    // SAFETY: this process has no thread but this one, the one that waits for
    // the lock, and the runner's, which sleeps; the child ends by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(both.take());
        // SAFETY: ends this process; nothing of the parent's is run down.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: `status` is ours, and all that is written to.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0));
    peer::send("child gone");
    let (guard, waits) = both.unwrap();
    let second = runtime.block_on(waits).unwrap();
    peer::send("has both");
    peer::expect("release");
    second.release().unwrap();
    guard.release().unwrap();
}

/// What was granted to a future that is not polled goes to the next one when it
/// is dropped.
#[test]
fn a_future_that_was_polled_once_and_dropped_passes_the_turn_on() {
    let directory = tempfile::tempdir().unwrap();
    let locker = locker(directory.path());
    let runtime = two_threads();
    let guard = runtime
        .block_on(locker.acquire_async(LONG_TIMEOUT))
        .unwrap();
    let _entered = runtime.enter();
    let mut idle = Box::pin(locker.acquire_async(LONG_TIMEOUT));
    let mut now = Context::from_waker(Waker::noop());
    assert!(matches!(idle.as_mut().poll(&mut now), Poll::Pending));
    let task = spawn_acquire(&runtime, &locker, LONG_TIMEOUT);
    wait::until("both stand in line", || in_process(&locker) == 3);
    drop(guard);
    thread::sleep(Duration::from_millis(20));
    assert!(!task.is_finished());
    drop(idle);
    drop(runtime.block_on(task).unwrap().unwrap());
}
