//! The table that records which requests were executed.
//!
//! Each transaction that executes requests leaves a row: its sequence number, its id, and the
//! ids of the requests. So the next process that holds SQLite's write lock can tell what became
//! of a request whose combiner died.

use std::time::SystemTime;

use penholder_core::RequestId;
use rusqlite::{Connection, ErrorCode};

use crate::sqlite::query::step;

/// The name of the table; the first batch that executes a request creates it.
pub(super) const TABLE: &str = "_penholder_batch";
/// Rows that are kept at least: more than there are slots in the queue file.
const KEPT: i64 = 1024;
/// How many more rows gather before the oldest are deleted.
const SPARE: i64 = 512;

/// Returns the sequence number of the next batch, and creates the table if it is missing. Only
/// inside a transaction.
pub(super) fn next_sequence(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = format!("SELECT max(seq) FROM main.{TABLE}");
    let newest = connection
        .prepare_cached(&sql)
        .and_then(|mut ask| ask.query_row([], |row| row.get::<_, Option<i64>>(0)));
    match newest {
        Ok(newest) => Ok(newest.unwrap_or(0).saturating_add(1)),
        Err(error) if is_missing(&error) => {
            create(connection)?;
            Ok(1)
        }
        Err(error) => Err(error),
    }
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let create = format!(
        "CREATE TABLE IF NOT EXISTS main.{TABLE}(\
         seq INTEGER PRIMARY KEY, id BLOB NOT NULL, carried BLOB NOT NULL)"
    );
    step(connection, &create)
}

/// Records, in the transaction, which requests it executes.
pub(super) fn record(
    connection: &Connection,
    sequence: i64,
    batch: [u64; 2],
    executed: &[RequestId],
) -> rusqlite::Result<()> {
    let sql = format!("INSERT INTO main.{TABLE}(seq, id, carried) VALUES (?1, ?2, ?3)");
    let id: Vec<u8> = batch.iter().flat_map(|word| word.to_le_bytes()).collect();
    let ids: Vec<u8> = executed.iter().flat_map(|id| id.to_bytes()).collect();
    connection
        .prepare_cached(&sql)?
        .execute((sequence, id, ids))?;
    if sequence % SPARE == 0 {
        let sql = format!("DELETE FROM main.{TABLE} WHERE seq <= ?1");
        connection
            .prepare_cached(&sql)?
            .execute([sequence - KEPT])?;
    }
    Ok(())
}

/// Returns whether the batch with this sequence number, or a later one, executed this request;
/// `None` if that cannot be told any more. Only inside a transaction.
///
/// A later one, because the claim may have been read before another combiner made a new one.
pub(super) fn has_executed_since(
    connection: &Connection,
    sequence: u64,
    id: RequestId,
) -> rusqlite::Result<Option<bool>> {
    let Ok(sequence) = i64::try_from(sequence) else {
        return Ok(Some(false));
    };
    let sql = format!("SELECT carried FROM main.{TABLE} WHERE seq >= ?1");
    let mut ask = match connection.prepare_cached(&sql) {
        Ok(ask) => ask,
        Err(error) if is_missing(&error) => return Ok(Some(false)),
        Err(error) => return Err(error),
    };
    let mut rows = ask.query([sequence])?;
    while let Some(row) = rows.next()? {
        if contains(&row.get::<_, Vec<u8>>(0)?, id) {
            return Ok(Some(true));
        }
    }
    let sql = format!("SELECT min(seq) FROM main.{TABLE}");
    let mut ask = connection.prepare_cached(&sql)?;
    let oldest: Option<i64> = ask.query_row([], |row| row.get(0))?;
    let reaches_back = oldest.is_none_or(|oldest| oldest <= sequence);
    Ok(reaches_back.then_some(false))
}

/// Returns whether any batch executed this request, which was made after the batch `since`;
/// `None` if that cannot be told any more. Only inside a transaction.
pub(super) fn find_executed(
    connection: &Connection,
    since: u64,
    id: RequestId,
) -> rusqlite::Result<Option<bool>> {
    let sql = format!("SELECT seq, carried FROM main.{TABLE} ORDER BY seq");
    let mut ask = match connection.prepare_cached(&sql) {
        Ok(ask) => ask,
        Err(error) if is_missing(&error) => return Ok(Some(false)),
        Err(error) => return Err(error),
    };
    let mut rows = ask.query([])?;
    let mut oldest = None;
    while let Some(row) = rows.next()? {
        oldest.get_or_insert(row.get::<_, i64>(0)?);
        if contains(&row.get::<_, Vec<u8>>(1)?, id) {
            return Ok(Some(true));
        }
    }
    let since = i64::try_from(since).unwrap_or(i64::MAX);
    let reaches_back = oldest.is_none_or(|oldest| oldest <= since.saturating_add(1));
    Ok(reaches_back.then_some(false))
}

/// Makes the table of `copy`, whose content is to become that of the database `live`, the one that
/// `live` has now. So every search answers afterwards as it did before: a request is neither
/// executed again nor called executed because the table went back in time.
pub(crate) fn carry_over(live: &Connection, copy: &Connection) -> rusqlite::Result<()> {
    let rows = match read_all(live) {
        Ok(Some(rows)) => rows,
        Ok(None) => return copy.execute_batch(&format!("DROP TABLE IF EXISTS main.{TABLE}")),
        Err(error) if is_corrupt(&error) => vec![unknown_before_now()],
        Err(error) => return Err(error),
    };
    copy.execute_batch(&format!("BEGIN; DROP TABLE IF EXISTS main.{TABLE}"))?;
    create(copy)?;
    let sql = format!("INSERT INTO main.{TABLE}(seq, id, carried) VALUES (?1, ?2, ?3)");
    let mut insert = copy.prepare(&sql)?;
    for row in rows {
        insert.execute(row)?;
    }
    drop(insert);
    copy.execute_batch("COMMIT")
}

type Row = (i64, Vec<u8>, Vec<u8>);

/// Returns all rows; `None` if there is no table.
fn read_all(connection: &Connection) -> rusqlite::Result<Option<Vec<Row>>> {
    let sql = format!("SELECT seq, id, carried FROM main.{TABLE} ORDER BY seq");
    let mut ask = match connection.prepare(&sql) {
        Ok(ask) => ask,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let rows = ask.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect::<rusqlite::Result<_>>().map(Some)
}

/// A row for a table whose rows are lost. It records no request, and its number is higher than
/// any that was used, so that the outcome of every earlier request is unknown.
fn unknown_before_now() -> Row {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let number = i64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX / 2);
    (number, Vec::new(), Vec::new())
}

fn is_corrupt(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
}

fn contains(ids: &[u8], id: RequestId) -> bool {
    ids.chunks(16).any(|one| one == id.to_bytes())
}

fn is_missing(error: &rusqlite::Error) -> bool {
    error.to_string().contains("no such table")
}
