//! Reading SQL: the little of its syntax that this crate has to know.
//!
//! Only the beginning of a statement is read. A statement that is not recognised is treated
//! with more care, which is slower and also correct.

use crate::data::skip_blanks;

/// What a statement does, by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementKind {
    /// INSERT or REPLACE.
    Insert,
    /// UPDATE or DELETE.
    UpdateOrDelete,
    /// Anything else, and also what begins with WITH.
    Other,
}

impl StatementKind {
    pub(crate) fn of(sql: &str) -> Self {
        let word = first_word(sql);
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        match word.len() {
            6 if is("INSERT") => Self::Insert,
            7 if is("REPLACE") => Self::Insert,
            6 if is("UPDATE") || is("DELETE") => Self::UpdateOrDelete,
            _ => Self::Other,
        }
    }
}

/// Returns whether a statement may change the connection for later statements: a pragma, an
/// attached database, something temporary. A statement that is not recognised may.
pub(crate) fn may_change_connection(sql: &str) -> bool {
    const OF_THE_DATABASE: [&str; 6] = ["CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE", "WITH"];
    if StatementKind::of(sql) != StatementKind::Other {
        return false;
    }
    let word = first_word(sql);
    let is_known = OF_THE_DATABASE
        .iter()
        .any(|keyword| word.eq_ignore_ascii_case(keyword.as_bytes()));
    let is_temporary = || {
        sql.as_bytes()
            .windows(4)
            .any(|four| four.eq_ignore_ascii_case(b"TEMP"))
    };
    !is_known || is_temporary()
}

/// Returns the letters that a statement begins with, after white space and comments.
pub(crate) fn first_word(sql: &str) -> &[u8] {
    let word = skip_blanks(sql).as_bytes();
    let end = word.iter().position(|byte| !byte.is_ascii_alphabetic());
    &word[..end.unwrap_or(word.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_may_change_the_connection_are_recognised() {
        for sql in [
            "PRAGMA recursive_triggers = 1",
            "attach 'a' AS a",
            "CREATE TEMP TABLE a(a)",
            "create temporary trigger a",
            "CREATE TABLE temp.a(a)",
            "DROP TABLE temp.a",
            "SELECT load_extension('a')",
            "/* x */ CREATE TEMP TABLE a(a)",
            "/* x",
            "",
        ] {
            assert!(may_change_connection(sql), "{sql}");
        }
        for sql in [
            "INSERT INTO temp.a VALUES (1)",
            "create table a(a)",
            "DROP TABLE a",
            "WITH a AS (SELECT 1) DELETE FROM b",
        ] {
            assert!(!may_change_connection(sql), "{sql}");
        }
    }

    #[test]
    fn statements_that_write_rows_are_recognised() {
        for sql in [
            "INSERT INTO a",
            "\n replace into a",
            "insert",
            "/* x */--\nINSERT",
        ] {
            assert_eq!(StatementKind::of(sql), StatementKind::Insert, "{sql}");
        }
        for sql in ["  update a", "\nDelete from a"] {
            assert_eq!(
                StatementKind::of(sql),
                StatementKind::UpdateOrDelete,
                "{sql}"
            );
        }
        for sql in [
            "CREATE TABLE a",
            "",
            "INS",
            "INSERTS",
            "/* INSERT",
            "-- INSERT",
            "VACUUM",
            "ä",
        ] {
            assert_eq!(StatementKind::of(sql), StatementKind::Other, "{sql}");
        }
    }
}
