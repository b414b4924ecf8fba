//! What SQLite says about the database. No file of it is opened without SQLite: closing it
//! would drop SQLite's locks.

use std::time::Duration;

use penholder_lock::Deadline;
use rusqlite::{Connection, ErrorCode};

use super::report::{Check, Finding, Severity};
use super::subject::Subject;
use super::text::{listed, size};
use crate::delegate::batch_table;
use crate::error::{Error, Result};
use crate::options::Synchronous;
use crate::sqlite::{connection, integrity};

/// How many faults of the content SQLite is asked for.
const FAULTS: u32 = 20;

pub(super) fn examine(subject: &Subject<'_>, integrity: bool) -> Result<Vec<Finding>> {
    let deadline = Deadline::after(subject.options.timeout);
    let reader = connection::open_reader(subject.location, None, &deadline);
    let opened = reader.and_then(|reader| settings(subject, reader, &deadline));
    let (reader, mut findings) = match opened {
        Ok(opened) => opened,
        Err(error) if is_not_a_database(&error) => return Err(error),
        Err(error) => return Ok(vec![unreadable(&error)]),
    };
    if integrity {
        findings.push(integrity_of(&reader).unwrap_or_else(|e| failed(Check::Integrity, &e)));
        findings.push(foreign_keys(&reader).unwrap_or_else(|e| failed(Check::ForeignKeys, &e)));
    }
    Ok(findings)
}

/// Checks what can be known without reading the whole content; returns the reader too.
fn settings(
    subject: &Subject<'_>,
    reader: Connection,
    deadline: &Deadline,
) -> Result<(Connection, Vec<Finding>)> {
    let failed = |e| connection::explain(subject.location, deadline, e);
    let is_wal = connection::is_wal(&reader, deadline).map_err(failed)?;
    let findings = vec![
        readable(&reader).map_err(failed)?,
        journal_mode(&reader, is_wal).map_err(failed)?,
        synchronous(subject, &reader).map_err(failed)?,
        busy_timeout(subject, &reader).map_err(failed)?,
        batch_table(&reader).map_err(failed)?,
    ];
    Ok((reader, findings))
}

/// Returns whether the file is not a database at all.
fn is_not_a_database(error: &Error) -> bool {
    let code = error
        .sqlite_error()
        .and_then(rusqlite::Error::sqlite_error_code);
    code == Some(ErrorCode::NotADatabase)
}

fn unreadable(error: &Error) -> Finding {
    let next = "do what it says and what the other findings say, then run this again";
    Finding::of_error(Check::Database, Severity::Error, error).next(next)
}

fn failed(check: Check, error: &rusqlite::Error) -> Finding {
    if integrity::is_definition_missing(error) {
        let found = format!(
            "not checked: {error}, which only a program of this database defines; nothing is wrong \
             with that"
        );
        return Finding::info(check, found);
    }
    let next = match check {
        Check::ForeignKeys => "repair the schema as it says",
        _ => "stop writing and restore a backup, or try `.recover` of the sqlite3 shell",
    };
    Finding::error(check, format!("it cannot be checked: {error}")).next(next)
}

fn readable(reader: &Connection) -> rusqlite::Result<Finding> {
    let number = |name| reader.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (pages, page_size) = (number("page_count")?, number("page_size")?);
    let bytes = u64::try_from(pages.saturating_mul(page_size)).unwrap_or(0);
    let found = format!("can be read: {pages} pages, {}", size(bytes));
    Ok(Finding::ok(Check::Database, found))
}

fn journal_mode(reader: &Connection, is_wal: bool) -> rusqlite::Result<Finding> {
    if is_wal {
        return Ok(Finding::ok(Check::JournalMode, "WAL"));
    }
    let mode: String = reader.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let found = format!("{}, not WAL", mode.to_uppercase());
    let next = "write to it once through penholder, which switches it";
    Ok(Finding::warning(Check::JournalMode, found).next(next))
}

/// Sets `synchronous` as a writer does, on a connection that does not write, and reads it back.
fn synchronous(subject: &Subject<'_>, reader: &Connection) -> rusqlite::Result<Finding> {
    let chosen = subject.options.synchronous;
    reader.pragma_update(None, "synchronous", chosen.pragma())?;
    let number: i64 = reader.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    let promise = match chosen {
        Synchronous::Normal => "a power cut may take the last writes",
        Synchronous::Full => "an acknowledged write survives a power cut",
    };
    let found = format!(
        "penholder writes with {} ({number}): {promise}",
        chosen.pragma()
    );
    Ok(Finding::ok(Check::Synchronous, found))
}

fn busy_timeout(subject: &Subject<'_>, reader: &Connection) -> rusqlite::Result<Finding> {
    connection::set_busy_timeout(reader, subject.options.timeout)?;
    let ms: i64 = reader.pragma_query_value(None, "busy_timeout", |row| row.get(0))?;
    let found = format!("penholder waits {ms} ms for SQLite's locks");
    Ok(if subject.options.timeout == Duration::ZERO {
        Finding::warning(Check::BusyTimeout, found).next("set a timeout of 100 ms or more")
    } else {
        Finding::ok(Check::BusyTimeout, found)
    })
}

fn batch_table(reader: &Connection) -> rusqlite::Result<Finding> {
    Ok(match batch_table::fault(reader)? {
        None => Finding::ok(Check::BatchTable, "can be used"),
        Some(foreign) => {
            let found = format!("`{}` cannot be used: {foreign}", batch_table::TABLE);
            let next = format!(
                "while no process writes, execute `{}`; penholder creates the table again",
                foreign.remedy
            );
            Finding::warning(Check::BatchTable, found).next(next)
        }
    })
}

fn integrity_of(reader: &Connection) -> rusqlite::Result<Finding> {
    let faults = integrity::faults(reader, FAULTS)?;
    if faults.is_empty() {
        return Ok(Finding::ok(Check::Integrity, "SQLite finds nothing wrong"));
    }
    let next = "stop writing and restore a backup, or try `.recover` of the sqlite3 shell; if only an \
                index is corrupt, `REINDEX` repairs it";
    Ok(Finding::error(Check::Integrity, listed(&faults)).next(next))
}

fn foreign_keys(reader: &Connection) -> rusqlite::Result<Finding> {
    let mut statement = reader.prepare("PRAGMA foreign_key_check")?;
    let rows = statement.query_map([], |row| {
        let row_id: Option<i64> = row.get(1)?;
        let row_id = row_id.map_or_else(String::new, |id| format!(" row {id}"));
        let (table, parent) = (integrity::text(row, 0)?, integrity::text(row, 2)?);
        Ok(format!("{table}{row_id} refers to no row of {parent}"))
    })?;
    let mut faults = Vec::new();
    for fault in rows.take(FAULTS as usize) {
        faults.push(fault?);
    }
    if faults.is_empty() {
        return Ok(Finding::ok(Check::ForeignKeys, "every reference is met"));
    }
    let next = "correct or delete these rows, and switch `PRAGMA foreign_keys` on in the programs that \
                write them";
    Ok(Finding::warning(Check::ForeignKeys, listed(&faults)).next(next))
}
