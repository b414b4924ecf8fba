//! Reading SQL: the little of its syntax that this crate has to know.
//!
//! Only the beginning of a statement is read. A statement that is not recognised is treated
//! with more care, which is slower and also correct.

use std::borrow::Cow;

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
pub(crate) fn may_change_connection(sql: &str, kind: StatementKind) -> bool {
    const OF_THE_DATABASE: [&str; 6] = ["CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE", "WITH"];
    if kind != StatementKind::Other {
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

/// The words of a statement: its names without their quotes, and each other sign.
#[derive(Debug, Clone)]
pub(crate) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// Begins after white space, comments and semicolons, which SQLite skips too.
    pub(crate) fn of(sql: &'a str) -> Self {
        let mut rest = skip_blanks(sql);
        while let Some(after) = rest.strip_prefix(';') {
            rest = skip_blanks(after);
        }
        Self { rest }
    }

    /// Takes a name in quotes, which are doubled within it.
    fn take_quoted(&mut self, end: char) -> Cow<'a, str> {
        let inner = &self.rest[1..];
        let mut at = 0;
        let length = loop {
            let Some(found) = inner[at..].find(end) else {
                break inner.len();
            };
            at += found + 1;
            if end == ']' || !inner[at..].starts_with(end) {
                break at - 1;
            }
            at += 1;
        };
        self.rest = inner.get(length + 1..).unwrap_or_default();
        let name = &inner[..length];
        if end == ']' || !name.contains(end) {
            return Cow::Borrowed(name);
        }
        Cow::Owned(name.replace(&format!("{end}{end}"), &end.to_string()))
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Cow<'a, str>> {
        self.rest = skip_blanks(self.rest);
        let first = self.rest.chars().next()?;
        match first {
            '"' | '\'' | '`' => return Some(self.take_quoted(first)),
            '[' => return Some(self.take_quoted(']')),
            _ => {}
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        let length = match self.rest.find(|c| !is_name(c)) {
            Some(0) => first.len_utf8(),
            Some(end) => end,
            None => self.rest.len(),
        };
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(Cow::Borrowed(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_statement_are_found() {
        let words = |sql| Words::of(sql).collect::<Vec<_>>();
        assert_eq!(
            words(";/* a */PRAGMA main.\"a\"\"b\"=-1 -- c"),
            ["PRAGMA", "main", ".", "a\"b", "=", "-", "1"]
        );
        assert_eq!(words("[a]]'b''c'`d`ä\"e"), ["a", "]", "b'c", "d", "ä", "e"]);
        assert!(words(" ; -- a").is_empty());
    }

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
            let kind = StatementKind::of(sql);
            assert!(may_change_connection(sql, kind), "{sql}");
        }
        for sql in [
            "INSERT INTO temp.a VALUES (1)",
            "create table a(a)",
            "DROP TABLE a",
            "WITH a AS (SELECT 1) DELETE FROM b",
        ] {
            let kind = StatementKind::of(sql);
            assert!(!may_change_connection(sql, kind), "{sql}");
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
