//! What SQLite does with a database is the same with the library.

use std::fs;
use std::time::Duration;

use penholder_testkit::{extension_fixture, wait};

use crate::Fixture;
use crate::host::{Host, Kind, TIMEOUT, is_busy};

const WRITE: &str = "INSERT INTO log VALUES (1, 1, zeroblob(2000))";
const COUNT: &str = "SELECT count(*) FROM log";

/// Each program that loads the library and can be asked, with its fixtures in both modes.
fn with_each(play: impl Fn(Kind, &'static str, &Fixture)) {
    for kind in [Kind::Bundled, Kind::Python] {
        for journal in ["wal", "delete"] {
            if kind.is_there() {
                play(kind, journal, &Fixture::new(journal));
            }
        }
    }
}

fn uri(fixture: &Fixture, parameters: &str) -> String {
    let a = fixture.a();
    format!("!open {TIMEOUT} file:{}?{parameters}", a.to_str().unwrap())
}

/// Returns statements that begin a transaction of which so much is written that it reaches the files
/// before the commit.
fn half_a_transaction() -> String {
    let large = "INSERT INTO log SELECT 2, 2, zeroblob(50000) FROM (SELECT 1 UNION SELECT 2)";
    let spilled = [large; 5].join(";");
    format!("PRAGMA cache_size = 5; BEGIN IMMEDIATE; {spilled}")
}

#[test]
fn backup_vacuum_and_checkpoints() {
    with_each(|kind, journal, fixture| {
        let mut host = Host::open(kind, &fixture.a());
        let mut other = Host::open(Kind::Bundled, &fixture.a());
        (0..50).for_each(|_| host.send("t.c", WRITE));
        (0..50).for_each(|_| drop(host.answer("t.c").unwrap()));
        for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
            let row = host.run("t.c", &format!("PRAGMA wal_checkpoint({mode})"));
            let expected = if journal == "wal" { "0|" } else { "0|-1|-1" };
            assert!(row.starts_with(expected), "{mode}: {row}");
            other.run("t.c", WRITE);
        }
        host.run(
            "t.c",
            "DELETE FROM log WHERE rowid % 2 = 0; UPDATE tally SET n = (SELECT count(*) FROM log)",
        );
        host.run("t.c", "VACUUM");
        other.run("t.c", "VACUUM");
        let copy = fixture.path("copy.db");
        let copied = copy.to_str().unwrap();
        host.run("t.c", &format!("VACUUM INTO '{copied}'"));
        assert_eq!(fixture.check("copy.db")[&1], 27);
        let backup = fixture.path("backup.db");
        other.run("t.c", &format!("!backup {}", backup.to_str().unwrap()));
        assert_eq!(fixture.check("backup.db")[&1], 27);
        host.run("t.c", WRITE);
        drop((host, other));
        assert_eq!(fixture.check("a.db")[&1], 28);
    });
}

#[test]
fn exclusive_mode_keeps_others_out_until_it_ends() {
    with_each(|kind, _, fixture| {
        let mut host = Host::open(kind, &fixture.a());
        let mut other = Host::start(Kind::Bundled, &fixture.a());
        // Otherwise SQLite would keep the WAL index to itself, and the mode for ever.
        host.run("t.c", COUNT);
        assert_eq!(
            host.run("t.c", "PRAGMA locking_mode = EXCLUSIVE"),
            "exclusive"
        );
        host.run("t.c", WRITE);
        host.run("t.c", WRITE);
        other.run_open("t.c", 200, &fixture.a());
        let error = other.ask("t.c", WRITE).unwrap_err();
        assert!(is_busy(&error), "{error}");
        host.run("t.c", "PRAGMA locking_mode = NORMAL");
        host.run("t.c", COUNT);
        other.run("t.c", WRITE);
        host.run("t.c", WRITE);
        // And closed in this mode.
        other.run("t.c", "!close");
        host.run("t.c", "PRAGMA locking_mode = EXCLUSIVE");
        host.run("t.c", WRITE);
        host.run("t.c", "!close");
        other.run_open("t.c", 200, &fixture.a());
        other.run("t.c", WRITE);
        drop((host, other));
        assert_eq!(fixture.check("a.db")[&1], 6);
    });
}

#[test]
fn journal_modes_are_switched() {
    with_each(|kind, _, fixture| {
        let mut host = Host::open(kind, &fixture.a());
        let mut other = Host::open(Kind::Bundled, &fixture.a());
        for (round, mode) in [
            "delete", "wal", "truncate", "wal", "persist", "memory", "wal",
        ]
        .into_iter()
        .enumerate()
        {
            // As with SQLite alone, no other connection may be open.
            other.run("t.c", "!close");
            let set = host.run("t.c", &format!("PRAGMA journal_mode = {mode}"));
            assert_eq!(set, mode, "{round}");
            host.run("t.c", WRITE);
            other.run_open("t.c", TIMEOUT, &fixture.a());
            other.run("t.c", WRITE);
            host.run("t.c", WRITE);
        }
        drop((host, other));
        assert_eq!(fixture.check("a.db")[&1], 21);
    });
}

#[test]
fn databases_that_are_not_written_need_no_lock_file() {
    with_each(|kind, journal, fixture| {
        let mut writer = Host::open(Kind::BundledPlain, &fixture.a());
        writer.run("t.c", WRITE);
        let mut host = Host::start(kind, &fixture.a());
        host.run("ro.c", &uri(fixture, "mode=ro"));
        host.run("immutable.c", &uri(fixture, "immutable=1"));
        assert_eq!(host.run("ro.c", COUNT), "1");
        let seen = host.run("immutable.c", COUNT);
        assert_eq!(seen, if journal == "wal" { "0" } else { "1" });
        for name in ["ro.c", "immutable.c"] {
            let error = host.ask(name, WRITE).unwrap_err();
            assert!(error.contains("readonly"), "{name}: {error}");
        }
        host.run("memory.c", "!open 1000 :memory:");
        host.run("temporary.c", "!open 1000 file:");
        host.run("shared.c", "!open 1000 file:x?mode=memory&cache=shared");
        for name in ["memory.c", "temporary.c", "shared.c"] {
            host.run(name, "CREATE TABLE t(x); INSERT INTO t VALUES (1)");
            assert_eq!(host.run(name, "SELECT * FROM t"), "1");
            let error = host.ask(name, "SELECT penholder_status()").unwrap_err();
            assert!(error.contains("not in a file"), "{error}");
        }
        assert!(!fixture.path("db.lock").exists());
    });
}

#[test]
fn a_shared_cache_and_no_locks() {
    with_each(|kind, journal, fixture| {
        let mut host = Host::start(kind, &fixture.a());
        for name in ["first.c", "second.c"] {
            host.run(name, &uri(fixture, "cache=shared"));
        }
        for round in 0..20 {
            host.run(["first.c", "second.c"][round % 2], WRITE);
        }
        let mut other = Host::open(Kind::Bundled, &fixture.a());
        host.run("first.c", &format!("BEGIN IMMEDIATE; {WRITE}"));
        other.send("t.c", WRITE);
        std::thread::sleep(Duration::from_millis(30));
        host.run("first.c", "COMMIT");
        other.answer("t.c").unwrap();
        drop((host, other));
        assert_eq!(fixture.check("a.db")[&1], 22);
        // Without locks there is no WAL mode.
        if journal == "delete" {
            let mut host = Host::start(kind, &fixture.a());
            host.run("t.c", &uri(fixture, "nolock=1"));
            host.run("t.c", WRITE);
            host.run("t.c", WRITE);
            drop(host);
            assert_eq!(fixture.check("a.db")[&1], 24);
        }
    });
}

#[test]
fn a_killed_writer_is_recovered_from_while_others_have_the_database_open() {
    with_each(|kind, _, fixture| {
        let mut open = Host::open(Kind::Bundled, &fixture.a());
        open.run("t.c", COUNT);
        for round in 1..4 {
            let mut host = Host::open(kind, &fixture.a());
            host.run("t.c", WRITE);
            host.run("t.c", &half_a_transaction());
            host.peer.kill();
            let (count, waited) = wait::timed(|| open.run("t.c", COUNT));
            assert_eq!(count, (2 * round - 1).to_string());
            open.run("t.c", WRITE);
            assert!(waited < Duration::from_secs(3), "{waited:?}");
        }
        drop(open);
        assert_eq!(fixture.check("a.db")[&1], 6);
    });
}

/// Asserts that a connection in exclusive mode waits for a writer to another database, as it is about to
/// write.
#[track_caller]
fn exclusive_mode_waits(exclusive: &mut Host, writer: &mut Host) {
    exclusive.run("t.c", "PRAGMA locking_mode = EXCLUSIVE");
    exclusive.send("t.c", WRITE);
    let early = exclusive.answer_within("t.c", Duration::from_millis(300));
    assert_eq!(early, None);
    writer.run("t.c", "COMMIT");
    assert_eq!(exclusive.answer("t.c"), Ok(String::new()));
}

#[test]
fn a_journal_is_rolled_back_while_another_database_is_written() {
    with_each(|kind, journal, fixture| {
        let mut victim = Host::open(kind, &fixture.a());
        victim.run("t.c", WRITE);
        victim.run("t.c", &half_a_transaction());
        victim.peer.kill();
        let mut writer = Host::open(kind, &fixture.b());
        writer.run("t.c", "BEGIN IMMEDIATE");
        writer.run("t.c", WRITE);
        let kinds = [kind, Kind::Bundled, kind, Kind::Bundled];
        let mut readers = kinds.map(|kind| Host::open(kind, &fixture.a()));
        let (_, waited) = wait::timed(|| {
            readers.iter_mut().for_each(|host| host.send("t.c", COUNT));
            for host in &readers {
                assert_eq!(host.answer("t.c"), Ok("1".to_owned()), "{journal}");
            }
        });
        // Before the writer commits: long before they time out.
        assert!(waited < Duration::from_secs(15), "{waited:?}");
        drop(readers);
        exclusive_mode_waits(&mut Host::open(kind, &fixture.a()), &mut writer);
    });
}

#[test]
fn a_journal_without_content_is_not_rolled_back() {
    with_each(|kind, _, fixture| {
        let mut exclusive = Host::open(kind, &fixture.a());
        exclusive.run("t.c", "PRAGMA journal_mode = wal");
        exclusive.run("t.c", "!close");
        // As `journal_mode=PERSIST` leaves one.
        fs::write(fixture.path("a.db-journal"), [0; 512]).unwrap();
        let mut writer = Host::open(kind, &fixture.b());
        writer.run("t.c", "BEGIN IMMEDIATE");
        exclusive.run_open("t.c", TIMEOUT, &fixture.a());
        exclusive_mode_waits(&mut exclusive, &mut writer);
    });
}

#[test]
fn a_directory_that_cannot_be_written() {
    // Only others than root are kept out.
    if penholder_testkit::requirement::is_root()
        && penholder_testkit::requirement::has_program("setpriv")
    {
        let fixture = Fixture::new("wal");
        let mut keeps_files = Host::open(Kind::BundledPlain, &fixture.a());
        keeps_files.run("t.c", WRITE);
        let mode = |name: &str, mode| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(fixture.path(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            mode(name, 0o666);
        }
        mode("", 0o555);
        let script = "import sqlite3, sys
c = sqlite3.connect(':memory:')
c.enable_load_extension(True)
c.execute('SELECT load_extension(?, ?)', (sys.argv[1], 'sqlite3_penholder_default_init'))
c = sqlite3.connect(sys.argv[2])
print(c.execute('SELECT count(*) FROM log').fetchone()[0])
try:
    c.execute('INSERT INTO log VALUES (3, 3, NULL)')
    print('written')
except sqlite3.Error as error:
    print(error)
    print(c.execute('SELECT penholder_last_error()').fetchone()[0])";
        // The library may be in a directory that only root may read.
        let library = fixture.path("../penholder-driver-test.so");
        fs::copy(extension_fixture::library(), &library).unwrap();
        let mut python = std::process::Command::new("setpriv");
        python.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            script,
        ]);
        let out = python.arg(&library).arg(fixture.a()).output().unwrap();
        fs::remove_file(&library).unwrap();
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.first(), Some(&"1"), "it can be read: {out}");
        assert!(
            out.contains("db.lock"),
            "the error names what is missing: {out}"
        );
    }
}

#[test]
fn connections_that_are_closed_leave_nothing() {
    with_each(|kind, _, fixture| {
        let mut host = Host::start(kind, &fixture.a());
        let once = |host: &mut Host| {
            host.run_open("t.c", TIMEOUT, &fixture.a());
            host.run("t.c", WRITE);
            host.run("t.c", "SELECT penholder_label('x')");
            host.run("t.c", "!close");
        };
        let memory = |host: &Host| -> u64 {
            let statm = fs::read_to_string(format!("/proc/{}/statm", host.peer.pid())).unwrap();
            statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        (0..20).for_each(|_| once(&mut host));
        let (before, pages) = (host.run("t.x", "!fds"), memory(&host));
        (0..200).for_each(|_| once(&mut host));
        let (after, grown) = (host.run("t.x", "!fds"), memory(&host).saturating_sub(pages));
        // A thread may end later.
        let numbers = |text: &str| {
            text.split('|')
                .map(|n| n.parse::<i64>().unwrap())
                .collect::<Vec<_>>()
        };
        for (before, after) in numbers(&before).into_iter().zip(numbers(&after)) {
            assert!(after <= before + 1, "{kind:?}: {before} and then {after}");
        }
        assert!(grown < 1 << 20, "{kind:?}: {grown} bytes");
    });
}
