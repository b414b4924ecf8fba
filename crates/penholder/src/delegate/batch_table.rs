//! The table that records which requests were executed.
//!
//! Each transaction that executes requests leaves a row: its sequence number, its id, and the
//! ids of the requests. So the next process that holds SQLite's write lock can tell what became
//! of a request whose combiner died.
//!
//! | entry of 16 bytes in `carried` | means |
//! | --- | --- |
//! | id of a request | it was executed |
//! | `partly:` and a zero byte, 64 bits | bit *n*: whether write *n* of the request before was done; the others were taken back. Without such entries all were done |
//!
//! The database is not ours alone: the name may be another table's, a view's or a virtual
//! table's, and there may be triggers on it. So the table is used only if its schema is exactly
//! the one that is created here, and a row counts as inserted only once it was read back.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use penholder_core::RequestId;
use rusqlite::{Connection, ErrorCode, OptionalExtension};

use crate::sqlite::query::step;

/// The name of the table; the first batch that executes a request creates it.
pub(crate) const TABLE: &str = "_penholder_batch";
const COLUMNS: &str = "(seq INTEGER PRIMARY KEY, id BLOB NOT NULL, carried BLOB NOT NULL)";
/// Rows that are kept at least: more than there are slots in the queue file.
const KEPT: i64 = 1024;
/// How many more rows gather before the oldest are deleted.
const SPARE: i64 = 512;
/// A number that no table of ours reaches.
const HIGHEST: i64 = 1 << 62;
/// Begins an entry that says which writes of a request were done.
const PARTLY: [u8; 8] = *b"partly:\0";
const ENTRY: usize = 16;

/// Why the table is of no use.
#[derive(Debug)]
pub(crate) enum TableError {
    /// It is missing, or has no row.
    Empty,
    /// It is not ours: what is wrong, and a statement that helps.
    Foreign(Foreign),
    Sqlite(rusqlite::Error),
}

/// What is wrong with the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) what: String,
    /// A statement that puts it right.
    pub(crate) remedy: String,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<rusqlite::Error> for TableError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl TableError {
    /// Returns what is wrong with the table, unless SQLite would fail with any table.
    pub(super) fn into_foreign(self) -> Option<Foreign> {
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase,
            OperationInterrupted, OutOfMemory, ReadOnly, SystemIoFailure,
        };
        match self {
            Self::Empty => None,
            Self::Foreign(foreign) => Some(foreign),
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(
                    CannotOpen | DatabaseBusy | DatabaseCorrupt | DatabaseLocked | DiskFull
                    | NotADatabase | OperationInterrupted | OutOfMemory | ReadOnly
                    | SystemIoFailure,
                ) => None,
                _ => Some(foreign_row(&format!("it cannot be used: {error}"))),
            },
        }
    }
}

type Result<T> = std::result::Result<T, TableError>;

/// A request that a batch has executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Executed {
    /// The id of the batch.
    pub(super) batch: [u64; 2],
    /// Which of its writes were done; `None` for all.
    done: Option<Vec<u64>>,
}

impl Executed {
    /// Whether this write of the request was done.
    pub(super) fn is_done(&self, write: usize) -> bool {
        self.done.as_ref().is_none_or(|words| {
            let word = words.get(write / 64).copied().unwrap_or(0);
            word >> (write % 64) & 1 == 1
        })
    }
}

/// What the table says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Search {
    Executed(Executed),
    NotExecuted,
    /// It does not reach back to when the request was made.
    Unknown,
}

/// The table, as one connection has seen it.
#[derive(Debug, Default)]
pub(super) struct BatchTable {
    /// The version of the schema in which it was found to be ours.
    checked: Cell<Option<i64>>,
}

impl BatchTable {
    /// Returns the number of the newest batch. Only inside a transaction.
    pub(super) fn newest(&self, connection: &Connection) -> Result<i64> {
        self.check(connection)?;
        let sql = format!("SELECT max(seq) FROM main.{TABLE}");
        let mut ask = connection.prepare_cached(&sql)?;
        let newest: Option<i64> = ask.query_row([], |row| row.get(0))?;
        match newest {
            None => Err(TableError::Empty),
            Some(1..HIGHEST) => newest.ok_or(TableError::Empty),
            Some(number) => {
                let what = format!("it has a row with the number {number}");
                Err(TableError::Foreign(foreign_row(&what)))
            }
        }
    }

    /// Returns whether the schema of the table is the one that is created here.
    fn check(&self, connection: &Connection) -> Result<()> {
        let version: i64 = connection
            .prepare_cached("PRAGMA main.schema_version")?
            .query_row([], |row| row.get(0))?;
        if self.checked.get() == Some(version) {
            return Ok(());
        }
        match fault_in_schema(connection)? {
            Some(foreign) => Err(TableError::Foreign(foreign)),
            None if !exists(connection)? => Err(TableError::Empty),
            None => {
                self.checked.set(Some(version));
                Ok(())
            }
        }
    }

    /// Creates the table, with one row that stands for no request. In a transaction of its own,
    /// so that a table which is missing later was dropped.
    pub(super) fn create(&self, connection: &Connection, id: [u64; 2]) -> Result<()> {
        step(
            connection,
            &format!("CREATE TABLE IF NOT EXISTS main.{TABLE}{COLUMNS}"),
        )?;
        self.check(connection)?;
        // The version is forgotten again if this is rolled back.
        self.checked.set(None);
        // Higher than the numbers of a table that was dropped.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let first = since.map_or(1, |since| i64::try_from(since.as_micros()).unwrap_or(1));
        insert(connection, first, id, &[])
    }

    /// Records, in the transaction, which requests it executes; of each, which of its writes were
    /// done. When this returns, the row is there.
    pub(super) fn record<'a>(
        connection: &Connection,
        sequence: i64,
        batch: [u64; 2],
        executed: impl IntoIterator<Item = (RequestId, &'a [bool])>,
    ) -> Result<()> {
        let mut carried = Vec::new();
        for (id, done) in executed {
            carried.extend_from_slice(&id.to_bytes());
            if done.iter().all(|&done| done) {
                continue;
            }
            for some in done.chunks(64) {
                let bits = (0..).zip(some).map(|(bit, &done)| u64::from(done) << bit);
                carried.extend_from_slice(&PARTLY);
                carried.extend_from_slice(&bits.sum::<u64>().to_le_bytes());
            }
        }
        insert(connection, sequence, batch, &carried)?;
        if sequence % SPARE == 0 {
            let sql = format!("DELETE FROM main.{TABLE} WHERE seq <= ?1");
            connection
                .prepare_cached(&sql)?
                .execute([sequence - KEPT])?;
        }
        Ok(())
    }

    /// Finds out which requests were executed: each is given with the newest batch that its owner
    /// knew of before it was made. Only inside a transaction.
    pub(super) fn find(
        &self,
        connection: &Connection,
        requests: &[(RequestId, u64)],
    ) -> Result<Vec<Search>> {
        let nothing = |search: Search| Ok(vec![search; requests.len()]);
        match self.newest(connection) {
            Ok(newest) => Ok(find_up_to(connection, newest, requests)?),
            // Where no table was, there was no batch. Where one was, it was dropped.
            Err(TableError::Empty) if requests.iter().all(|&(_, since)| since == 0) => {
                nothing(Search::NotExecuted)
            }
            Err(TableError::Empty) => nothing(Search::Unknown),
            Err(error) => Err(error),
        }
    }
}

/// Does what [`BatchTable::find`] does in a transaction in which the table was found to be ours,
/// with `newest` as its newest batch.
pub(super) fn find_up_to(
    connection: &Connection,
    newest: i64,
    requests: &[(RequestId, u64)],
) -> rusqlite::Result<Vec<Search>> {
    let Some(since) = requests.iter().map(|&(_, since)| number(since)).min() else {
        return Ok(Vec::new());
    };
    let (found, first) = executed_since(connection, since, requests)?;
    // What reaches back to one batch reaches back to all later ones.
    let reaches_all = is_next(first, since) || is_whole(connection, since)?;
    let search = |&(id, since): &(RequestId, u64)| {
        if let Some(executed) = found.get(&id.to_bytes()) {
            return Ok(Search::Executed(executed.clone()));
        }
        let since = number(since);
        let reaches = match reaches_all {
            true => since <= newest,
            false => reaches_back(connection, since)?,
        };
        Ok(match reaches {
            true => Search::NotExecuted,
            false => Search::Unknown,
        })
    };
    requests.iter().map(search).collect()
}

/// Requests that were executed, by their ids.
type ExecutedById = HashMap<[u8; ENTRY], Executed>;

/// Returns those of the requests that a batch after `since` has executed, and the number of the
/// first row from `since` on.
fn executed_since(
    connection: &Connection,
    since: i64,
    requests: &[(RequestId, u64)],
) -> rusqlite::Result<(ExecutedById, Option<i64>)> {
    let mut wanted: Vec<_> = requests.iter().map(|(id, _)| id.to_bytes()).collect();
    wanted.sort_unstable();
    let (mut found, mut first) = (HashMap::new(), None);
    let sql = format!("SELECT seq, id, carried FROM main.{TABLE} WHERE seq >= ?1 ORDER BY seq");
    let mut ask = connection.prepare_cached(&sql)?;
    let mut rows = ask.query([since])?;
    while let Some(row) = rows.next()? {
        first = first.or(row.get(0)?);
        let carried = row.get_ref(2)?.as_blob()?;
        for id in carried
            .chunks_exact(ENTRY)
            .filter_map(|id| id.first_chunk())
        {
            if wanted.binary_search(id).is_err() || found.contains_key(id) {
                continue;
            }
            if let Some(done) = writes_done(carried, id) {
                let batch = words(row.get_ref(1)?.as_blob()?);
                found.insert(*id, Executed { batch, done });
            }
        }
    }
    Ok((found, first))
}

fn insert(connection: &Connection, sequence: i64, id: [u64; 2], carried: &[u8]) -> Result<()> {
    let id: Vec<u8> = id.iter().flat_map(|word| word.to_le_bytes()).collect();
    let sql = format!("INSERT INTO main.{TABLE}(seq, id, carried) VALUES (?1, ?2, ?3)");
    let changed = connection
        .prepare_cached(&sql)?
        .execute((sequence, &id, carried))?;
    let sql = format!("SELECT id = ?2 AND carried = ?3 FROM main.{TABLE} WHERE seq = ?1");
    let is_there = connection
        .prepare_cached(&sql)?
        .query_map((sequence, &id, carried), |row| row.get(0))?
        .next()
        .transpose()?;
    if changed == 1 && is_there == Some(true) {
        Ok(())
    } else {
        let foreign = foreign_row("a row that was inserted is not there");
        Err(TableError::Foreign(foreign))
    }
}

/// Returns what is wrong with the schema of the table, if something is.
pub(crate) fn fault_in_schema(connection: &Connection) -> rusqlite::Result<Option<Foreign>> {
    let sql = "SELECT type, name, tbl_name, sql FROM main.sqlite_schema \
               WHERE name = ?1 COLLATE NOCASE OR tbl_name = ?1 COLLATE NOCASE";
    let mut ask = connection.prepare_cached(sql)?;
    let mut rows = ask.query([TABLE])?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let sql: Option<String> = row.get(3)?;
        let is_ours = kind == "table" && sql.as_deref() == Some(&created());
        if !is_ours {
            let what = match kind.as_str() {
                "table" => "it is another table than penholder's".to_owned(),
                _ if name.eq_ignore_ascii_case(TABLE) => {
                    format!("{} {kind} has its name", article(&kind))
                }
                _ => format!("it has {} {kind}, {name}", article(&kind)),
            };
            let quoted = name.replace('"', "\"\"");
            let remedy = format!("DROP {} \"{quoted}\"", kind.to_uppercase());
            return Ok(Some(Foreign { what, remedy }));
        }
    }
    Ok(None)
}

/// Returns what is wrong with the table, if something is.
pub(crate) fn fault(connection: &Connection) -> rusqlite::Result<Option<Foreign>> {
    match BatchTable::default().newest(connection) {
        Ok(_) | Err(TableError::Empty) => Ok(None),
        Err(TableError::Foreign(foreign)) => Ok(Some(foreign)),
        Err(TableError::Sqlite(error)) => Err(error),
    }
}

fn article(kind: &str) -> &'static str {
    if kind == "index" { "an" } else { "a" }
}

/// The table is ours, but a row of it is not as it should be.
fn foreign_row(what: &str) -> Foreign {
    Foreign {
        what: what.to_owned(),
        remedy: format!("DROP TABLE {TABLE}"),
    }
}

/// Returns the text by which the schema knows our table.
fn created() -> String {
    format!("CREATE TABLE {TABLE}{COLUMNS}")
}

fn exists(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM main.sqlite_schema WHERE name = ?1")?
        .exists([TABLE])
}

/// Returns whether no row after this batch was deleted. Numbers follow one another, and only the
/// oldest rows are deleted.
fn reaches_back(connection: &Connection, since: i64) -> rusqlite::Result<bool> {
    let sql = format!("SELECT seq FROM main.{TABLE} WHERE seq >= ?1 ORDER BY seq LIMIT 1");
    let mut ask = connection.prepare_cached(&sql)?;
    let first = ask.query_row([since], |row| row.get(0)).optional()?;
    Ok(is_next(first, since) || is_whole(connection, since)?)
}

/// Whether the first row from batch `since` on is that of the batch itself or of the next one.
fn is_next(first: Option<i64>, since: i64) -> bool {
    first.is_some_and(|first| first == since || first == since + 1)
}

/// Returns whether this is before all batches, and the row that was made with the table, which is
/// for no request, is still there.
fn is_whole(connection: &Connection, since: i64) -> rusqlite::Result<bool> {
    if since != 0 {
        return Ok(false);
    }
    let sql = format!("SELECT length(carried) = 0 FROM main.{TABLE} ORDER BY seq LIMIT 1");
    let mut ask = connection.prepare_cached(&sql)?;
    let is_first = ask.query_row([], |row| row.get(0)).optional()?;
    Ok(is_first.unwrap_or(false))
}

/// Returns which writes of a request were done, if it is among the executed ones.
#[expect(
    clippy::option_option,
    reason = "not there; there, all done; there, some done"
)]
fn writes_done(carried: &[u8], id: &[u8; ENTRY]) -> Option<Option<Vec<u64>>> {
    let mut entries = carried.chunks_exact(ENTRY);
    entries.find(|entry| entry == id)?;
    let bits = |entry: &[u8]| {
        let (tag, bits) = entry.split_first_chunk()?;
        (*tag == PARTLY).then(|| u64::from_le_bytes(bits.try_into().unwrap_or_default()))
    };
    let words: Vec<u64> = entries.map_while(bits).collect();
    Some((!words.is_empty()).then_some(words))
}

fn words(id: &[u8]) -> [u64; 2] {
    let word = |at: usize| {
        let bytes = id.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    [word(0), word(8)]
}

fn number(since: u64) -> i64 {
    i64::try_from(since).unwrap_or(i64::MAX - 1)
}

/// Makes the table of `copy`, whose content is to become that of the database `live`, the one that
/// `live` has now. So every search answers afterwards as it did before: a request is neither
/// executed again nor called executed because the table went back in time.
/// If what `live` has is no such table, the outcome of every earlier request is unknown.
pub(crate) fn carry_over(live: &Connection, copy: &Connection) -> rusqlite::Result<()> {
    let found = fault(live).and_then(|fault| match fault {
        None => read_all(live),
        Some(_) => Ok(Some(vec![unknown_before_now()])),
    });
    let rows = match found {
        Ok(rows) => rows,
        Err(error) if is_corrupt(&error) || is_other_type(&error) => {
            Some(vec![unknown_before_now()])
        }
        Err(error) => return Err(error),
    };
    // What has its name in the backup may be another object.
    while let Some(foreign) = fault_in_schema(copy)? {
        copy.execute_batch(&foreign.remedy)?;
    }
    let drop_table = format!("DROP TABLE IF EXISTS main.{TABLE}");
    let Some(rows) = rows else {
        return copy.execute_batch(&drop_table);
    };
    copy.execute_batch(&format!(
        "BEGIN; {drop_table}; CREATE TABLE main.{TABLE}{COLUMNS}"
    ))?;
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
/// any that was used, so that the outcome of every earlier request is unknown. Its entry is no
/// request's: the row of a table that was just created has none.
fn unknown_before_now() -> Row {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let number = i64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(HIGHEST / 2);
    (number, Vec::new(), vec![0; ENTRY])
}

fn is_corrupt(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
}

fn is_other_type(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::InvalidColumnType(..))
}

fn is_missing(error: &rusqlite::Error) -> bool {
    error.to_string().contains("no such table")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a table that was created by the batch with the number that is returned too.
    fn created_table() -> (Connection, BatchTable, i64) {
        let connection = Connection::open_in_memory().unwrap();
        let table = BatchTable::default();
        table.create(&connection, [1, 2]).unwrap();
        let newest = table.newest(&connection).unwrap();
        (connection, table, newest)
    }

    fn id(number: u8) -> RequestId {
        RequestId::from_bytes([number; 16])
    }

    fn search(connection: &Connection, table: &BatchTable, id: RequestId, since: i64) -> Search {
        let found = table.find(connection, &[(id, since.unsigned_abs())]);
        found.unwrap().remove(0)
    }

    #[test]
    fn what_was_recorded_is_found() {
        let (connection, table, first) = created_table();
        let partly: Vec<bool> = (0..130).map(|place| place % 3 == 0).collect();
        let all = [(id(1), &[true][..]), (id(2), &partly), (id(3), &[false])];
        BatchTable::record(&connection, first + 1, [3, 4], all).unwrap();
        for (number, done) in [(1, &[true][..]), (2, &partly), (3, &[false])] {
            let Search::Executed(executed) = search(&connection, &table, id(number), first) else {
                panic!("{number}");
            };
            assert_eq!(executed.batch, [3, 4]);
            for (place, &done) in done.iter().enumerate() {
                assert_eq!(executed.is_done(place), done, "{number}, {place}");
            }
        }
        let other = search(&connection, &table, id(4), first);
        assert_eq!(other, Search::NotExecuted);
        assert_eq!(search(&connection, &table, id(4), 0), Search::NotExecuted);
    }

    #[test]
    fn a_table_that_does_not_reach_back_is_not_believed() {
        let (connection, table, first) = created_table();
        for number in 1..2000 {
            let executed = [(id(1), &[true][..])];
            BatchTable::record(&connection, first + number, [0; 2], executed).unwrap();
        }
        for (since, expected) in [
            (0, Search::Unknown),
            (first, Search::Unknown),
            (first + 100, Search::Unknown),
            (first + 1999, Search::NotExecuted),
            (first + 3000, Search::Unknown),
        ] {
            assert_eq!(
                search(&connection, &table, id(9), since),
                expected,
                "{since}"
            );
        }
        // A row of somebody else does not make it reach back.
        let sql = "INSERT INTO _penholder_batch VALUES (-1, x'', x'')";
        connection.execute(sql, []).unwrap();
        assert_eq!(search(&connection, &table, id(9), first), Search::Unknown);
    }

    #[test]
    fn a_table_that_was_dropped_is_not_believed() {
        let (connection, table, first) = created_table();
        connection
            .execute("DROP TABLE _penholder_batch", [])
            .unwrap();
        assert_eq!(search(&connection, &table, id(1), first), Search::Unknown);
        table.create(&connection, [5, 6]).unwrap();
        assert_eq!(search(&connection, &table, id(1), first), Search::Unknown);
        assert!(table.newest(&connection).unwrap() > first);
    }

    /// The schema may change at any time.
    #[test]
    fn a_trigger_that_is_added_later_is_seen() {
        let (connection, table, _) = created_table();
        let sql = "CREATE TRIGGER t BEFORE INSERT ON _PENHOLDER_batch BEGIN SELECT 1; END";
        connection.execute(sql, []).unwrap();
        let Err(TableError::Foreign(foreign)) = table.newest(&connection) else {
            panic!("not seen");
        };
        assert_eq!(foreign.remedy, "DROP TRIGGER \"t\"");
        connection.execute(&foreign.remedy, []).unwrap();
        assert!(table.newest(&connection).is_ok());
    }
}
