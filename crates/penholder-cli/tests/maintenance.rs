//! Proves that `penholder checkpoint`, `backup`, `restore` and `vacuum` do what they report, and
//! that they take the write lock only if they need it.
#![cfg(test)]

use std::fs;
use std::process::Stdio;

use penholder::rusqlite::Connection;
use penholder_testkit::command_fixture::{CommandFixture, is_stress_worker, stress_workers};
use penholder_testkit::peer::Peer;
use penholder_testkit::{plain_sqlite, raw_file, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Fills the table `entry` with rows of about a kilobyte.
fn fill(fixture: &CommandFixture, rows: u32) {
    fixture.exec(&format!(
        "INSERT INTO entry WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n \
         WHERE a < {rows}) SELECT a, hex(randomblob(500)) FROM n"
    ));
}

/// Opens a connection without the write lock that keeps the WAL file from being removed.
fn open_reader(fixture: &CommandFixture) -> Connection {
    let reader = Connection::open(fixture.join("x.db")).unwrap();
    let entries = "SELECT count(*) FROM entry";
    let _: i64 = reader.query_row(entries, [], |row| row.get(0)).unwrap();
    reader
}

fn size(fixture: &CommandFixture, name: &str) -> u64 {
    fs::metadata(fixture.join(name)).unwrap().len()
}

#[test]
fn a_checkpoint_empties_the_wal() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _reader = open_reader(&fixture);
    fill(&fixture, 100);
    assert!(size(&fixture, "x.db-wal") > 0);
    let text = fixture.run(["checkpoint", "x.db"]).expect_quiet_success();
    assert!(
        text.ends_with("moved into the database; the WAL is empty\n"),
        "{text}"
    );
    assert!(!text.starts_with('0'), "{text}");
    assert_eq!(size(&fixture, "x.db-wal"), 0);
    assert_eq!(fixture.count_entries(), 100);
    let again = fixture.run(["checkpoint", "x.db"]).expect_quiet_success();
    assert!(again.starts_with("0 of 0 WAL frames"), "{again}");
}

#[test]
fn a_checkpoint_does_not_wait_for_readers() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let reader = open_reader(&fixture);
    reader.execute_batch("BEGIN; SELECT * FROM entry").unwrap();
    let entries = "SELECT count(*) FROM entry";
    let _: i64 = reader.query_row(entries, [], |row| row.get(0)).unwrap();
    fill(&fixture, 100);
    let text = fixture
        .run(["checkpoint", "x.db", "--timeout", "30s"])
        .expect_quiet_success();
    assert!(
        text.contains("could not be truncated: a reader uses it"),
        "{text}"
    );
    reader.execute_batch("COMMIT").unwrap();
    let text = fixture.run(["checkpoint", "x.db"]).expect_quiet_success();
    assert!(text.contains("the WAL is empty"), "{text}");
}

#[test]
fn a_vacuum_shrinks_the_file() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fill(&fixture, 500);
    fixture.exec("DELETE FROM entry WHERE key > 5");
    let text = fixture.run(["vacuum", "x.db"]).expect_quiet_success();
    let sizes: Vec<u64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(
        text,
        format!("{} bytes before, {} after\n", sizes[0], sizes[1])
    );
    assert!(sizes[0] > 400_000 && sizes[1] < 50_000, "{text}");
    assert_eq!(size(&fixture, "x.db"), sizes[1]);
    assert_eq!(fixture.count_entries(), 5);
    plain_sqlite::assert_integrity(&fixture.join("x.db"));
}

#[test]
fn a_backup_is_a_complete_database() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fill(&fixture, 200);
    let text = fixture
        .run(["backup", "x.db", "copy.db"])
        .expect_quiet_success();
    assert_eq!(
        text,
        format!("{} bytes in copy.db\n", size(&fixture, "copy.db"))
    );
    let entries = "SELECT count(*) FROM entry";
    assert_eq!(plain_sqlite::number(&fixture.join("copy.db"), entries), 200);
    plain_sqlite::assert_integrity(&fixture.join("copy.db"));
    assert!(
        !fixture
            .file_names()
            .iter()
            .any(|name| name.contains("backup-"))
    );
    // It can be written like any other database.
    fixture
        .run(["exec", "copy.db", "DELETE FROM entry"])
        .expect_success();
    assert_eq!(fixture.count_entries(), 200);
}

#[test]
fn a_backup_never_replaces_a_file() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("precious.txt"), "mine").unwrap();
    for (target, words) in [
        ("precious.txt", "exists already"),
        ("x.db", "exists already"),
        (".", "directory"),
        ("nowhere/copy.db", "no directory"),
        (":memory:", "memory"),
    ] {
        let message = fixture.run(["backup", "x.db", target]).expect_failure(1);
        assert!(message.contains(words), "{target}: {message}");
    }
    assert_eq!(fs::read(fixture.join("precious.txt")).unwrap(), b"mine");
    fixture.exec("INSERT INTO entry VALUES (1, 1)");
    assert_eq!(fixture.count_entries(), 1);
}

#[test]
fn only_the_backup_works_without_the_lock() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&[]);
    for command in ["checkpoint", "vacuum"] {
        let message = fixture
            .run([command, "x.db", "--timeout", "20ms"])
            .expect_failure(75);
        let named = format!("holder: pid:{} since ", holder.pid());
        assert!(message.contains(&named), "{message}");
        assert!(message.contains("timeout after 20ms"), "{message}");
    }
    fixture
        .run(["backup", "x.db", "copy.db", "--timeout", "1ms"])
        .expect_quiet_success();
    plain_sqlite::assert_integrity(&fixture.join("copy.db"));
}

#[test]
fn an_outsider_inside_sqlite_blocks_the_vacuum() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(outsider) = fixture.outsider() else {
        return;
    };
    let message = fixture
        .run(["vacuum", "x.db", "--timeout", "100ms"])
        .expect_failure(75);
    assert!(message.contains(&format!("pid:{} (`sqlite3 ", outsider.pid())));
    fixture
        .run(["backup", "x.db", "copy.db"])
        .expect_quiet_success();
}

#[test]
fn maintenance_works_while_others_write() {
    let fixture = CommandFixture::new(PENHOLDER);
    let args = ["stress", "x.db", "--processes", "2", "--writes", "10000000"];
    let mut command = fixture.command(args);
    command.stderr(Stdio::null());
    let writers = Peer::spawn(command);
    let rows = "SELECT count(*) FROM penholder_stress";
    wait::until("the first rows", || {
        let output = fixture.run(["query", "x.db", rows]);
        output.code == Some(0) && !output.stdout.ends_with("\n0\n")
    });
    for round in 0..3 {
        fixture
            .run(["checkpoint", "x.db", "--timeout", "30s"])
            .expect_quiet_success();
        fixture
            .run(["vacuum", "x.db", "--timeout", "30s"])
            .expect_quiet_success();
        let copy = format!("copy{round}.db");
        fixture
            .run(["backup", "x.db", &copy])
            .expect_quiet_success();
        plain_sqlite::assert_integrity(&fixture.join(&copy));
        assert!(plain_sqlite::number(&fixture.join(&copy), rows) > 0);
    }
    let pids = stress_workers(&writers);
    assert_eq!(pids.len(), 2);
    drop(writers);
    wait::until("the workers have exited", || {
        pids.iter().all(|(pid, _)| !is_stress_worker(*pid))
    });
}

/// SQLite would use a leftover WAL as that of the copy.
#[test]
fn a_backup_next_to_leftover_sidecar_files_is_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for suffix in ["-wal", "-shm", "-journal"] {
        let leftover = fixture.join(format!("copy.db{suffix}"));
        std::fs::write(&leftover, "left behind").unwrap();
        let message = fixture.run(["backup", "x.db", "copy.db"]).expect_failure(1);
        assert!(message.contains(suffix), "{message}");
        assert!(!fixture.join("copy.db").exists());
        std::fs::remove_file(leftover).unwrap();
    }
    fixture
        .run(["backup", "x.db", "copy.db"])
        .expect_quiet_success();
}

// ---- restore ---------------------------------------------------------------------

/// Makes `copy.db` with 200 rows, and changes the database afterwards.
fn back_up_and_change(fixture: &CommandFixture) {
    fill(fixture, 200);
    fixture
        .run(["backup", "x.db", "copy.db"])
        .expect_quiet_success();
    fixture.exec("DELETE FROM entry WHERE key > 5; CREATE TABLE later(a)");
}

#[test]
fn a_restore_puts_the_content_back() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    back_up_and_change(&fixture);
    let inode = |name: &str| raw_file::number(&fixture.join(name));
    let before = inode("x.db");
    let text = fixture
        .run(["restore", "x.db", "copy.db"])
        .expect_quiet_success();
    let bytes = size(&fixture, "copy.db");
    assert_eq!(text, format!("{bytes} bytes restored from copy.db\n"));
    assert_eq!(fixture.count_entries(), 200);
    assert_eq!(inode("x.db"), before, "the file stays the same");
    let later = "SELECT count(*) FROM sqlite_schema WHERE name = 'later'";
    assert_eq!(plain_sqlite::number(&fixture.join("x.db"), later), 0);
    plain_sqlite::assert_integrity(&fixture.join("x.db"));
    assert_eq!(
        plain_sqlite::number(&fixture.join("copy.db"), "SELECT count(*) FROM entry"),
        200
    );
}

#[test]
fn a_restore_creates_a_missing_database() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    back_up_and_change(&fixture);
    let output = fixture.run(["restore", "new.db", "copy.db"]);
    let message = output.stderr.clone();
    output.expect_success();
    assert!(
        message.contains("new.db: did not exist, and was created"),
        "{message}"
    );
    let rows = "SELECT count(*) FROM entry";
    assert_eq!(plain_sqlite::number(&fixture.join("new.db"), rows), 200);
}

#[test]
fn a_bad_backup_changes_nothing() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    back_up_and_change(&fixture);
    let copy = fs::read(fixture.join("copy.db")).unwrap();
    fs::write(fixture.join("half.db"), &copy[..copy.len() / 2]).unwrap();
    fs::write(fixture.join("text.db"), "no database").unwrap();
    fs::write(fixture.join("empty.db"), "").unwrap();
    for (backup, words) in [
        ("half.db", "nothing was changed: "),
        ("text.db", "it is not a database"),
        ("empty.db", "it is empty"),
        ("nothing.db", "there is no such file"),
        (".", "directory"),
        ("-", "there is no such file"),
        ("x.db", "it is the database itself"),
        ("x.db-wal", "it belongs to the database"),
    ] {
        let _reader = open_reader(&fixture);
        let message = fixture.run(["restore", "x.db", backup]).expect_failure(1);
        assert!(message.contains(words), "{backup}: {message}");
        assert_eq!(fixture.count_entries(), 5);
        if backup.starts_with("x.db") {
            continue;
        }
        let message = fixture.run(["restore", "new.db", backup]).expect_failure(1);
        assert!(message.contains("restore: "), "{backup}: {message}");
        assert!(!fixture.join("new.db").exists());
    }
}

#[test]
fn a_restore_needs_the_lock() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    back_up_and_change(&fixture);
    let holder = fixture.hold_lock(&[]);
    let message = fixture
        .run(["restore", "x.db", "copy.db", "--timeout", "20ms"])
        .expect_failure(75);
    let named = format!("holder: pid:{} since ", holder.pid());
    assert!(message.contains(&named), "{message}");
    assert_eq!(fixture.count_entries(), 5);
}

#[cfg(unix)]
#[test]
fn a_backup_in_a_read_only_directory_is_restored() {
    use penholder_testkit::command_fixture::run_command;
    use penholder_testkit::requirement;

    if !requirement::has_mount_namespaces() {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    back_up_and_change(&fixture);
    let directory = "a 100%?#";
    fs::create_dir(fixture.join(directory)).unwrap();
    fs::rename(
        fixture.join("copy.db"),
        fixture.join(directory).join("copy.db"),
    )
    .unwrap();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && \
                  cd \"$PWD\" && exec \"$PENHOLDER\" restore x.db \"$1/copy.db\"";
    let mut command = fixture.program("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    command.arg(directory);
    run_command(&mut command, b"", wait::LIMIT).expect_quiet_success();
    assert_eq!(fixture.count_entries(), 200);
}

#[test]
fn writers_go_on_after_a_restore() {
    let fixture = CommandFixture::new(PENHOLDER);
    let rows = "SELECT count(*) FROM penholder_stress";
    let stress = ["stress", "x.db", "--processes", "1", "--writes", "5"];
    fixture.run(stress).expect_success();
    fixture
        .run(["backup", "x.db", "copy.db"])
        .expect_quiet_success();
    let args = ["stress", "x.db", "--processes", "2", "--writes", "10000000"];
    let mut command = fixture.command(args);
    command.stderr(Stdio::null());
    let writers = Peer::spawn(command);
    let count = || -> u64 {
        let output = fixture.run(["query", "x.db", rows, "--csv"]);
        let lines = output.stdout.lines();
        lines.last().and_then(|line| line.parse().ok()).unwrap_or(0)
    };
    for _ in 0..3 {
        wait::until("rows of the writers", || count() > 500);
        fixture
            .run(["restore", "x.db", "copy.db", "--timeout", "30s"])
            .expect_quiet_success();
    }
    wait::until("rows of the writers", || count() > 500);
    let pids = stress_workers(&writers);
    assert_eq!(pids.len(), 2);
    drop(writers);
    wait::until("the workers have exited", || {
        pids.iter().all(|(pid, _)| !is_stress_worker(*pid))
    });
    plain_sqlite::assert_integrity(&fixture.join("x.db"));
}
