//! What happens to programs that queue while others are killed or stopped, fork, or files are
//! deleted under them: the others go on soon, and nothing that was acknowledged is lost.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use penholder_testkit::wait;

use crate::Fixture;
use crate::host::{Host, Kind, is_busy};

/// How soon the others go on, on a loaded machine.
const SOON: Duration = Duration::from_secs(3);

fn insert(id: usize) -> String {
    format!("INSERT INTO log VALUES ({id}, 1, NULL)")
}

/// A program that is in a transaction, and others that wait in this order; each of them writes its
/// number, from 1 on.
struct Queue {
    fixture: Fixture,
    holder: Host,
    waiting: Vec<Host>,
}

impl Queue {
    fn new(journal: &str, holder: Kind, waiting: &[Kind]) -> Self {
        let fixture = Fixture::new(journal);
        let mut holder = Host::open(holder, &fixture.a());
        // Those who wait are ready, so that they come in this order.
        let is_there =
            |kind: &&Kind| kind.is_there() && (**kind != Kind::Database || journal == "wal");
        let kinds = waiting.iter().filter(is_there);
        let mut waiting: Vec<_> = kinds.map(|kind| Host::open(*kind, &fixture.a())).collect();
        for host in &mut waiting {
            if host.kind != Kind::Database {
                host.run("t.c", "SELECT 1 WHERE 0");
            }
        }
        holder.run("t.c", &format!("BEGIN IMMEDIATE; {}", insert(1000)));
        for (number, host) in waiting.iter_mut().enumerate() {
            host.send("t.c", &insert(number + 1));
            thread::sleep(Duration::from_millis(40));
        }
        Self {
            fixture,
            holder,
            waiting,
        }
    }

    /// Asserts that all but one of those who wait get their turn soon.
    #[track_caller]
    fn expect_answers_but(&self, absent: Option<usize>) {
        let deadline = Instant::now() + SOON;
        for (number, host) in self.waiting.iter().enumerate() {
            if Some(number) == absent {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = host.answer_within("t.c", left);
            let is_written = matches!(answer, Some(Ok(_)));
            assert!(is_written, "{number}, {:?}: {answer:?}", host.kind);
        }
    }

    /// Asserts that what these programs wrote is there, each once, and nothing else is.
    #[track_caller]
    fn check(self, expected: impl IntoIterator<Item = usize>) {
        let Self {
            fixture,
            holder,
            waiting,
        } = self;
        drop((holder, waiting));
        let found = fixture.check("a.db");
        let expected = expected
            .into_iter()
            .map(|id| (i64::try_from(id).unwrap(), 1));
        assert_eq!(found, expected.collect());
    }
}

const WAITING: [Kind; 5] = [
    Kind::Bundled,
    Kind::Python,
    Kind::Shell,
    Kind::BundledPlain,
    Kind::Database,
];

/// Plays an event with each kind of holder, and each kind of waiter at the first place.
fn with_each(play: impl Fn(Queue)) {
    with_each_in(&["wal", "delete"], play);
}

fn with_each_in(journals: &[&str], play: impl Fn(Queue)) {
    for (journal, holder, shift) in [
        ("wal", Kind::Bundled, 0),
        ("wal", Kind::Python, 1),
        ("wal", Kind::Bundled, 4),
        ("delete", Kind::Bundled, 2),
        ("delete", Kind::Python, 0),
    ] {
        let mut waiting = WAITING;
        waiting.rotate_left(shift);
        if holder.is_there() && journals.contains(&journal) {
            play(Queue::new(journal, holder, &waiting));
        }
    }
}

#[test]
fn a_holder_is_killed() {
    with_each(|mut queue| {
        queue.holder.peer.kill();
        queue.expect_answers_but(None);
        let count = queue.waiting.len();
        queue.check(1..=count);
    });
}

#[test]
fn a_holder_is_stopped_and_goes_on() {
    with_each(|mut queue| {
        queue.holder.peer.stop();
        thread::sleep(Duration::from_millis(200));
        let early = queue
            .waiting
            .iter()
            .filter_map(|host| host.next_answer(Duration::ZERO));
        assert_eq!(early.count(), 0, "never taken from it");
        queue.holder.peer.signal("CONT");
        queue.holder.run("t.c", "COMMIT");
        queue.expect_answers_but(None);
        let count = queue.waiting.len();
        queue.check((1..=count).chain([1000]));
    });
}

#[test]
fn one_that_waits_is_killed() {
    for victim in [0, 1] {
        with_each(|mut queue| {
            queue.waiting[victim].peer.kill();
            queue.holder.run("t.c", "COMMIT");
            queue.expect_answers_but(Some(victim));
            let count = queue.waiting.len();
            queue.check((1..=count).chain([1000]).filter(|id| *id != victim + 1));
        });
    }
}

#[test]
fn one_that_waits_is_stopped_and_goes_on() {
    for victim in [0, 1] {
        // In other modes a program that is stopped while it looks at the database keeps others from
        // committing, as with SQLite alone.
        with_each_in(&["wal"], |mut queue| {
            queue.waiting[victim].peer.stop();
            queue.holder.run("t.c", "COMMIT");
            queue.expect_answers_but(Some(victim));
            queue.waiting[victim].peer.signal("CONT");
            let answer = queue.waiting[victim].answer_within("t.c", SOON);
            assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
            let count = queue.waiting.len();
            queue.check((1..=count).chain([1000]));
        });
    }
}

#[test]
fn programs_are_stopped_at_any_moment() {
    for journal in ["wal", "delete"] {
        let fixture = Fixture::new(journal);
        let kinds = [Kind::Bundled, Kind::Python, Kind::Bundled, Kind::Python];
        let kinds = kinds.into_iter().filter(|kind| kind.is_there());
        let mut hosts: Vec<_> = kinds.map(|kind| Host::open(kind, &fixture.a())).collect();
        const ROUNDS: usize = 400;
        for (number, host) in hosts.iter_mut().enumerate() {
            (0..ROUNDS).for_each(|nth| host.send("t.c", &insert(number * 1000 + nth)));
        }
        for round in 0..12 {
            let victim = &hosts[round % hosts.len()];
            thread::sleep(Duration::from_millis(3));
            victim.peer.stop();
            // Long enough for reservations to end.
            thread::sleep(Duration::from_millis(15));
            victim.peer.signal("CONT");
        }
        for host in &hosts {
            (0..ROUNDS).for_each(|_| assert_eq!(host.answer("t.c"), Ok(String::new())));
        }
        let found = fixture.check("a.db");
        assert_eq!(found.len(), hosts.len() * ROUNDS);
        assert!(found.values().all(|rows| *rows == 1));
        // Nothing is left that keeps anybody out.
        drop(hosts);
        let mut last = Host::open(Kind::BundledPlain, &fixture.a());
        let (_, waited) = wait::timed(|| last.run("t.c", &insert(9999)));
        assert!(waited < SOON, "{waited:?}");
    }
}

#[test]
fn a_program_forks_while_it_has_the_lock_and_while_it_waits() {
    if !Kind::Python.is_there() {
        return;
    }
    for journal in ["wal", "delete"] {
        let fixture = Fixture::new(journal);
        let mut host = Host::open(Kind::Python, &fixture.a());
        let mut other = Host::open(Kind::Bundled, &fixture.a());
        let (a, b) = (fixture.a(), fixture.b());
        let fork_to =
            |path: &Path, id| format!("!fork file:{} {}", path.to_str().unwrap(), insert(id));
        let fork = |id| fork_to(&a, id);
        // The child has a connection of its own, and waits for its parent. It inherits what SQLite
        // knows of locks on the parent's database, so it uses that one only when nobody writes.
        host.run("t.c", &format!("BEGIN IMMEDIATE; {}", insert(1)));
        host.run("t.c", &fork_to(&b, 2));
        thread::sleep(Duration::from_millis(200));
        assert_eq!(
            host.answer_within("child", Duration::ZERO),
            None,
            "its parent writes"
        );
        host.run("t.c", "COMMIT");
        assert_eq!(
            host.answer_within("child", wait::LIMIT),
            Some(Ok(String::new()))
        );
        // The parent waits in another thread. The child does not use SQLite, whose mutexes may be
        // locked for ever then.
        let lock_in_child = format!("!fork_lock 20000 {}", b.to_str().unwrap());
        host.run_open("waits.c", 20_000, &a);
        other.run("t.c", "BEGIN IMMEDIATE");
        host.send("waits.c", &insert(3));
        thread::sleep(Duration::from_millis(100));
        host.run("t.c", &lock_in_child);
        thread::sleep(Duration::from_millis(100));
        other.run("t.c", &format!("{}; COMMIT", insert(5)));
        assert_eq!(
            host.answer_within("waits.c", wait::LIMIT),
            Some(Ok(String::new()))
        );
        assert_eq!(
            host.answer_within("child", wait::LIMIT),
            Some(Ok("0".to_owned()))
        );
        // Right after a write, when locks are kept for the next one.
        host.run("t.c", &insert(6));
        host.run("t.c", &insert(7));
        host.run("t.c", &fork(8));
        assert_eq!(
            host.answer_within("child", wait::LIMIT),
            Some(Ok(String::new()))
        );
        host.run("t.c", &insert(9));
        other.run("t.c", &insert(10));
        // Among threads that write.
        (0..100).for_each(|_| host.send("waits.c", &insert(11)));
        host.run("t.c", &lock_in_child);
        assert_eq!(
            host.answer_within("child", wait::LIMIT),
            Some(Ok("0".to_owned()))
        );
        (0..100).for_each(|_| assert_eq!(host.answer("waits.c"), Ok(String::new())));
        drop((host, other));
        let found = fixture.check("a.db");
        assert_eq!(found.len(), 9);
        assert_eq!(fixture.check("b.db").into_keys().collect::<Vec<_>>(), [2]);
    }
}

#[test]
fn lock_and_queue_file_are_deleted_and_replaced_while_programs_write() {
    for journal in ["wal", "delete"] {
        let fixture = Fixture::new(journal);
        let kinds = [Kind::Bundled, Kind::Python, Kind::Shell, Kind::BundledPlain];
        let kinds = kinds.into_iter().filter(|kind| kind.is_there());
        let mut hosts: Vec<_> = kinds.map(|kind| Host::open(kind, &fixture.a())).collect();
        const ROUNDS: usize = 300;
        for (number, host) in hosts.iter_mut().enumerate() {
            let rounds = if host.kind.is_plain() { 20 } else { ROUNDS };
            (0..rounds).for_each(|nth| host.send("t.c", &insert(number * 1000 + nth)));
        }
        for round in 0..12 {
            thread::sleep(Duration::from_millis(10));
            let name = ["db.lock", "db.lockq"][round % 2];
            let path = fixture.path(name);
            match round / 2 % 3 {
                0 => drop(fs::remove_file(&path)),
                1 => {
                    fs::write(fixture.path("new"), "nonsense\n".repeat(round)).unwrap();
                    fs::rename(fixture.path("new"), &path).unwrap();
                }
                _ => {
                    let copy = fs::copy(&path, fixture.path("new"));
                    if copy.is_ok() {
                        fs::rename(fixture.path("new"), &path).unwrap();
                    }
                }
            }
        }
        for host in &hosts {
            let rounds = if host.kind.is_plain() { 20 } else { ROUNDS };
            for _ in 0..rounds {
                let answer = host.answer("t.c");
                assert_eq!(answer, Ok(String::new()), "{:?}", host.kind);
            }
        }
        let found = fixture.check("a.db");
        assert!(found.values().all(|rows| *rows == 1));
        assert_eq!(
            found.len(),
            hosts
                .iter()
                .map(|host| if host.kind.is_plain() { 20 } else { ROUNDS })
                .sum::<usize>()
        );
    }
}

#[test]
fn a_database_is_deleted_while_a_program_has_it_open() {
    for kind in [Kind::Bundled, Kind::Python] {
        if !kind.is_there() {
            continue;
        }
        let fixture = Fixture::new("wal");
        let mut host = Host::open(kind, &fixture.a());
        host.run_open("t.b", 20_000, &fixture.b());
        host.run("t.c", &insert(1));
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            let _ = fs::remove_file(fixture.path(name));
        }
        fixture.add("a.db", "wal");
        let mut other = Host::open(Kind::Bundled, &fixture.a());
        other.run("t.c", &insert(2));
        // SQLite writes to the deleted file, or refuses: either way nobody hangs.
        let _ = host.ask("t.c", &insert(3));
        other.run("t.c", &insert(4));
        host.run("t.b", &insert(5));
        host.run("t.c", "!close");
        drop((host, other));
        let found = fixture.check("a.db");
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [2, 4]);
        assert_eq!(fixture.check("b.db").len(), 1);
    }
}

#[test]
fn a_program_is_killed_while_it_waits_with_sqlites_lock_taken_by_a_plain_one() {
    for journal in ["wal", "delete"] {
        let fixture = Fixture::new(journal);
        let mut plain = Host::open(Kind::BundledPlain, &fixture.a());
        plain.run("t.c", &format!("BEGIN IMMEDIATE; {}", insert(1)));
        let mut first = Host::open(Kind::Bundled, &fixture.a());
        let mut second = Host::start(Kind::Bundled, &fixture.a());
        second.run_open("t.c", 300, &fixture.a());
        let mut elsewhere = Host::open(Kind::Bundled, &fixture.b());
        first.send("t.c", &insert(2));
        thread::sleep(Duration::from_millis(100));
        // Those who write to another database get their turn between the looks.
        let (_, waited) = wait::timed(|| elsewhere.run("t.c", &insert(9)));
        assert!(waited < SOON, "{waited:?}");
        first.peer.kill();
        let error = second.ask("t.c", &insert(3)).unwrap_err();
        assert!(is_busy(&error), "{error}");
        plain.run("t.c", "COMMIT");
        second.run("t.c", &insert(4));
        drop((plain, second));
        let found = fixture.check("a.db");
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [1, 4]);
    }
}
