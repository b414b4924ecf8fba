//! Tasks acquire the lock as threads do and block no thread of their runtime. The lock is
//! not lost and not kept if their futures are dropped at any moment.
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

/// The longest time for an immediate step on a busy machine.
const PROMPT: Duration = Duration::from_millis(500);
/// How long a busy machine may pause a runtime.
const MAX_PAUSE: Duration = Duration::from_millis(200);

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        lock_fixture::COUNT_ROLE,
        ("acquire_in_many_tasks", acquire_in_many_tasks),
        #[cfg(unix)]
        ("fork_while_waiting", fork_while_waiting),
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

/// Spawns a task that acquires the lock.
fn spawn_acquire(
    runtime: &Runtime,
    locker: &Arc<WriteLocker>,
    timeout: Duration,
) -> JoinHandle<Acquired> {
    let locker = Arc::clone(locker);
    runtime.spawn(async move { locker.acquire_async(timeout).await })
}

/// Returns how many processes are in the queue.
fn count_in_queue(locker: &WriteLocker) -> usize {
    locker.status().unwrap().queue.len()
}

/// Returns how many threads and tasks of this process hold or wait, from the error of an
/// attempt with a timeout of zero.
///
/// It is also one if only another process holds the lock.
fn count_in_process(locker: &WriteLocker) -> usize {
    let text = locker.acquire(Duration::ZERO).unwrap_err().to_string();
    let queue = text.lines().find_map(|line| line.strip_prefix("  queue: "));
    queue.map_or(1, |line| line.split_once(' ').unwrap().0.parse().unwrap())
}

fn until_promptly(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    wait::until(what, &mut condition);
    assert!(start.elapsed() < PROMPT, "{what}: {:?}", start.elapsed());
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
fn a_task_acquires_releases_and_is_recorded_as_a_thread_is() {
    let directory = tempfile::tempdir().unwrap();
    let locker = locker(directory.path());
    one_thread().block_on(async {
        // The first acquisition opens the file, and the second finds it open.
        for timeout in [Duration::ZERO, LONG_TIMEOUT, Duration::MAX] {
            let guard = locker.acquire_async(timeout).await.unwrap();
            let holder = locker.holder().unwrap().unwrap();
            assert!(holder.is_this_process());
            guard.release().unwrap();
            assert!(locker.holder().unwrap().is_none());
        }
        let directory = directory.path().join("removed");
        fs::create_dir(&directory).unwrap();
        let locker = WriteLocker::new(&directory).unwrap();
        fs::remove_dir(&directory).unwrap();
        let error = locker.acquire_async(LONG_TIMEOUT).await.unwrap_err();
        assert!(!error.is_timeout(), "{error}");
    });
}

/// While tasks wait for another process, another task goes on.
#[test]
fn a_runtime_goes_on_while_a_task_waits() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    let locker = locker(directory.path());
    let runtime = one_thread();
    let pauses = Arc::new(Mutex::new(vec![Duration::ZERO; 3]));
    let heartbeat = runtime.spawn(beat(Arc::clone(&pauses)));
    let two = Duration::from_secs(2);
    let releaser = thread::spawn(move || {
        thread::sleep(two + two);
        lock_peer.release();
    });
    runtime.block_on(async {
        // One task is in the queue, the other behind it. Both look up the holder.
        let first = locker.acquire_async(two);
        let second = locker.acquire_async(two);
        let (first, second) = tokio::join!(first, second);
        assert!(first.unwrap_err().is_timeout() && second.unwrap_err().is_timeout());
        drop(locker.acquire_async(LONG_TIMEOUT).await.unwrap());
    });
    releaser.join().unwrap();
    assert!(!heartbeat.is_finished());
    let mut pauses = pauses.lock().unwrap().clone();
    pauses.sort();
    let longest = &pauses[pauses.len() - 3..];
    eprintln!("the longest pauses of the heartbeat: {longest:?}");
    // A task that blocked would block for two seconds, or repeatedly. A busy machine may
    // pause everything once or twice.
    assert!(
        longest[0] > Duration::ZERO && longest[0] < MAX_PAUSE,
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
fn counts_of_fifty_tasks_and_four_processes_are_right() {
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
fn tasks_and_threads_are_served_in_order_of_arrival() {
    let directory = tempfile::tempdir().unwrap();
    let locker = locker(directory.path());
    let runtime = two_threads();
    let guard = runtime
        .block_on(locker.acquire_async(LONG_TIMEOUT))
        .unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for number in 0..10 {
            let (task_locker, order) = (Arc::clone(&locker), Arc::clone(&order));
            if number % 3 == 0 {
                scope.spawn(move || {
                    let _guard = task_locker.acquire(LONG_TIMEOUT).unwrap();
                    order.lock().unwrap().push(number);
                });
            } else {
                runtime.spawn(async move {
                    let _guard = task_locker.acquire_async(LONG_TIMEOUT).await.unwrap();
                    order.lock().unwrap().push(number);
                });
            }
            wait::until("it waits", || count_in_process(&locker) == number + 2);
        }
        drop(guard);
        wait::until("all acquired", || order.lock().unwrap().len() == 10);
    });
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_timeout_names_the_holder_and_is_on_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    let locker = locker(directory.path());
    let runtime = one_thread();
    let timeout = Duration::from_millis(200);
    let start = Instant::now();
    // One task waits for the process, and the other waits behind it.
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
    assert!((timeout..timeout + PROMPT).contains(&start.elapsed()));
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
fn a_task_that_acquires_twice_times_out() {
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
    // One of the three tasks is in the queue, and two are behind it in the process.
    let tasks = [(); 3].map(|()| spawn_acquire(&runtime, &locker, LONG_TIMEOUT));
    wait::until("the first task is queued", || count_in_queue(&locker) == 1);
    wait::until("the other tasks wait behind it", || {
        count_in_process(&locker) == 3
    });
    next.start_acquire(LONG_TIMEOUT);
    wait::until("the next process is queued", || {
        count_in_queue(&locker) == 2
    });

    tasks[1].abort();
    until_promptly("the second task has left", || {
        count_in_process(&locker) == 2
    });
    tasks[0].abort();
    // The third task goes on, now behind the other process.
    until_promptly("the first task has left", || count_in_process(&locker) == 1);
    wait::until("the third task is queued", || count_in_queue(&locker) == 2);
    tasks[2].abort();
    until_promptly("only the next process waits", || {
        let queue = locker.status().unwrap().queue;
        queue.len() == 1 && queue[0].pid == next.pid()
    });
    holder.release();
    let start = Instant::now();
    next.peer.expect("held");
    assert!(start.elapsed() < PROMPT);
    next.release();
    drop(locker.try_acquire().unwrap().expect("free"));
}

/// The waiting thread is woken. Further back in the queue it would otherwise probe only
/// after 26 ms or more.
#[test]
fn a_dropped_future_leaves_the_queue_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let _holder = LockPeer::holding(&lock_file(directory.path()));
    let mut next = LockPeer::start(&lock_file(directory.path()));
    next.start_acquire(LONG_TIMEOUT);
    let locker = locker(directory.path());
    wait::until("the other process is queued", || {
        count_in_queue(&locker) == 1
    });
    let runtime = one_thread();
    let fastest = (0..20).map(|_| {
        let start = runtime.block_on(async {
            let mut waiting = Box::pin(locker.acquire_async(LONG_TIMEOUT));
            while count_in_queue(&locker) < 2 {
                let _ = tokio::time::timeout(Duration::from_millis(1), &mut waiting).await;
            }
            Instant::now()
        });
        wait::until("the task has left the queue", || {
            count_in_queue(&locker) == 1
        });
        start.elapsed()
    });
    let fastest = fastest.min().unwrap();
    eprintln!("the fastest left after {fastest:?}");
    // Polling, it would be the longest pause of 50 ms at the median.
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");
}

/// Without a queue file the thread polls. It is woken there too.
#[test]
fn a_dropped_future_leaves_no_trace_without_a_queue_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = LockPeer::holding(&lock_file(directory.path()));
    let locker = WriteLocker::new(directory.path()).unwrap().queue(false);
    let locker = Arc::new(locker);
    let runtime = two_threads();
    let fastest = (0..10).map(|_| {
        let task = spawn_acquire(&runtime, &locker, LONG_TIMEOUT);
        // By then it sleeps for 50 ms.
        thread::sleep(Duration::from_millis(80));
        holder.release();
        let start = Instant::now();
        task.abort();
        // This drops the guard too, if the task acquired meanwhile.
        drop(task);
        wait::until("the lock is free", || {
            locker.try_acquire().unwrap().is_some()
        });
        let elapsed = start.elapsed();
        holder.acquire();
        elapsed
    });
    let fastest = fastest.min().unwrap();
    eprintln!("without a queue file the fastest left after {fastest:?}");
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");
    holder.release();
    drop(locker.try_acquire().unwrap().expect("free"));
}

/// Futures are dropped before, during and after the handoff to them.
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
                    // Most of them are about as long as a hold or a handoff.
                    let random = random.hash_one((task, time));
                    let wait_time = Duration::from_micros(random % (1 << ((random >> 32) % 13)));
                    let acquiring = locker.acquire_async(LONG_TIMEOUT);
                    // The outer timeout drops the future in any state.
                    if let Ok(guard) = tokio::time::timeout(wait_time, acquiring).await {
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
    until_promptly("no process waits", || count_in_queue(&locker) == 0);
    until_promptly("the lock is free", || {
        locker.try_acquire().unwrap().is_some()
    });
}

#[test]
fn a_runtime_that_shuts_down_drops_its_futures() {
    for (name, runtime) in [("one thread", one_thread()), ("two", two_threads())] {
        let directory = tempfile::tempdir().unwrap();
        let mut holder = LockPeer::holding(&lock_file(directory.path()));
        let locker = locker(directory.path());
        let tasks: Vec<_> = (0..10)
            .map(|_| spawn_acquire(&runtime, &locker, LONG_TIMEOUT))
            .collect();
        runtime.block_on(async {
            while count_in_queue(&locker) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let start = Instant::now();
        drop(runtime);
        assert!(start.elapsed() < PROMPT, "{name}: {:?}", start.elapsed());
        assert!(tasks.iter().all(JoinHandle::is_finished));
        assert_eq!(count_in_queue(&locker), 0);
        holder.release();
        drop(locker.try_acquire().unwrap().expect("free"));
    }
}

#[test]
fn a_guard_may_be_dropped_by_any_task_or_thread() {
    let directory = tempfile::tempdir().unwrap();
    let mut other = LockPeer::start(&lock_file(directory.path()));
    let locker = locker(directory.path());
    let runtime = two_threads();
    for _ in 0..20 {
        let guard = runtime
            .block_on(locker.acquire_async(LONG_TIMEOUT))
            .unwrap();
        other.assert_blocked_by(std::process::id());
        let task = runtime.spawn(async move {
            tokio::task::yield_now().await;
            drop(guard);
        });
        runtime.block_on(task).unwrap();
        other.acquire();
        other.release();
        // In an unfinished task, and in a thread outside the runtime.
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
fn blocking_work_under_the_lock_gets_the_nesting_error() {
    let directory = tempfile::tempdir().unwrap();
    let locker = locker(directory.path());
    let runtime = two_threads();
    let guard = runtime
        .block_on(locker.acquire_async(LONG_TIMEOUT))
        .unwrap();
    let inner = Arc::clone(&locker);
    let work = runtime.spawn_blocking(move || {
        let guard = guard.into_blocking();
        assert!(inner.acquire(LONG_TIMEOUT).unwrap_err().is_nested());
        guard.release().unwrap();
        inner.acquire(LONG_TIMEOUT).unwrap().release().unwrap();
    });
    runtime.block_on(work).unwrap();
}

/// Even if all blocking threads are busy, the deadline holds, and a dropped future
/// passes its turn on at once.
#[test]
fn a_busy_thread_pool_delays_no_other_waiter() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = LockPeer::holding(&lock_file(directory.path()));
    let locker = locker(directory.path());
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(1);
    let runtime = builder.enable_time().build().unwrap();
    // This opens the lock file.
    let first = runtime.block_on(locker.acquire_async(Duration::ZERO));
    assert!(first.unwrap_err().is_timeout());
    let (free, busy) = channel::<()>();
    let blocking = runtime.spawn_blocking(move || busy.recv());

    let start = Instant::now();
    let timeout = Duration::from_millis(100);
    let error = runtime.block_on(locker.acquire_async(timeout)).unwrap_err();
    assert!(error.is_timeout() && start.elapsed() < timeout + 2 * PROMPT);

    let tasks = [(); 2].map(|()| spawn_acquire(&runtime, &locker, LONG_TIMEOUT));
    wait::until("one task waits behind the other", || {
        count_in_process(&locker) == 2
    });
    for task in tasks {
        task.abort();
    }
    holder.release();
    until_promptly("the lock is free", || {
        locker.try_acquire().unwrap().is_some()
    });
    free.send(()).unwrap();
    runtime.block_on(blocking).unwrap().unwrap();
    drop(
        runtime
            .block_on(locker.acquire_async(LONG_TIMEOUT))
            .unwrap(),
    );
}

/// One thread waits for two hundred tasks.
#[test]
fn one_thread_waits_for_all_tasks() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = LockPeer::holding(&lock_file(directory.path()));
    let mut tasks = Peer::start("acquire_in_many_tasks", [directory.path()]);
    tasks.expect("at most two more threads");
    holder.release();
    tasks.expect("all acquired");
    assert!(tasks.close().success());
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn acquire_in_many_tasks(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let runtime = one_thread();
    let locker = locker(directory);
    let before = threads();
    let tasks: Vec<_> = (0..200)
        .map(|_| spawn_acquire(&runtime, &locker, LONG_TIMEOUT))
        .collect();
    runtime.block_on(async {
        while count_in_queue(&locker) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    // The thread that waits, and perhaps another one that opened the file.
    assert!(threads() <= before + 2);
    peer::send("at most two more threads");
    runtime.block_on(async {
        for task in tasks {
            drop(task.await.unwrap().unwrap());
        }
    });
    peer::send("all acquired");
}

/// A forked child drops the guard and the future of its parent without effect.
#[cfg(unix)]
#[test]
fn a_forked_child_cannot_release() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.lock");
    let mut holder = LockPeer::holding(&other);
    let mut parent = Peer::start("fork_while_waiting", [directory.path()]);
    parent.expect("child exited");
    let mut waiter = LockPeer::start(&lock_file(directory.path()));
    waiter.assert_blocked_by(parent.pid());
    assert_eq!(count_in_queue(&WriteLocker::at(&other).unwrap()), 1);
    holder.release();
    parent.expect("holds both");
    parent.send("release");
    assert!(parent.close().success());
    waiter.acquire();
}

#[cfg(unix)]
fn fork_while_waiting(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let runtime = one_thread();
    let held = WriteLocker::new(directory).unwrap();
    let other = WriteLocker::at(directory.join("other.lock")).unwrap();
    let guard = runtime.block_on(held.acquire_async(LONG_TIMEOUT)).unwrap();
    let mut both = Some((guard, Box::pin(other.acquire_async(LONG_TIMEOUT))));
    runtime.block_on(async {
        while count_in_queue(&other) == 0 {
            let (_, waiting) = both.as_mut().unwrap();
            let mut now = Context::from_waker(Waker::noop());
            assert!(waiting.as_mut().poll(&mut now).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    // SAFETY: this process has only this thread, the thread that waits for the lock, and
    // the test runner's, which sleeps. The child ends with `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(both.take());
        // SAFETY: ends this process without running the parent's destructors.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: the call writes only to `status`, which is ours.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0));
    peer::send("child exited");
    let (guard, waiting) = both.unwrap();
    let second = runtime.block_on(waiting).unwrap();
    peer::send("holds both");
    peer::expect("release");
    second.release().unwrap();
    guard.release().unwrap();
}

/// A turn that was granted to a future which is not polled goes to the next one after
/// the future is dropped.
#[test]
fn a_future_that_was_polled_once_and_dropped_passes_its_turn_on() {
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
    wait::until("both wait", || count_in_process(&locker) == 3);
    drop(guard);
    thread::sleep(Duration::from_millis(20));
    assert!(!task.is_finished());
    drop(idle);
    drop(runtime.block_on(task).unwrap().unwrap());
}
