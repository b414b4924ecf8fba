//! The state table, with threads that do what SQLite does: they ask, sleep while they are told to
//! wait, write, leave, and give up.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use penholder_core::EndedLease;
use penholder_testkit::requirement;
use tempfile::TempDir;

use super::*;

/// The longest that a test waits for anything: it only catches hangs.
const LIMIT: Duration = Duration::from_secs(20);
/// How soon something happens that must not take long, on a loaded machine.
const SOON: Duration = Duration::from_secs(3);

/// SQLite's own write lock as a connection has parked it.
#[derive(Debug, Default)]
struct Parked(AtomicBool);

impl LeaseParty for Parked {
    fn release(&self) {
        self.0.store(false, SeqCst);
    }

    fn ended(&self, _lease: &EndedLease) -> Option<Duration> {
        None
    }
}

/// A directory with a lock file.
struct Fixture {
    directory: TempDir,
    lock: Arc<ProcessLock>,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lock = ProcessLock::of(&directory.path().join("db.lock"));
        Self { directory, lock }
    }

    fn locker(&self) -> Locker {
        Locker::at(&self.directory.path().join("db.lock")).unwrap()
    }

    fn connection(&self, claim: Claim) -> Connection {
        let parked = Arc::<Parked>::default();
        let party = Arc::clone(&parked) as Arc<dyn LeaseParty>;
        let for_locker = Arc::clone(&party);
        let locker = self.locker().with(|to| to.lease = Some(for_locker));
        Connection {
            lock: Arc::clone(&self.lock),
            parked,
            asker: Asker {
                id: ConnectionId::new(),
                claim,
                locker: Arc::new(locker),
                party,
            },
        }
    }

    fn to(&self, database: &'static CStr) -> Connection {
        self.connection(Claim::Database(Arc::from(database)))
    }

    /// Waits until nobody has the lock or waits for it.
    #[track_caller]
    fn wait_until_idle(&self) {
        let deadline = Instant::now() + SOON;
        loop {
            let state = self.lock.lock();
            if state.hold.is_none() && state.waiters.is_empty() && state.place_of.is_none() {
                return;
            }
            assert!(Instant::now() < deadline, "{state:?}");
            drop(state);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Another process, as far as the kernel's lock is concerned.
    fn outsider(&self) -> Outsider {
        let path = self.directory.path().join("db.lock");
        let mut flock = std::process::Command::new("flock");
        flock.arg(path).args(["sh", "-c", "echo has; read line"]);
        flock.stdin(std::process::Stdio::piped());
        flock.stdout(std::process::Stdio::piped());
        let mut process = flock.spawn().unwrap();
        let mut said = [0; 4];
        let out = process.stdout.as_mut().unwrap();
        std::io::Read::read_exact(out, &mut said).unwrap();
        Outsider(process)
    }
}

/// Holds the kernel's lock until it is dropped.
struct Outsider(std::process::Child);

impl Drop for Outsider {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A connection, as SQLite uses it.
#[derive(Clone)]
struct Connection {
    lock: Arc<ProcessLock>,
    parked: Arc<Parked>,
    asker: Asker,
}

impl Connection {
    #[track_caller]
    fn ask(&self, may_wait: bool) -> bool {
        match self.lock.enter(&self.asker, may_wait, |_, _| false) {
            Entry::Inside => true,
            Entry::Busy => false,
            Entry::Failed(error) => panic!("{error}"),
        }
    }

    fn sleep(&self, pause: Duration) -> bool {
        self.lock.sleep(&self.asker, pause, || true)
    }

    /// What SQLite's own busy handler does: it sleeps longer and longer.
    fn enter_within(&self, timeout: Duration) -> bool {
        let begun = Instant::now();
        for pause in [1, 2, 5, 10, 15, 20, 25]
            .into_iter()
            .chain([50].repeat(9999))
        {
            if self.ask(true) {
                return true;
            }
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return false;
            }
            let pause = Duration::from_millis(pause).min(left);
            if !self.sleep(pause) {
                thread::sleep(pause);
            }
        }
        false
    }

    fn leave(&self) {
        let keep_nothing = |_| self.asker.party.release();
        self.lock.leave(self.asker.id, keep_nothing).unwrap();
    }

    fn forget(&self) {
        self.lock.forget(self.asker.id);
    }
}

/// Counts who is inside, by database.
#[derive(Default)]
struct Inside(Mutex<HashMap<CString, usize>>);

impl Inside {
    fn enter(&self, database: &CStr) {
        let mut inside = self.0.lock().unwrap();
        let count = inside.entry(database.to_owned()).or_default();
        *count += 1;
        assert_eq!(*count, 1, "two connections write to {database:?}");
    }

    fn leave(&self, database: &CStr) {
        *self.0.lock().unwrap().get_mut(database).unwrap() -= 1;
    }
}

/// A small generator of random numbers, by thread.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn micros(&mut self, bound: u64) -> Duration {
        Duration::from_micros(self.below(bound))
    }
}

#[test]
fn no_two_connections_of_one_database_are_inside_and_each_gets_in() {
    let fixture = Fixture::new();
    let inside = Inside::default();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..9 {
            let database = [c"/a.db", c"/b.db", c"/c.db"][number % 3];
            let (fixture, inside, done) = (&fixture, &inside, &done);
            scope.spawn(move || {
                let mut random = Random(number as u64 + 1);
                let mut connection = fixture.to(database);
                for round in 0..60 {
                    if random.below(4) == 0 {
                        // One that gives up, at any moment, and may be closed.
                        connection.ask(true);
                        if random.below(2) == 0 {
                            connection.sleep(random.micros(1500));
                        }
                        connection.leave();
                        connection.forget();
                        connection = fixture.to(database);
                    }
                    if random.below(5) == 0 && connection.ask(true) {
                        // SQLite's own lock is not free.
                        let set_aside = fixture.lock.set_aside(&connection.asker, true);
                        set_aside.unwrap();
                    }
                    assert!(connection.enter_within(LIMIT), "{number}, {round}");
                    inside.enter(database);
                    thread::sleep(random.micros(300));
                    inside.leave(database);
                    connection.leave();
                    thread::sleep(random.micros(400));
                }
                done.fetch_add(1, SeqCst);
            });
        }
    });
    assert_eq!(done.into_inner(), 9);
    fixture.wait_until_idle();
}

#[test]
fn a_reservation_that_nobody_takes_up_is_given_on() {
    if !requirement::has_program("flock") {
        return;
    }
    let fixture = Fixture::new();
    let (first, second) = (fixture.to(c"/a.db"), fixture.to(c"/a.db"));
    let outsider = fixture.outsider();
    assert!(!first.ask(true));
    // It does not come back, and the thread takes the lock for it.
    drop(outsider);
    let begun = Instant::now();
    assert!(second.enter_within(LIMIT));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    second.leave();
    fixture.wait_until_idle();
}

#[test]
fn who_gives_up_leaves_neither_a_place_nor_the_lock() {
    if !requirement::has_program("flock") {
        return;
    }
    let fixture = Fixture::new();
    let outsider = fixture.outsider();
    for pause in [0, 1, 5, 20] {
        let connection = fixture.to(c"/a.db");
        assert!(!connection.enter_within(Duration::from_millis(pause)));
        connection.forget();
    }
    drop(outsider);
    fixture.wait_until_idle();
    let other = fixture.outsider();
    drop(other);
}

#[test]
fn a_thread_that_did_not_run_for_long_keeps_no_lock_without_a_reservation() {
    if !requirement::has_program("flock") {
        return;
    }
    let fixture = Fixture::new();
    let connection = fixture.to(c"/a.db");
    let outsider = fixture.outsider();
    assert!(!connection.ask(true));
    thread::scope(|scope| {
        scope.spawn(|| drop(outsider));
        connection.lock.sleep(&connection.asker, LIMIT, || {
            // As if this thread, or the process, had been stopped meanwhile.
            thread::sleep(10 * RESERVED);
            connection.parked.0.store(true, SeqCst);
            true
        })
    });
    // It does not come back. What it has parked is released after the lock.
    fixture.wait_until_idle();
    let deadline = Instant::now() + SOON;
    while connection.parked.0.load(SeqCst) {
        assert!(Instant::now() < deadline, "parked without the lock");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_connection_keeps_its_locks_only_as_long_as_nobody_else_has_the_lock() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.to(c"/a.db"), fixture.to(c"/b.db"));
    let entered = fixture.lock.enter(&first.asker, true, |_, _| true);
    assert!(matches!(entered, Entry::Inside));
    assert!(second.ask(true), "of the same thread");
    let keeps = AtomicBool::new(true);
    let left = first
        .lock
        .leave(first.asker.id, |may| keeps.store(may, SeqCst));
    left.unwrap();
    assert!(!keeps.into_inner(), "the second one may go on for long");
    second.leave();
    fixture.wait_until_idle();
}

#[test]
fn a_thread_has_the_lock_for_itself_only_if_no_other_thread_has_it() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.to(c"/a.db"), fixture.to(c"/b.db"));
    assert!(first.ask(true));
    let of_first = fixture.connection(Claim::Thread);
    assert!(of_first.ask(true), "no other thread is there");
    of_first.leave();
    thread::scope(|scope| {
        let (asked, done) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let second = second.clone();
        scope.spawn(move || {
            asked.0.send(second.ask(true)).unwrap();
            let () = done.1.recv().unwrap();
            second.leave();
        });
        assert!(asked.1.recv().unwrap(), "of another database");
        assert!(!of_first.ask(true), "the other thread is there");
        of_first.forget();
        done.0.send(()).unwrap();
    });
    assert!(of_first.enter_within(SOON));
    first.leave();
    of_first.leave();
    fixture.wait_until_idle();
}

#[test]
fn who_waits_for_locks_of_sqlite_next_to_another_hold_does_not_burn_the_processor() {
    let fixture = Fixture::new();
    let (first, second) = (fixture.to(c"/a.db"), fixture.to(c"/a.db"));
    assert!(first.ask(true));
    assert!(second.ask(true), "of the same thread");
    fixture.lock.set_aside(&second.asker, true).unwrap();
    let looks = AtomicUsize::new(0);
    let pause = 4 * RESERVED_MAX;
    fixture.lock.sleep(&second.asker, pause, || {
        looks.fetch_add(1, SeqCst);
        false
    });
    let most = pause.as_micros() / LOOK.as_micros() + 1;
    assert!(looks.into_inner() as u128 <= most);
    first.leave();
    second.leave();
    fixture.wait_until_idle();
}

#[test]
fn a_chain_of_long_transactions_breaks() {
    let begun = Instant::now();
    let fixture = Fixture::new();
    let guard = fixture.locker().acquire(SOON).unwrap();
    guard.unbind_from_thread();
    let hold = Hold {
        guard,
        begun,
        owner: ConnectionId::new(),
        is_leased: false,
        users: Vec::new(),
    };
    let millis = Duration::from_millis;
    for length in [1, 5, 50, 150, 400, 800, 3000].map(millis) {
        // Each of two threads asks again as soon as it has left, and the other one is in its midst.
        let (mut now, mut inside_until) = (begun, begun + length);
        let mut turns = 0;
        while hold.joins_at(now + length / 2) < inside_until {
            now = hold.joins_at(now + length / 2);
            inside_until = now + length;
            turns += 1;
            assert!(turns < 20, "{length:?}");
        }
        // One that has the lock and waits for another thread does not wait for long.
        let wait = hold.joins_at(begun + length) - (begun + length);
        assert!(wait <= JOINING_MAX.max(length / 4), "{length:?}: {wait:?}");
    }
}

#[test]
fn nothing_is_left_when_the_lock_file_cannot_be_used() {
    let fixture = Fixture::new();
    let connection = fixture.to(c"/a.db");
    std::fs::create_dir(fixture.directory.path().join("db.lock")).unwrap();
    let entered = fixture.lock.enter(&connection.asker, true, |_, _| false);
    assert!(matches!(entered, Entry::Failed(_)), "{entered:?}");
    fixture.wait_until_idle();
    std::fs::remove_dir(fixture.directory.path().join("db.lock")).unwrap();
    assert!(connection.enter_within(SOON));
    connection.leave();
    fixture.wait_until_idle();
}
