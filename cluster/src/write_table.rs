//! The table of the writes that were executed, because of which a write that is repeated returns its
//! first result.
//!
//! Each write is a transaction that also inserts its key here. If the key is there already, that
//! fails, and all of it is rolled back. The table keeps the last [`KEPT`] writes. Each key says how
//! many there had been when it was made, so a key is refused if its row may have been deleted since: it
//! is *forgotten*, and is never executed again.

use std::borrow::Cow;
use std::collections::HashMap;

use hiqlite::Param;
use hiqlite::rusqlite::{self, Connection, OptionalExtension};

use crate::statement_kind::StatementKind;
use crate::wire::{FailureKind, Key, Sequence, WireExecuted, WireValue, Write};

/// How many writes are remembered.
pub(crate) const KEPT: i64 = 200_000;
/// What an error says if a key is refused.
pub(crate) const FORGOTTEN: &str = "_penholder_forgotten";
/// What an error says if a key is there already.
pub(crate) const KEY: &str = "_penholder_write.key";
/// How many statements one write has at most: each has two values in the row.
pub(crate) const STATEMENTS_MAX: usize = 10_000;

/// Asks for the number of the last write.
pub(crate) const LAST: &str = "SELECT coalesce(max(number), 0) AS number FROM _penholder_write";

/// Creates the table.
pub(crate) fn schema() -> Vec<String> {
    vec![
        "CREATE TABLE IF NOT EXISTS _penholder_write(number INTEGER PRIMARY KEY, \
         key BLOB NOT NULL UNIQUE, made_at INTEGER NOT NULL, result TEXT NOT NULL)"
            .to_owned(),
        format!(
            "CREATE TRIGGER IF NOT EXISTS _penholder_refuse BEFORE INSERT ON _penholder_write \
             WHEN NEW.made_at < (SELECT max(number) FROM _penholder_write) - {KEPT} \
             BEGIN SELECT RAISE(ABORT, '{FORGOTTEN}'); END"
        ),
        format!(
            "CREATE TRIGGER IF NOT EXISTS _penholder_forget AFTER INSERT ON _penholder_write \
             BEGIN DELETE FROM _penholder_write WHERE number <= NEW.number - {KEPT}; END"
        ),
    ]
}

/// Whether the table is there.
pub(crate) fn is_there(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) = 3 FROM sqlite_schema WHERE name IN \
               ('_penholder_write', '_penholder_refuse', '_penholder_forget')";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Returns how many writes there have been.
pub(crate) fn sequence(connection: &Connection) -> rusqlite::Result<Sequence> {
    let sql = "SELECT max(number) FROM _penholder_write";
    let mut statement = connection.prepare_cached(sql)?;
    let number: Option<i64> = statement.query_row([], |row| row.get(0))?;
    Ok(Sequence(number.unwrap_or(0)))
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Recorded {
    Executed(Vec<WireExecuted>),
    /// It failed when it was repeated, and is not executed any more.
    Failed {
        kind: FailureKind,
        text: String,
    },
}

/// How many values are in one array of a result: a function of SQLite has 1000 arguments at most.
const CHUNK: usize = 400;

/// A statement for the engine.
pub(crate) type Sql = Cow<'static, str>;

const INSERT: &str = "INSERT INTO _penholder_write(key, made_at, result) VALUES (?1, ?2, '')";
/// Asks for what the statement before did.
const PROBE: &str = "SELECT changes(), last_insert_rowid()";
/// What the statement before did, in a statement of its own: the columns of [`PROBE`].
const DONE: [&str; 2] = ["changes()", "last_insert_rowid()"];

/// Adds the statements of a write, with those that record it, to the ones of a transaction.
///
/// The row with its key is the first, so that a repeated write fails there, and so that `changes()` and
/// `last_insert_rowid()` have the same value on every node when its own statements begin: they
/// are of the connection, which each node opens at another time. The statement that records the result is
/// the last, and sees what the one before it did; after each other statement of the client comes a query
/// for that, which changes neither.
pub(crate) fn add(
    transaction: &mut Vec<(Sql, Vec<Param>)>,
    write: &Write,
    kinds: &[StatementKind],
) {
    let key = Param::Blob(write.key.0.to_vec());
    let made_at = Param::Integer(write.made_at.0);
    transaction.push((INSERT.into(), vec![key.clone(), made_at]));
    let mut record = Record {
        params: vec![key],
        results: Vec::new(),
    };
    let mut statements = write.statements.iter().zip(kinds).peekable();
    while let Some((statement, &kind)) = statements.next() {
        let former = (kind == StatementKind::Upsert).then(|| probe(transaction));
        let values = statement.values.iter().cloned().map(param).collect();
        transaction.push((statement.sql.clone().into(), values));
        if !kind.changes_rows() {
            record.results.push("0, NULL".to_owned());
            continue;
        }
        let after = statements.peek().map(|_| probe(transaction));
        record.add(kind, former, after);
    }
    transaction.push(record.statement());
}

/// Adds a query for what the statement before did, unless there is one, and returns its place.
fn probe(transaction: &mut Vec<(Sql, Vec<Param>)>) -> usize {
    if transaction.last().is_none_or(|(sql, _)| sql != PROBE) {
        transaction.push((PROBE.into(), Vec::new()));
    }
    transaction.len() - 1
}

/// The statement that records the result of a write.
struct Record {
    params: Vec<Param>,
    /// Two values for each statement of the write, in SQL.
    results: Vec<String>,
}

impl Record {
    /// Adds what a statement did, by the probes before and after it. Without one after it, it is the
    /// last.
    fn add(&mut self, kind: StatementKind, former: Option<usize>, after: Option<usize>) {
        let changes = self.value(after, 0);
        let rowid = match kind {
            StatementKind::Insert => self.value(after, 1),
            // It may have updated, and then the rowid is that of another statement.
            StatementKind::Upsert => {
                let rowid = self.value(after, 1);
                format!("nullif({rowid}, {})", self.value(former, 1))
            }
            _ => "NULL".to_owned(),
        };
        self.results.push(format!("{changes}, {rowid}"));
    }

    /// Returns a column of a probe, in SQL.
    fn value(&mut self, probe: Option<usize>, column: usize) -> String {
        let Some(place) = probe else {
            return DONE[column].to_owned();
        };
        self.params.push(Param::StmtOutputIndexed(place, column));
        format!("?{}", self.params.len())
    }

    fn statement(self) -> (Sql, Vec<Param>) {
        let arrays: Vec<String> = self
            .results
            .chunks(CHUNK / 2)
            .map(|chunk| format!("json_array({})", chunk.join(", ")))
            .collect();
        let update = format!(
            "UPDATE _penholder_write SET result = json_array({}) WHERE key = ?1",
            arrays.join(", ")
        );
        (update.into(), self.params)
    }
}

/// Returns the transaction that records that a write failed.
pub(crate) fn failed(write: &Write, kind: FailureKind, text: &str) -> (Sql, Vec<Param>) {
    let insert = "INSERT INTO _penholder_write(key, made_at, result) VALUES (?1, ?2, ?3)";
    let result = serde_json::json!({ "kind": kind, "text": text }).to_string();
    let values = vec![
        Param::Blob(write.key.0.to_vec()),
        Param::Integer(write.made_at.0),
        Param::Text(result),
    ];
    (insert.into(), values)
}

/// What is recorded of some writes, and how many writes there have been.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) recorded: Vec<Option<Recorded>>,
    pub(crate) sequence: Sequence,
}

/// Returns what became of some writes, most of which are probably the last ones.
pub(crate) fn find_all(connection: &Connection, keys: &[Key]) -> rusqlite::Result<Found> {
    // Without a limit in it: SQLite prepares a statement again for each value of one.
    let sql = "SELECT number, key, result FROM _penholder_write ORDER BY number DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let (mut last, mut sequence) = (HashMap::new(), Sequence(0));
    while last.len() < keys.len()
        && let Some(row) = rows.next()?
    {
        sequence = sequence.max(Sequence(row.get(0)?));
        last.insert(Key(row.get(1)?), row.get::<_, String>(2)?);
    }
    let recorded = keys.iter().map(|&key| match last.remove(&key) {
        Some(result) => recorded_of(&result).map(Some),
        None => find(connection, key),
    });
    Ok(Found {
        recorded: recorded.collect::<rusqlite::Result<_>>()?,
        sequence,
    })
}

/// Returns what became of a write, if it is recorded.
fn find(connection: &Connection, key: Key) -> rusqlite::Result<Option<Recorded>> {
    let sql = "SELECT result FROM _penholder_write WHERE key = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([&key.0[..]], |row| row.get::<_, String>(0));
    let found = found.optional()?;
    found.as_deref().map(recorded_of).transpose()
}

fn recorded_of(result: &str) -> rusqlite::Result<Recorded> {
    parse(result).ok_or(rusqlite::Error::InvalidQuery)
}

/// Returns a number that is greater after each change of the schema, also if a snapshot is installed.
pub(crate) fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("PRAGMA schema_version")?;
    statement.query_row([], |row| row.get(0))
}

/// Returns whether a constraint may be checked at the end of a transaction only: then another write in it
/// may decide whether this one fails.
pub(crate) fn has_deferred(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE sql LIKE '%DEFERRED%'";
    connection.query_row(sql, [], |row| row.get(0))
}

fn parse(result: &str) -> Option<Recorded> {
    if result.starts_with('{') {
        #[derive(serde::Deserialize)]
        struct Failed {
            kind: FailureKind,
            text: String,
        }
        let Failed { kind, text } = serde_json::from_str(result).ok()?;
        return Some(Recorded::Failed { kind, text });
    }
    let arrays: Vec<Vec<Option<i64>>> = serde_json::from_str(result).ok()?;
    let executed = |pair: &[Option<i64>]| {
        let rows_changed = u64::try_from(pair.first().copied()??).ok()?;
        let rowid = pair.get(1).copied()?;
        Some(WireExecuted {
            rows_changed,
            last_insert_rowid: rowid.filter(|_| rows_changed > 0),
        })
    };
    let pairs = arrays.iter().flat_map(|array| array.chunks(2));
    pairs
        .map(executed)
        .collect::<Option<_>>()
        .map(Recorded::Executed)
}

fn param(value: WireValue) -> Param {
    match value {
        WireValue::Null => Param::Null,
        WireValue::Integer(value) => Param::Integer(value),
        WireValue::Real(value) => Param::Real(value),
        WireValue::Text(value) => Param::Text(value),
        WireValue::Blob(value) => Param::Blob(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(connection: &Connection, key: u8, made_at: i64) -> Result<usize, String> {
        let sql = "INSERT INTO _penholder_write(key, made_at, result) VALUES (?1, ?2, '[[1,7]]')";
        let done = connection.execute(sql, (vec![key; 16], made_at));
        done.map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_whose_row_may_be_deleted_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        assert!(!is_there(&connection).unwrap());
        for _ in 0..2 {
            for sql in schema() {
                connection.execute(&sql, []).unwrap();
            }
        }
        assert!(is_there(&connection).unwrap());
        assert_eq!(sequence(&connection).unwrap(), Sequence(0));
        insert(&connection, 1, 0).unwrap();
        assert!(insert(&connection, 1, 0).unwrap_err().contains("UNIQUE"));
        let found = find(&connection, Key([1; 16])).unwrap().unwrap();
        let executed = WireExecuted {
            rows_changed: 1,
            last_insert_rowid: Some(7),
        };
        assert_eq!(found, Recorded::Executed(vec![executed]));
        assert_eq!(find(&connection, Key([2; 16])).unwrap(), None);

        // As if many writes came in between.
        let sql = "UPDATE _penholder_write SET number = number + ?1";
        connection.execute(sql, [KEPT]).unwrap();
        insert(&connection, 2, 1).unwrap();
        assert_eq!(sequence(&connection).unwrap(), Sequence(KEPT + 2));
        connection
            .execute("DELETE FROM _penholder_write WHERE number = ?1", [KEPT + 1])
            .unwrap();
        for (key, made_at) in [(1, 0), (3, 1)] {
            let refused = insert(&connection, key, made_at).unwrap_err();
            assert!(refused.contains(FORGOTTEN), "{refused}");
        }
        insert(&connection, 3, 2).unwrap();
    }

    #[test]
    fn writes_are_found_whether_they_are_the_last_ones_or_not() {
        let connection = prepared();
        for key in 1..=5 {
            insert(&connection, key, 0).unwrap();
        }
        let found = find_all(&connection, &[5, 1, 9, 4].map(|key| Key([key; 16]))).unwrap();
        let are_there: Vec<bool> = found.recorded.iter().map(Option::is_some).collect();
        assert_eq!(are_there, [true, true, false, true]);
        assert_eq!(found.sequence, Sequence(5));
    }

    #[test]
    fn a_changed_schema_has_a_greater_version() {
        let connection = prepared();
        let before = schema_version(&connection).unwrap();
        connection.execute("CREATE TABLE t(a)", []).unwrap();
        assert!(schema_version(&connection).unwrap() > before);
    }

    #[test]
    fn no_more_rows_are_kept_than_said() {
        let connection = Connection::open_in_memory().unwrap();
        for sql in schema() {
            connection.execute(&sql, []).unwrap();
        }
        insert(&connection, 1, 0).unwrap();
        let sql = "UPDATE _penholder_write SET number = ?1";
        connection.execute(sql, [KEPT - 1]).unwrap();
        insert(&connection, 2, KEPT - 1).unwrap();
        insert(&connection, 3, KEPT - 1).unwrap();
        let count = |key: u8| find(&connection, Key([key; 16])).unwrap().is_some();
        assert!(count(1) && count(2) && count(3));
        connection
            .execute(
                "UPDATE _penholder_write SET number = 1 WHERE number = ?1",
                [KEPT - 1],
            )
            .unwrap();
        insert(&connection, 4, KEPT).unwrap();
        assert!(!count(1) && count(2) && count(3) && count(4));
    }

    #[test]
    fn a_result_that_is_not_one_is_none() {
        assert_eq!(parse("[]"), Some(Recorded::Executed(Vec::new())));
        for text in [
            "",
            "[1]",
            "[[1]]",
            "[[-1,2]]",
            "[[null,2]]",
            "{}",
            "[[1,2,3]]",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// As the engine runs it.
    fn run(connection: &mut Connection, transaction: &[(Sql, Vec<Param>)]) -> Result<(), String> {
        let running = connection.transaction().unwrap();
        let mut rows: Vec<Option<Vec<rusqlite::types::Value>>> = Vec::new();
        for (sql, params) in transaction {
            let mut statement = running.prepare(sql).map_err(|error| error.to_string())?;
            for (index, param) in params.iter().enumerate() {
                use rusqlite::types::Value;
                let value = match param {
                    Param::Null => Value::Null,
                    Param::Integer(value) => Value::Integer(*value),
                    Param::Real(value) => Value::Real(*value),
                    Param::Text(value) => Value::Text(value.clone()),
                    Param::Blob(value) => Value::Blob(value.clone()),
                    Param::StmtOutputIndexed(at, column) => {
                        rows[*at].as_ref().unwrap()[*column].clone()
                    }
                    Param::StmtOutputNamed(..) => unreachable!(),
                };
                statement.raw_bind_parameter(index + 1, value).unwrap();
            }
            if statement.column_count() == 0 {
                statement.raw_execute().map_err(|error| error.to_string())?;
                rows.push(None);
                continue;
            }
            let mut found = statement.raw_query();
            let row = found.next().unwrap().unwrap();
            rows.push(Some(vec![row.get(0).unwrap(), row.get(1).unwrap()]));
        }
        running.commit().map_err(|error| error.to_string())
    }

    fn write_of(key: u8, sql: &[&str]) -> (Write, Vec<StatementKind>) {
        let statement = |sql: &&str| crate::wire::Statement {
            sql: (*sql).to_owned(),
            values: Vec::new(),
        };
        let write = Write {
            key: Key([key; 16]),
            made_at: Sequence(0),
            statements: sql.iter().map(statement).collect(),
            within: 0,
            is_repeated: false,
        };
        (
            write,
            sql.iter().map(|sql| StatementKind::of(sql)).collect(),
        )
    }

    fn prepared() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for sql in schema() {
            connection.execute(&sql, []).unwrap();
        }
        connection
    }

    #[test]
    fn each_write_of_a_shared_transaction_has_its_own_result() {
        let mut connection = prepared();
        let one = write_of(
            1,
            &[
                "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)",
                "INSERT INTO t(a) VALUES ('x')",
                "INSERT INTO t(a) VALUES (last_insert_rowid())",
            ],
        );
        let other = write_of(
            2,
            &[
                "INSERT INTO t(a) VALUES ('x') ON CONFLICT DO UPDATE SET a = 'y'",
                "UPDATE t SET a = 'z' WHERE changes() = 1 AND id = 2",
                "DELETE FROM t WHERE 0",
            ],
        );
        let mut transaction = Vec::new();
        for (write, kinds) in [&one, &other] {
            add(&mut transaction, write, kinds);
        }
        run(&mut connection, &transaction).unwrap();
        let of = |key: u8| match find(&connection, Key([key; 16])).unwrap().unwrap() {
            Recorded::Executed(executed) => executed
                .iter()
                .map(|one| (one.rows_changed, one.last_insert_rowid))
                .collect::<Vec<_>>(),
            failed => panic!("{failed:?}"),
        };
        assert_eq!(of(1), [(0, None), (1, Some(1)), (1, Some(2))]);
        assert_eq!(of(2), [(1, None), (1, None), (0, None)]);
        assert!(
            run(&mut connection, &transaction)
                .unwrap_err()
                .contains("_penholder_write.key")
        );
    }

    #[test]
    fn a_write_of_one_statement_needs_no_query() {
        let mut connection = prepared();
        connection
            .execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a)", [])
            .unwrap();
        let mut transaction = Vec::new();
        for (key, sql) in [
            (1, "INSERT INTO t(a) VALUES (1), (2)"),
            (2, "UPDATE t SET a = 3"),
            (3, "INSERT INTO t(a) SELECT 1 WHERE 0"),
        ] {
            let (write, kinds) = write_of(key, &[sql]);
            add(&mut transaction, &write, &kinds);
        }
        assert_eq!(transaction.len(), 3 * 3);
        run(&mut connection, &transaction).unwrap();
        let of = |key: u8| match find(&connection, Key([key; 16])).unwrap().unwrap() {
            Recorded::Executed(executed) => {
                (executed[0].rows_changed, executed[0].last_insert_rowid)
            }
            failed => panic!("{failed:?}"),
        };
        assert_eq!([of(1), of(2), of(3)], [(2, Some(2)), (2, None), (0, None)]);
    }

    #[test]
    fn the_longest_batch_has_its_results() {
        let mut connection = prepared();
        connection.execute("CREATE TABLE t(a)", []).unwrap();
        let (write, kinds) = write_of(1, &["INSERT INTO t VALUES (1)"; STATEMENTS_MAX]);
        let mut transaction = Vec::new();
        add(&mut transaction, &write, &kinds);
        run(&mut connection, &transaction).unwrap();
        let Some(Recorded::Executed(executed)) = find(&connection, write.key).unwrap() else {
            panic!("it is not recorded");
        };
        assert_eq!(executed.len(), STATEMENTS_MAX);
        assert_eq!(executed[STATEMENTS_MAX - 1].last_insert_rowid, Some(10_000));
    }

    #[test]
    fn a_write_that_is_recorded_as_failed_is_not_executed() {
        let mut connection = prepared();
        let (write, kinds) = write_of(1, &["CREATE TABLE t(a)"]);
        let text = "UNIQUE constraint failed: \"t\".a";
        let recorded = failed(&write, FailureKind::Constraint, text);
        run(&mut connection, &[recorded]).unwrap();
        let mut transaction = Vec::new();
        add(&mut transaction, &write, &kinds);
        assert!(run(&mut connection, &transaction).is_err());
        let kind = FailureKind::Constraint;
        let expected = Recorded::Failed {
            kind,
            text: text.to_owned(),
        };
        assert_eq!(find(&connection, write.key).unwrap(), Some(expected));
    }
}
