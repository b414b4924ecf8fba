//! The table of the writes that were executed, because of which a write that is repeated returns its
//! first result.
//!
//! Each write is a transaction that also inserts its key here. If the key is there already, that
//! fails, and all of it is rolled back. The table keeps the last [`KEPT`] writes. Each key says how
//! many there had been when it was made, so a key is refused if its row may have been deleted since: it
//! is *forgotten*, and is never executed again.

use hiqlite::Param;
use hiqlite::rusqlite::{Connection, OptionalExtension};

use crate::statement_kind::StatementKind;
use crate::wire::{Key, Sequence, WireExecuted, WireValue, Write};

/// How many writes are remembered.
pub(crate) const KEPT: i64 = 200_000;
/// What an error says if a key is refused.
pub(crate) const FORGOTTEN: &str = "_penholder_forgotten";
/// How many statements one write has at most: each has two values in the row.
pub(crate) const STATEMENTS_MAX: usize = 10_000;

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
pub(crate) fn is_there(connection: &Connection) -> hiqlite::rusqlite::Result<bool> {
    let sql = "SELECT count(*) = 3 FROM sqlite_schema WHERE name IN \
               ('_penholder_write', '_penholder_refuse', '_penholder_forget')";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Returns how many writes there have been.
pub(crate) fn sequence(connection: &Connection) -> hiqlite::rusqlite::Result<Sequence> {
    let sql = "SELECT max(number) FROM _penholder_write";
    let number: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(Sequence(number.unwrap_or(0)))
}

/// Adds the statements of a write, with those that record it, to the ones of a transaction.
///
/// After each statement of the client comes a query for what it did, which changes nothing, so that
/// `changes()` and `last_insert_rowid()` of the next one are as the client expects.
pub(crate) fn add(
    transaction: &mut Vec<(String, Vec<Param>)>,
    write: &Write,
    kinds: &[StatementKind],
) {
    let mut recorded = vec![
        Param::Blob(write.key.0.to_vec()),
        Param::Integer(write.made_at.0),
    ];
    for (statement, kind) in write.statements.iter().zip(kinds) {
        let values = statement.values.iter().cloned().map(param).collect();
        transaction.push((statement.sql.clone(), values));
        if !kind.changes_rows() {
            recorded.extend([Param::Integer(0), Param::Null]);
            continue;
        }
        let asked = transaction.len();
        transaction.push((
            "SELECT changes(), last_insert_rowid()".to_owned(),
            Vec::new(),
        ));
        recorded.push(Param::StmtOutputIndexed(asked, 0));
        recorded.push(match kind {
            StatementKind::Insert => Param::StmtOutputIndexed(asked, 1),
            _ => Param::Null,
        });
    }
    let places: Vec<String> = (3..=recorded.len())
        .map(|place| format!("?{place}"))
        .collect();
    let insert = format!(
        "INSERT INTO _penholder_write(key, made_at, result) VALUES (?1, ?2, json_array({}))",
        places.join(", ")
    );
    transaction.push((insert, recorded));
}

/// Returns what a write did, if it is recorded.
pub(crate) fn find(
    connection: &Connection,
    key: Key,
) -> hiqlite::rusqlite::Result<Option<Vec<WireExecuted>>> {
    let sql = "SELECT result FROM _penholder_write WHERE key = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([&key.0[..]], |row| row.get::<_, String>(0));
    Ok(found.optional()?.and_then(|result| parse(&result)))
}

fn parse(result: &str) -> Option<Vec<WireExecuted>> {
    let numbers: Vec<Option<i64>> = serde_json::from_str(result).ok()?;
    let executed = |pair: &[Option<i64>]| {
        let rows_changed = u64::try_from(pair.first().copied()??).ok()?;
        let rowid = pair.get(1).copied()?;
        Some(WireExecuted {
            rows_changed,
            last_insert_rowid: rowid.filter(|_| rows_changed > 0),
        })
    };
    numbers.chunks(2).map(executed).collect()
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
        let sql = "INSERT INTO _penholder_write(key, made_at, result) VALUES (?1, ?2, '[1,7]')";
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
        assert_eq!(
            found,
            [WireExecuted {
                rows_changed: 1,
                last_insert_rowid: Some(7)
            }]
        );
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
        assert_eq!(parse("[]"), Some(Vec::new()));
        for text in ["", "[1]", "[-1,2]", "[null,2]", "{}", "[1,2,3]"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
