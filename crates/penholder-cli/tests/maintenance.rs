//! Proves that `penholder checkpoint`, `backup` and `vacuum` do what they say,
//! under the lock where they need it and beside it where they do not.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::fs;
use std::process::Stdio;

use peer::Peer;
use penholder::rusqlite::Connection;
use site::{Site, assert_whole, is_worker, number, workers};

/// Fills the table `entry` with rows of about a kilobyte.
fn fill(site: &Site, rows: u32) {
    site.exec(&format!(
        "INSERT INTO entry WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n \
         WHERE a < {rows}) SELECT a, hex(randomblob(500)) FROM n"
    ));
}

/// A connection from outside that keeps the log from being removed.
fn visitor(site: &Site) -> Connection {
    let visitor = Connection::open(site.at("x.db")).unwrap();
    let entries = "SELECT count(*) FROM entry";
    let _: i64 = visitor.query_row(entries, [], |row| row.get(0)).unwrap();
    visitor
}

fn size(site: &Site, name: &str) -> u64 {
    fs::metadata(site.at(name)).unwrap().len()
}

#[test]
fn a_checkpoint_empties_the_log() {
    let site = Site::with_table();
    let _visitor = visitor(&site);
    fill(&site, 100);
    assert!(size(&site, "x.db-wal") > 0);
    let said = site.run(["checkpoint", "x.db"]).quiet();
    assert!(
        said.ends_with("moved into the database; the log is empty\n"),
        "{said}"
    );
    assert!(!said.starts_with('0'), "{said}");
    assert_eq!(size(&site, "x.db-wal"), 0);
    assert_eq!(site.entries(), 100);
    let again = site.run(["checkpoint", "x.db"]).quiet();
    assert!(again.starts_with("0 of 0 pages"), "{again}");
}

#[test]
fn a_checkpoint_does_not_wait_for_readers() {
    let site = Site::with_table();
    let reader = visitor(&site);
    reader.execute_batch("BEGIN; SELECT * FROM entry").unwrap();
    let entries = "SELECT count(*) FROM entry";
    let _: i64 = reader.query_row(entries, [], |row| row.get(0)).unwrap();
    fill(&site, 100);
    let said = site.run(["checkpoint", "x.db", "--timeout", "30s"]).quiet();
    assert!(
        said.contains("could not be emptied: somebody still reads"),
        "{said}"
    );
    reader.execute_batch("COMMIT").unwrap();
    let said = site.run(["checkpoint", "x.db"]).quiet();
    assert!(said.contains("the log is empty"), "{said}");
}

#[test]
fn a_vacuum_shrinks_the_file() {
    let site = Site::with_table();
    fill(&site, 500);
    site.exec("DELETE FROM entry WHERE key > 5");
    let said = site.run(["vacuum", "x.db"]).quiet();
    let sizes: Vec<u64> = said
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(
        said,
        format!("{} bytes before, {} after\n", sizes[0], sizes[1])
    );
    assert!(sizes[0] > 400_000 && sizes[1] < 50_000, "{said}");
    assert_eq!(size(&site, "x.db"), sizes[1]);
    assert_eq!(site.entries(), 5);
    assert_whole(&site.at("x.db"));
}

#[test]
fn a_backup_is_a_whole_database() {
    let site = Site::with_table();
    fill(&site, 200);
    let said = site.run(["backup", "x.db", "copy.db"]).quiet();
    assert_eq!(
        said,
        format!("{} bytes in copy.db\n", size(&site, "copy.db"))
    );
    let entries = "SELECT count(*) FROM entry";
    assert_eq!(number(&site.at("copy.db"), entries), 200);
    assert_whole(&site.at("copy.db"));
    assert!(!site.files().iter().any(|name| name.contains("backup-")));
    // It is a database like any other.
    site.run(["exec", "copy.db", "DELETE FROM entry"]).ok();
    assert_eq!(site.entries(), 200);
}

#[test]
fn a_backup_never_replaces_a_file() {
    let site = Site::with_table();
    fs::write(site.at("precious.txt"), "mine").unwrap();
    for (target, word) in [
        ("precious.txt", "exists already"),
        ("x.db", "exists already"),
        (".", "folder"),
        ("nowhere/copy.db", "no folder"),
        (":memory:", "memory"),
    ] {
        let message = site.run(["backup", "x.db", target]).failed(1);
        assert!(message.contains(word), "{target}: {message}");
    }
    assert_eq!(fs::read(site.at("precious.txt")).unwrap(), b"mine");
    site.exec("INSERT INTO entry VALUES (1, 1)");
    assert_eq!(site.entries(), 1);
}

#[test]
fn only_the_backup_does_without_the_lock() {
    let site = Site::with_table();
    let holder = site.hold(&[]);
    for command in ["checkpoint", "vacuum"] {
        let message = site.run([command, "x.db", "--timeout", "20ms"]).failed(75);
        let named = format!("holder: pid:{} since ", holder.pid());
        assert!(message.contains(&named), "{message}");
        assert!(message.contains("timeout after 20ms"), "{message}");
    }
    site.run(["backup", "x.db", "copy.db", "--timeout", "1ms"])
        .quiet();
    assert_whole(&site.at("copy.db"));
}

#[test]
fn a_stranger_inside_sqlite_keeps_the_vacuum_out() {
    let site = Site::with_table();
    let Some(stranger) = site.outsider() else {
        return;
    };
    let message = site
        .run(["vacuum", "x.db", "--timeout", "100ms"])
        .failed(75);
    assert!(message.contains(&format!("pid:{} (`sqlite3 ", stranger.pid())));
    site.run(["backup", "x.db", "copy.db"]).quiet();
}

#[test]
fn all_of_it_goes_on_beside_writers() {
    let site = Site::new();
    let args = ["stress", "x.db", "--processes", "2", "--writes", "10000000"];
    let mut command = site.command(args);
    command.stderr(Stdio::null());
    let writers = Peer::spawn(command);
    let rows = "SELECT count(*) FROM penholder_stress";
    peer::until("the first rows", || {
        let seen = site.run(["query", "x.db", rows]);
        seen.code == Some(0) && !seen.out.ends_with("\n0\n")
    });
    for round in 0..3 {
        site.run(["checkpoint", "x.db", "--timeout", "30s"]).quiet();
        site.run(["vacuum", "x.db", "--timeout", "30s"]).quiet();
        let copy = format!("copy{round}.db");
        site.run(["backup", "x.db", &copy]).quiet();
        assert_whole(&site.at(&copy));
        assert!(number(&site.at(&copy), rows) > 0);
    }
    let pids = workers(&writers);
    assert_eq!(pids.len(), 2);
    drop(writers);
    peer::until("the workers' end", || {
        pids.iter().all(|(pid, _)| !is_worker(*pid))
    });
}

/// SQLite would take a log that was left behind for the copy's own.
#[test]
fn a_backup_beside_a_leftover_log_is_refused() {
    let site = Site::with_table();
    for suffix in ["-wal", "-shm", "-journal"] {
        let leftover = site.at(format!("copy.db{suffix}"));
        std::fs::write(&leftover, "left behind").unwrap();
        let message = site.run(["backup", "x.db", "copy.db"]).failed(1);
        assert!(message.contains(suffix), "{message}");
        assert!(!site.at("copy.db").exists());
        std::fs::remove_file(leftover).unwrap();
    }
    site.run(["backup", "x.db", "copy.db"]).quiet();
}
