//! Waiting for commits: of this process and of others, with and without penholder, and what happens if
//! watchers and writers are killed.
#![cfg(test)]

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use penholder::lock::LOCK_FILE_NAME;
use penholder::{AsyncDatabase, CommitToken, Commits, Database};
use penholder_testkit::database_fixture::{DatabaseFixture, insert, open, with_suffix};
use penholder_testkit::peer::{self, Peer};
use penholder_testkit::{database_fixture, plain_sqlite, raw_file, wait};
use tokio_stream::StreamExt;

/// Longer than a wait for a commit of a program without penholder takes.
const QUIET: Duration = Duration::from_millis(150);

#[test]
fn peer() {
    peer::run_role(&[
        ("watch", watch),
        ("write", write),
        ("write_on", write_on),
        ("outsider", outsider),
    ]);
}

/// Tells of each commit how many rows there are then.
fn watch(args: &[OsString]) {
    let db = open(Path::new(&args[0]));
    let mut commits = db.commits().unwrap();
    peer::send("watching");
    loop {
        commits.next().unwrap().unwrap();
        peer::send(&database_fixture::count_entries(&db).to_string());
    }
}

/// Opens the database, writes a row on command, and closes it at the end.
fn write(args: &[OsString]) {
    peer::send("ready");
    peer::expect("go");
    let db = open(Path::new(&args[0]));
    insert(&db, "peer").unwrap();
    peer::send("done");
    let mut end = String::new();
    std::io::stdin().read_line(&mut end).unwrap();
    drop(db);
}

fn write_on(args: &[OsString]) {
    let db = open(Path::new(&args[0]));
    peer::send("ready");
    for number in 0.. {
        insert(&db, &number.to_string()).unwrap();
    }
}

/// Writes a row with plain SQLite at each command.
fn outsider(args: &[OsString]) {
    let connection = plain_sqlite::open(Path::new(&args[0]));
    peer::send("ready");
    loop {
        peer::expect("go");
        let sql = "INSERT INTO entry VALUES ('outsider')";
        connection.execute(sql, []).unwrap();
        peer::send("done");
    }
}

fn start(role: &str, fixture: &DatabaseFixture, greeting: &str) -> Peer {
    let peer = Peer::start(role, [fixture.path()]);
    peer.expect(greeting);
    peer
}

/// Waits until the rows are there, which may take several commits.
#[track_caller]
fn expect_rows(watcher: &Peer, rows: i64) {
    while watcher.read_line().parse::<i64>().unwrap() < rows {}
}

#[track_caller]
fn next(commits: &mut Commits) -> CommitToken {
    commits.wait(wait::LIMIT).unwrap().expect("a commit")
}

#[track_caller]
fn assert_quiet(commits: &mut Commits) {
    assert_eq!(commits.wait(QUIET).unwrap(), None);
}

/// Lets what the tests do before it be seen.
fn settle(commits: &mut Commits) {
    while commits.wait(QUIET).unwrap().is_some() {}
}

#[test]
fn each_way_to_commit_is_counted_once() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let backup = fixture.join("backup.db");
    db.backup_to(&backup).unwrap();
    let mut commits = db.commits().unwrap();
    settle(&mut commits);
    type Write<'a> = (&'a str, Box<dyn Fn(&Database) + 'a>);
    let ways: [Write<'_>; 8] = [
        ("execute", Box::new(|db| insert(db, "a").unwrap())),
        (
            "batch",
            Box::new(|db| {
                let sql = ["INSERT INTO entry VALUES (1)", "DELETE FROM entry"];
                db.batch(sql).unwrap();
            }),
        ),
        (
            "write",
            Box::new(|db| {
                db.write(|tx| Ok(tx.execute("INSERT INTO entry VALUES (2)", [])?))
                    .unwrap();
            }),
        ),
        (
            "with_write_lock",
            Box::new(|db| {
                db.with_write_lock(|c| Ok(c.execute("INSERT INTO entry VALUES (3)", [])?))
                    .unwrap();
            }),
        ),
        (
            "another kind of statement",
            Box::new(|db| {
                db.execute("CREATE TABLE other(x)", ()).unwrap();
            }),
        ),
        (
            "migrate",
            Box::new(|db| {
                db.migrate(&["CREATE TABLE migrated(x)"]).unwrap();
            }),
        ),
        ("vacuum", Box::new(|db| db.vacuum().unwrap())),
        ("restore", Box::new(|db| db.restore_from(&backup).unwrap())),
    ];
    for (name, way) in ways {
        // No process looks at the files meanwhile, which may count a commit too.
        let before = count_of(db.commits().unwrap().token());
        way(&db);
        let after = count_of(db.commits().unwrap().token());
        match name {
            // They have several.
            "vacuum" | "restore" => assert!(after > before, "{name}"),
            _ => assert_eq!(after, before + 1, "{name}"),
        }
        next(&mut commits);
        settle(&mut commits);
    }
}

fn count_of(token: CommitToken) -> u64 {
    let text = token.to_string();
    text.split_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn writes_that_share_a_commit_are_counted_with_it() {
    const THREADS: usize = 8;
    const WRITES: usize = 100;
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut commits = db.commits().unwrap();
    settle(&mut commits);
    let before = count_of(commits.token());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..WRITES).for_each(|_| insert(&db, "a").unwrap()));
        }
    });
    settle(&mut commits);
    let counted = count_of(commits.token()) - before;
    assert!(
        (1..=(THREADS * WRITES) as u64).contains(&counted),
        "{counted}"
    );
    let rows = database_fixture::count_entries(&db);
    assert_eq!(rows, i64::try_from(THREADS * WRITES).unwrap());
}

#[test]
fn what_writes_nothing_wakes_nobody() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut commits = db.commits().unwrap();
    settle(&mut commits);
    db.execute("UPDATE entry SET key = 1", ()).unwrap();
    db.execute("SELECT 1", ()).unwrap();
    db.write(|tx| Ok(tx.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?))
        .unwrap();
    let failed = db.write(|tx| {
        tx.execute("INSERT INTO entry VALUES (1)", [])?;
        Err::<(), _>(penholder::rusqlite::Error::InvalidQuery.into())
    });
    failed.unwrap_err();
    assert_eq!(
        db.query_scalar::<i64>("SELECT count(*) FROM entry", ())
            .unwrap(),
        0
    );
    assert_quiet(&mut commits);
}

#[test]
fn a_checkpoint_that_copies_the_wal_wakes_nobody() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut commits = db.commits().unwrap();
    insert(&db, "a").unwrap();
    settle(&mut commits);
    // In another process: this one has the database open.
    if let Some(mut shell) = plain_sqlite::shell(&fixture.path()) {
        shell.send("PRAGMA wal_checkpoint(PASSIVE);");
        assert!(shell.read_line().starts_with("0|"));
        assert_quiet(&mut commits);
        shell.send("SELECT count(*) FROM entry;");
        shell.expect("1");
        shell.close();
        assert_quiet(&mut commits);
    }
}

#[test]
fn a_watcher_in_another_process_sees_each_row() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let watcher = start("watch", &fixture, "watching");
    for rows in 1..=20 {
        insert(&db, "a").unwrap();
        expect_rows(&watcher, rows);
    }
    // A burst: the last one is not missed.
    for round in 1..=5 {
        for _ in 0..200 {
            insert(&db, "a").unwrap();
        }
        expect_rows(&watcher, 20 + 200 * round);
    }
}

#[test]
fn a_program_without_penholder_wakes_it() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut outsider = start("outsider", &fixture, "ready");
    let mut commits = db.commits().unwrap();
    settle(&mut commits);
    let mut longest = Duration::ZERO;
    for rows in 1..=20 {
        outsider.send("go");
        outsider.expect("done");
        let (_, took) = wait::timed(|| next(&mut commits));
        longest = longest.max(took);
        assert_eq!(database_fixture::count_entries(&db), rows);
        if rows % 5 == 0 {
            assert_quiet(&mut commits);
        }
    }
    println!("the longest took {longest:?}");
    assert!(longest < Duration::from_secs(2));
}

/// Between a commit of penholder and the look of a watcher, and the other way round.
#[test]
fn mixed_commits_are_all_seen() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut outsider = start("outsider", &fixture, "ready");
    let mut commits = db.commits().unwrap();
    for rows in (2..=200).step_by(2) {
        insert(&db, "a").unwrap();
        if rows % 3 == 0 {
            next(&mut commits);
        }
        outsider.send("go");
        outsider.expect("done");
        let reader = db.commits_since(commits.token()).unwrap();
        let begun = Instant::now();
        let mut reader = reader;
        next(&mut reader);
        next(&mut commits);
        assert_eq!(database_fixture::count_entries(&db), rows);
        assert!(begun.elapsed() < wait::LIMIT / 2);
    }
}

#[test]
fn a_process_that_closes_the_database_wakes_nobody() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut commits = db.commits().unwrap();
    settle(&mut commits);
    for _ in 0..5 {
        let mut writer = start("write", &fixture, "ready");
        writer.send("go");
        writer.expect("done");
        next(&mut commits);
        settle(&mut commits);
        assert!(writer.close().success());
        assert_quiet(&mut commits);
    }
}

#[test]
fn a_token_from_before_is_enough() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let token = db.commits().unwrap().token();
    let mut outsider = start("outsider", &fixture, "ready");
    outsider.send("go");
    outsider.expect("done");
    let mut commits = db.commits_since(token).unwrap();
    let token = next(&mut commits);
    assert_eq!(commits.token(), token);
    insert(&db, "a").unwrap();
    let mut commits = db.commits_since(token).unwrap();
    next(&mut commits);
    settle(&mut commits);
    let unknown: CommitToken = "0123456789abcdef:7".parse().unwrap();
    next(&mut db.commits_since(unknown).unwrap());
}

#[test]
fn the_queue_file_may_go_while_it_waits() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut writer = start("write", &fixture, "ready");
    let mut commits = db.commits().unwrap();
    settle(&mut commits);
    let queue_file = with_suffix(&fixture.join(LOCK_FILE_NAME), "q");
    raw_file::remove(&queue_file);
    next(&mut commits);
    assert_quiet(&mut commits);
    writer.send("go");
    writer.expect("done");
    next(&mut commits);
    settle(&mut commits);
    insert(&db, "a").unwrap();
    next(&mut commits);
    settle(&mut commits);
    // Garbage in its place, of another file.
    raw_file::remove(&queue_file);
    fs::write(&queue_file, "garbage").unwrap();
    next(&mut commits);
    insert(&db, "b").unwrap();
    next(&mut commits);
    assert_eq!(database_fixture::count_entries(&db), 3);
}

#[test]
fn killed_writers_leave_nothing_unseen() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut commits = db.commits().unwrap();
    for _ in 0..10 {
        let mut writer = start("write_on", &fixture, "ready");
        next(&mut commits);
        thread::sleep(Duration::from_millis(20));
        writer.kill();
        settle(&mut commits);
        // What it left is committed or not; the next one sees it.
        let before = database_fixture::count_entries(&db);
        insert(&db, "a").unwrap();
        next(&mut commits);
        assert_eq!(database_fixture::count_entries(&db), before + 1);
        settle(&mut commits);
    }
}

#[test]
fn killed_watchers_cost_the_writers_nothing_for_long() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    // Wine's server has few files to give away, and each watcher looks at two of them 30 times a
    // second.
    let count = if cfg!(windows) { 8 } else { 30 };
    let mut watchers: Vec<_> = (0..count)
        .map(|_| start("watch", &fixture, "watching"))
        .collect();
    insert(&db, "a").unwrap();
    for watcher in &watchers {
        expect_rows(watcher, 1);
    }
    assert_ne!(watchers_word(&fixture), 0);
    watchers.iter_mut().for_each(Peer::kill);
    wait::until("the next writes forget them", || {
        insert(&db, "b").unwrap();
        watchers_word(&fixture) == 0
    });
}

// ---- tasks -----------------------------------------------------------------------

/// One thread runs all tasks: it would hang if a wait blocked it.
fn on_one_thread(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(work);
}

#[test]
fn a_task_waits_while_others_run() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let path = fixture.path();
    on_one_thread(async move {
        let db = AsyncDatabase::from(open(&path));
        let mut commits = db.commits().await.unwrap();
        let before = commits.token();
        assert_eq!(commits.wait(QUIET).await.unwrap(), None);
        let writer = db.clone();
        let wrote = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let sql = "INSERT INTO entry VALUES (1)";
            writer.execute(sql, ()).await.unwrap();
        });
        let token = commits.next().await.unwrap();
        wrote.await.unwrap();
        assert_ne!(token, before);
        assert_eq!(commits.token(), token);
        let mut later = db.commits_since(before).await.unwrap();
        later.next().await.unwrap();
    });
}

#[test]
fn commits_are_a_stream() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let path = fixture.path();
    on_one_thread(async move {
        let tasks = AsyncDatabase::from(open(&path));
        let mut commits = tasks.commits().await.unwrap();
        let before = commits.token();
        // Polled and left, it misses nothing; nor does a call that waits meanwhile.
        let none = tokio::time::timeout(Duration::from_millis(3), StreamExt::next(&mut commits));
        none.await.unwrap_err();
        insert(&db, "a").unwrap();
        let first = StreamExt::next(&mut commits).await.unwrap().unwrap();
        assert_ne!(first, before);
        assert_eq!(commits.token(), first);
        let none = tokio::time::timeout(Duration::from_millis(3), StreamExt::next(&mut commits));
        none.await.unwrap_err();
        insert(&db, "b").unwrap();
        let second = commits.next().await.unwrap();
        // Several commits may be told as one.
        let is_done = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&is_done);
        let writer = thread::spawn(move || {
            while !is_over.load(Relaxed) {
                insert(&db, "c").unwrap();
                thread::sleep(Duration::from_millis(20));
            }
        });
        let three = commits.take(3).map(Result::unwrap).collect();
        let mut tokens: Vec<_> = tokio::time::timeout(wait::LIMIT, three).await.unwrap();
        is_done.store(true, Relaxed);
        tokens.extend([before, first, second]);
        let different: HashSet<_> = tokens.iter().map(CommitToken::to_string).collect();
        assert_eq!(different.len(), 6, "{tokens:?}");
        writer.join().unwrap();
    });
}

#[test]
fn a_wait_that_is_dropped_misses_nothing() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let path = fixture.path();
    let ((), took) = wait::timed(|| {
        on_one_thread(async move {
            let tasks = AsyncDatabase::from(open(&path));
            let mut commits = tasks.commits().await.unwrap();
            for _ in 0..10 {
                let pause = Duration::from_millis(3);
                let waited = tokio::time::timeout(pause, commits.next()).await;
                waited.unwrap_err();
                let waiting = tokio::time::timeout(wait::LIMIT, commits.next());
                let writer = db.clone();
                thread::spawn(move || insert(&writer, "a").unwrap());
                waiting.await.unwrap().unwrap();
                while commits.wait(QUIET).await.unwrap().is_some() {}
            }
            // The runtime ends with a wait that never ends.
            let forever = tokio::spawn(async move { commits.next().await });
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(forever);
        });
    });
    assert!(took < wait::LIMIT / 2, "{took:?}");
}

/// Returns the word `Watchers` of the first database that has one.
fn watchers_word(fixture: &DatabaseFixture) -> u64 {
    let queue_file = with_suffix(&fixture.join(LOCK_FILE_NAME), "q");
    let bytes = fs::read(queue_file).unwrap();
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    (0..32)
        .map(|entry| 32_768 + entry * 512)
        .find(|&at| word(at + 16) != 0)
        .map_or(0, |at| word(at + 40))
}
