//! Nothing that plain SQLite can do waits for ever here, and nobody is left out.

use std::time::{Duration, Instant};

use penholder_core::Locker;
use penholder_testkit::wait;

use crate::Fixture;
use crate::host::{Host, Kind, TIMEOUT, is_busy};

/// How soon something happens that must not wait, on a loaded machine.
const SOON: Duration = Duration::from_secs(3);
const HOSTS: [Kind; 2] = [Kind::Bundled, Kind::Python];
const WRITE: &str = "INSERT INTO log VALUES (1, 1, NULL)";

fn hosts() -> impl Iterator<Item = Kind> {
    HOSTS.into_iter().filter(|kind| kind.is_there())
}

#[test]
fn nested_writes_to_two_databases_of_one_directory_in_both_orders() {
    let fixture = Fixture::new("wal");
    let mut hosts: Vec<_> = hosts()
        .map(|kind| Host::start(kind, &fixture.a()))
        .collect();
    hosts.extend([Host::start(Kind::Bundled, &fixture.a())]);
    for (number, host) in hosts.iter_mut().enumerate() {
        let order = [fixture.a(), fixture.b()];
        host.run_open("t.first", TIMEOUT, &order[number % 2]);
        host.run_open("t.second", TIMEOUT, &order[(number + 1) % 2]);
    }
    let begun = Instant::now();
    const ROUNDS: usize = 20;
    for host in &mut hosts {
        for _ in 0..ROUNDS {
            for (name, sql) in [
                ("t.first", "BEGIN IMMEDIATE"),
                ("t.first", WRITE),
                ("t.second", "BEGIN IMMEDIATE"),
                ("t.second", WRITE),
                ("t.second", "COMMIT"),
                ("t.first", "COMMIT"),
            ] {
                host.send(name, sql);
            }
        }
    }
    let mut answers = 0;
    while answers < hosts.len() * ROUNDS * 6 {
        for host in &hosts {
            while let Some(answer) = host.next_answer(Duration::from_millis(1)) {
                assert!(answer.rows.is_ok(), "{answer:?}");
                answers += 1;
            }
        }
        assert!(begun.elapsed() < wait::LIMIT, "{answers}");
    }
    for name in ["a.db", "b.db"] {
        let rows = i64::try_from(ROUNDS * hosts.len()).unwrap();
        assert_eq!(fixture.check(name)[&1], rows);
    }
}

#[test]
fn nested_writes_in_two_directories_time_out_as_with_sqlite() {
    let (one, two) = (Fixture::new("wal"), Fixture::new("wal"));
    for kind in hosts() {
        let mut first = Host::start(kind, &one.a());
        let mut second = Host::start(Kind::Bundled, &one.a());
        for host in [&mut first, &mut second] {
            host.run_open("t.one", 300, &one.a());
            host.run_open("t.two", 300, &two.a());
        }
        first.run("t.one", "BEGIN IMMEDIATE");
        second.run("t.two", "BEGIN IMMEDIATE");
        let begun = Instant::now();
        first.send("t.two", "BEGIN IMMEDIATE");
        second.send("t.one", "BEGIN IMMEDIATE");
        let answers = [first.answer("t.two"), second.answer("t.one")];
        for answer in &answers {
            assert!(
                answer.as_ref().is_err_and(|error| is_busy(error)),
                "{answers:?}"
            );
        }
        let waited = begun.elapsed();
        let bounds = Duration::from_millis(250)..SOON;
        assert!(bounds.contains(&waited), "{waited:?}");
        first.run("t.one", "COMMIT");
        first.run("t.two", "SELECT 1");
        second.run("t.two", "COMMIT");
        second.run("t.one", WRITE);
    }
}

#[test]
fn a_thread_that_has_the_lock_may_wait_for_another_one_with_another_database() {
    let fixture = Fixture::new("wal");
    for kind in hosts() {
        let mut host = Host::start(kind, &fixture.a());
        host.run_open("first.a", TIMEOUT, &fixture.a());
        host.run_open("second.b", TIMEOUT, &fixture.b());
        let mut waiting = Host::open(Kind::Bundled, &fixture.a());
        host.run("first.a", "BEGIN IMMEDIATE");
        waiting.send("t.c", WRITE);
        // Each of these is what the first thread waits for. It is told that others wait.
        let begun = Instant::now();
        for _ in 0..5 {
            host.run("second.b", WRITE);
        }
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        host.run("first.a", "COMMIT");
        let answer = waiting.answer_within("t.c", SOON);
        assert_eq!(answer, Some(Ok(String::new())));
    }
}

/// Threads with transactions that take this long, each with a database of its own.
fn relieve_one_another(kind: Kind, length: Duration, limit: Duration) {
    let fixture = Fixture::new("wal");
    fixture.add("c.db", "wal");
    let mut host = Host::start(kind, &fixture.a());
    host.run_open("first.a", TIMEOUT, &fixture.a());
    host.run_open("second.b", TIMEOUT, &fixture.b());
    let mut waiting = Host::open(Kind::Bundled, &fixture.path("c.db"));
    let begin = |host: &mut Host, name: &str| host.send(name, "BEGIN IMMEDIATE");
    begin(&mut host, "first.a");
    assert_eq!(host.answer("first.a"), Ok(String::new()));
    std::thread::sleep(length / 2);
    begin(&mut host, "second.b");
    waiting.send("t.c", WRITE);
    let begun = Instant::now();
    let mut ends = [("first.a", length / 2), ("second.b", length)].map(|(name, left)| {
        let is_inside = name == "first.a";
        (name, is_inside, begun + left)
    });
    loop {
        if let Some(answer) = waiting.answer_within("t.c", Duration::from_millis(1)) {
            assert_eq!(answer, Ok(String::new()));
            break;
        }
        assert!(begun.elapsed() < limit, "{kind:?} {length:?}: left out");
        for (name, is_inside, until) in &mut ends {
            if *is_inside && Instant::now() >= *until {
                assert_eq!(host.ask(name, "COMMIT"), Ok(String::new()));
                begin(&mut host, name);
                *is_inside = false;
            } else if !*is_inside
                && let Some(answer) = host.answer_within(name, Duration::from_millis(1))
            {
                assert_eq!(answer, Ok(String::new()));
                *is_inside = true;
                *until = Instant::now() + length;
            }
        }
    }
}

#[test]
fn threads_that_relieve_one_another_let_another_process_in() {
    for millis in [5, 60, 300, 500] {
        let length = Duration::from_millis(millis);
        relieve_one_another(Kind::Bundled, length, SOON + 8 * length);
    }
}

#[test]
fn a_long_transaction_with_many_short_ones_of_another_thread_leaves_nobody_out() {
    let fixture = Fixture::new("wal");
    let mut host = Host::start(Kind::Bundled, &fixture.a());
    host.run_open("first.a", TIMEOUT, &fixture.a());
    host.run_open("second.b", TIMEOUT, &fixture.b());
    let mut waiting = Host::open(Kind::Bundled, &fixture.a());
    host.run("first.a", "BEGIN IMMEDIATE");
    waiting.send("t.c", WRITE);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        host.run("second.b", WRITE);
    }
    host.run("first.a", "COMMIT");
    // The short ones go on.
    let begun = Instant::now();
    while waiting.answer_within("t.c", Duration::ZERO).is_none() {
        host.run("second.b", WRITE);
        assert!(begun.elapsed() < SOON);
    }
}

#[test]
fn a_lock_of_the_c_interface_is_for_the_thread_that_has_it() {
    if !Kind::Python.is_there() {
        return;
    }
    for journal in ["wal", "delete"] {
        let fixture = Fixture::new(journal);
        let mut host = Host::start(Kind::Python, &fixture.a());
        host.run_open("first.a", TIMEOUT, &fixture.a());
        host.run_open("second.b", 200, &fixture.b());
        let mut other = Host::start(Kind::Bundled, &fixture.a());
        other.run_open("t.c", 200, &fixture.a());
        let a = fixture.a();
        let lock = format!("!lock 5000 {}", a.to_str().unwrap());
        assert_eq!(host.run("first.lock", &lock), "0");
        assert_eq!(host.run("first.again", &lock), "0", "the same thread");
        host.run("first.a", WRITE);
        for (host, name) in [(&mut host, "second.b"), (&mut other, "t.c")] {
            let error = host.ask(name, WRITE).unwrap_err();
            assert!(is_busy(&error), "{error}");
        }
        // A transaction may end after the lock.
        host.run("first.a", "BEGIN IMMEDIATE");
        host.run("first.a", WRITE);
        host.run("first.lock", "!unlock");
        host.run("first.again", "!unlock");
        let error = other.ask("t.c", WRITE).unwrap_err();
        assert!(is_busy(&error), "{error}");
        host.run("first.a", "COMMIT");
        host.run("second.b", WRITE);
        other.run("t.c", WRITE);
        // Another thread's lock waits for the one of this thread, and gives up.
        assert_eq!(host.run("first.lock", &lock), "0");
        let soon = lock.replace("5000", "100");
        assert_eq!(host.run("second.lock", &soon), "2", "PENHOLDER_TIMEOUT");
        host.run("first.lock", "!unlock");
        assert_eq!(host.run("second.lock", &lock), "0");
        host.run("second.lock", "!unlock");
    }
}

#[test]
fn a_transaction_that_has_read_is_refused_only_if_what_it_read_is_old() {
    for kind in hosts() {
        let fixture = Fixture::new("wal");
        let mut host = Host::open(kind, &fixture.a());
        let mut other = Host::open(Kind::Bundled, &fixture.a());
        let mut elsewhere = Host::open(Kind::Bundled, &fixture.b());
        // Nobody has written, and the lock is free soon.
        host.run("t.c", "BEGIN; SELECT count(*) FROM log");
        elsewhere.run("t.c", "BEGIN IMMEDIATE");
        elsewhere.send("t.c", "COMMIT");
        host.run("t.c", WRITE);
        host.run("t.c", "COMMIT");
        elsewhere.answer("t.c").unwrap();
        // Someone has written.
        host.run("t.c", "BEGIN; SELECT count(*) FROM log");
        other.run("t.c", WRITE);
        let (refused, waited) = wait::timed(|| host.ask("t.c", WRITE));
        assert!(is_busy(&refused.unwrap_err()));
        assert!(waited < SOON, "{waited:?}");
        host.run("t.c", "ROLLBACK");
        host.run("t.c", WRITE);
        // Someone is about to: it does not wait for the one who waits for it.
        host.run("t.c", "BEGIN; SELECT count(*) FROM log");
        other.run("t.c", "BEGIN IMMEDIATE");
        let (refused, waited) = wait::timed(|| host.ask("t.c", WRITE));
        assert!(is_busy(&refused.unwrap_err()));
        assert!(waited < SOON, "{waited:?}");
        host.run("t.c", "ROLLBACK");
        other.run("t.c", "ROLLBACK");
    }
}

#[test]
fn many_transactions_that_read_before_they_write() {
    for journal in ["wal", "delete"] {
        let fixture = Fixture::new(journal);
        let kinds = hosts().chain(hosts());
        let mut hosts: Vec<_> = kinds.map(|kind| Host::open(kind, &fixture.a())).collect();
        const ROUNDS: usize = 30;
        for host in &mut hosts {
            for _ in 0..ROUNDS {
                host.send(
                    "t.c",
                    &format!("BEGIN; SELECT * FROM tally; {WRITE}; COMMIT"),
                );
            }
        }
        let (mut written, mut refused) = (0, 0);
        for host in &hosts {
            for _ in 0..ROUNDS {
                match host.answer("t.c") {
                    Ok(_) => written += 1,
                    Err(error) => {
                        assert!(is_busy(&error), "{error}");
                        refused += 1;
                    }
                }
            }
        }
        let found = fixture.check("a.db").get(&1).copied();
        assert_eq!(found, Some(written), "{refused} refused");
    }
}

#[test]
fn busy_handlers_of_the_application() {
    for journal in ["wal", "delete"] {
        let fixture = Fixture::new(journal);
        let mut holder = Host::open(Kind::Bundled, &fixture.a());
        let mut host = Host::start(Kind::Bundled, &fixture.a());
        for name in ["never.c", "zero.c", "own.c"] {
            host.run_open(name, 0, &fixture.a());
        }
        host.run("never.c", "!gives_up");
        host.run("own.c", "!sleeps_by_itself");
        holder.run("t.c", "BEGIN IMMEDIATE");
        for name in ["never.c", "zero.c"] {
            let (refused, waited) = wait::timed(|| host.ask(name, "BEGIN IMMEDIATE"));
            assert!(is_busy(&refused.unwrap_err()));
            assert!(waited < Duration::from_millis(500), "{name}: {waited:?}");
        }
        host.send("own.c", WRITE);
        std::thread::sleep(Duration::from_millis(50));
        holder.run("t.c", "COMMIT");
        assert_eq!(host.answer_within("own.c", SOON), Some(Ok(String::new())));
        // Those who gave up have left nothing behind that others would wait for.
        let (_, waited) = wait::timed(|| holder.run("t.c", WRITE));
        assert!(waited < SOON, "{waited:?}");
        // Among others who write all the time, the one that sleeps by itself gets its turn.
        let mut writers: Vec<_> = (0..3)
            .map(|_| Host::open(Kind::Bundled, &fixture.a()))
            .collect();
        for writer in &mut writers {
            (0..300).for_each(|_| writer.send("t.c", WRITE));
        }
        for _ in 0..10 {
            host.run("own.c", WRITE);
        }
        for writer in &writers {
            (0..300).for_each(|_| assert_eq!(writer.answer("t.c"), Ok(String::new())));
        }
        fixture.check("a.db");
    }
}

#[test]
fn a_reader_that_opens_a_database_does_not_wait_for_those_who_write_to_another() {
    for kind in hosts() {
        let fixture = Fixture::new("wal");
        let mut writer = Host::open(Kind::Bundled, &fixture.b());
        writer.run("t.c", "BEGIN IMMEDIATE");
        let mut reader = Host::open(kind, &fixture.a());
        let (_, waited) = wait::timed(|| reader.run("t.c", "SELECT count(*) FROM log"));
        assert!(waited < SOON, "{waited:?}");
        let (_, waited) = wait::timed(|| reader.run("t.c", "PRAGMA wal_checkpoint"));
        assert!(waited < SOON, "{waited:?}");
        writer.run("t.c", "COMMIT");
        reader.run("t.c", WRITE);
    }
}

#[test]
fn a_plain_program_waits_only_for_the_transactions_of_its_own_database() {
    let fixture = Fixture::new("wal");
    let mut host = Host::start(Kind::Bundled, &fixture.a());
    host.run_open("t.a", TIMEOUT, &fixture.a());
    host.run_open("t.b", TIMEOUT, &fixture.b());
    let mut plain = Host::start(Kind::BundledPlain, &fixture.a());
    plain.run_open("t.c", 2000, &fixture.a());
    // So that a lease begins.
    let writes = [WRITE; 50].join(";");
    host.run("t.a", &writes);
    host.run("t.a", &format!("{writes}; BEGIN IMMEDIATE; {WRITE}"));
    host.run("t.b", &format!("BEGIN IMMEDIATE; {WRITE}"));
    host.run("t.a", "COMMIT");
    plain.run("t.c", WRITE);
    host.run("t.b", "COMMIT");
}

#[test]
fn children_of_a_process_that_lends_them_its_lock() {
    let fixture = Fixture::new("wal");
    let locker = Locker::in_directory(fixture.directory.path()).unwrap();
    let guard = locker.acquire(SOON).unwrap();
    let kinds = hosts().chain([Kind::Bundled]);
    let mut children: Vec<_> = kinds
        .map(|kind| Host::start_with(kind, &fixture.a(), |command| guard.lend_to(command)))
        .collect();
    let mut other = Host::open(Kind::Bundled, &fixture.a());
    other.send("t.c", WRITE);
    for child in &mut children {
        child.run_open("t.c", TIMEOUT, &fixture.a());
        child.run("t.c", WRITE);
    }
    // They exclude one another.
    children[0].run("t.c", &format!("BEGIN IMMEDIATE; {WRITE}"));
    for child in &mut children[1..] {
        child.send("t.c", WRITE);
    }
    assert_eq!(
        children[1].answer_within("t.c", Duration::from_millis(100)),
        None
    );
    children[0].run("t.c", "COMMIT");
    for child in &children[1..] {
        assert_eq!(child.answer_within("t.c", SOON), Some(Ok(String::new())));
    }
    assert_eq!(
        other.answer_within("t.c", Duration::ZERO),
        None,
        "not lent to it"
    );
    guard.release().unwrap();
    assert_eq!(other.answer_within("t.c", SOON), Some(Ok(String::new())));
    // What was lent is over: they queue.
    for child in &mut children {
        child.run("t.c", WRITE);
    }
}
