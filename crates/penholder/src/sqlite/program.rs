//! The program that SQLite compiles a statement to, as `EXPLAIN` lists it: whether the statement
//! may keep changes when it fails.
//!
//! It is asked only after a failure. The program contains those of all triggers that the
//! statement may run, so that one trigger with `FAIL` in a schema matters only to statements that
//! reach it. A program that cannot be read is treated with more care.

use rusqlite::{Connection, Row};

/// The conflict clause `FAIL` as SQLite's programs have it.
const FAIL: i64 = 3;

/// Returns whether the statement, a table or a trigger that it writes may use `FAIL`.
pub(crate) fn may_use_fail(connection: &Connection, sql: &str) -> bool {
    any_step(connection, sql, |name, row| {
        Ok(match name {
            "Halt" | "HaltIfNull" => {
                row.get::<_, i64>("p1")? != 0 && row.get::<_, i64>("p2")? == FAIL
            }
            "VUpdate" => row.get::<_, i64>("p5")? == FAIL,
            _ => false,
        })
    })
}

/// Returns whether the statement may run a trigger or write to a virtual table, which write rows
/// that are not its own.
pub(crate) fn may_run_another(connection: &Connection, sql: &str) -> bool {
    any_step(connection, sql, |name, _| {
        Ok(matches!(name, "Program" | "VUpdate"))
    })
}

/// Returns whether a step of the program is such a one, or the program cannot be read.
fn any_step(
    connection: &Connection,
    sql: &str,
    is_such: impl Fn(&str, &Row<'_>) -> rusqlite::Result<bool>,
) -> bool {
    let find = || -> rusqlite::Result<bool> {
        let mut explain = connection.prepare(&format!("EXPLAIN {sql}"))?;
        // It needs no values for its parameters.
        let mut steps = explain.raw_query();
        let mut is_empty = true;
        while let Some(step) = steps.next()? {
            is_empty = false;
            if is_such(step.get_ref("opcode")?.as_str()?, step)? {
                return Ok(true);
            }
        }
        Ok(is_empty)
    };
    find().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let schema = "CREATE TABLE a(k UNIQUE, n NOT NULL CHECK (n > 0));
            CREATE TABLE b(k UNIQUE ON CONFLICT FAIL);
            CREATE TABLE c(k NOT NULL ON CONFLICT FAIL);
            CREATE TABLE told(k UNIQUE);
            CREATE TRIGGER tells AFTER DELETE ON a BEGIN INSERT INTO told VALUES (old.k); END;
            CREATE TRIGGER fails AFTER INSERT ON told BEGIN SELECT RAISE(FAIL, 'no'); END;
            CREATE VIEW d AS SELECT k FROM told;
            CREATE TRIGGER views INSTEAD OF INSERT ON d BEGIN INSERT INTO a VALUES (new.k, 1); END;";
        connection.execute_batch(schema).unwrap();
        connection
    }

    #[test]
    fn a_program_shows_whether_it_may_use_fail() {
        let connection = connection();
        for sql in [
            "INSERT OR FAIL INTO a VALUES (?1, ?2)",
            "INSERT INTO b VALUES (1)",
            "UPDATE c SET k = ?",
            "DELETE FROM a WHERE k = :k",
            "INSERT OR FAIL INTO d VALUES (1)",
            "WITH x AS (SELECT 1) INSERT OR FAIL INTO a SELECT 1, 1 FROM x",
            "this is no SQL",
            "",
        ] {
            assert!(may_use_fail(&connection, sql), "{sql}");
        }
        for sql in [
            "INSERT INTO a VALUES (?1, ?2) RETURNING k",
            "INSERT OR ABORT INTO b VALUES ('FAIL')",
            "UPDATE a SET k = ?",
            "INSERT INTO d VALUES (1)",
        ] {
            assert!(!may_use_fail(&connection, sql), "{sql}");
        }
    }

    #[test]
    fn a_program_shows_whether_it_may_run_another() {
        let connection = connection();
        for sql in ["DELETE FROM a", "INSERT INTO d VALUES (?1)", "no SQL"] {
            assert!(may_run_another(&connection, sql), "{sql}");
        }
        for sql in ["INSERT INTO a VALUES (?1, 1)", "UPDATE a SET k = 1"] {
            assert!(!may_run_another(&connection, sql), "{sql}");
        }
    }
}
