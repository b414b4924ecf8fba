//! A script of SQL: its statements, and the lines on which they begin. No part of the API.

use std::ffi::c_int;

use crate::sql_tokens::{Token, TokenKind, Tokens};

/// One statement of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptStatement<'a> {
    /// From its first word, with what ends it.
    pub sql: &'a str,
    /// Counted from 1.
    pub number: usize,
    /// The line of the script on which it begins, from 1.
    pub line: usize,
}

impl ScriptStatement<'_> {
    /// Its name in a message.
    pub fn place(&self) -> String {
        format!("statement {}, line {}", self.number, self.line)
    }

    /// What SQLite says of the text at this byte of the statement, with the line.
    pub fn at_line(&self, message: &str, offset: c_int) -> String {
        let line = self.line_of(usize::try_from(offset).unwrap_or(0));
        match line == self.line {
            true => message.to_owned(),
            false => format!("{message} in line {line}"),
        }
    }

    /// The line of the script that has this byte of the statement.
    fn line_of(&self, offset: usize) -> usize {
        let before = self.sql.as_bytes().iter().take(offset);
        self.line + before.filter(|&&byte| byte == b'\n').count()
    }
}

/// Splits a script into its statements, as the shell of SQLite does.
pub fn statements(sql: &str) -> Vec<ScriptStatement<'_>> {
    let mut found = Vec::new();
    let mut lines = Lines::of(sql);
    let mut ending = Ending::Start;
    let mut start = None;
    for token in Tokens::of(sql) {
        ending = ending.after(&token);
        if start.is_none() && !matches!(token.kind, TokenKind::Blank | TokenKind::Semicolon) {
            start = Some(token.start);
        }
        if ending == Ending::Start
            && let Some(begin) = start
            && token.kind == TokenKind::Semicolon
        {
            found.push(lines.statement(found.len(), begin, token.start + 1));
            start = None;
        }
    }
    if let Some(begin) = start {
        found.push(lines.statement(found.len(), begin, sql.len()));
    }
    found
}

/// Counts lines from one statement to the next.
struct Lines<'a> {
    sql: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn of(sql: &'a str) -> Self {
        Self {
            sql,
            at: 0,
            line: 1,
        }
    }

    fn statement(&mut self, before: usize, start: usize, end: usize) -> ScriptStatement<'a> {
        let skipped = &self.sql.as_bytes()[self.at..start];
        self.line += skipped.iter().filter(|&&byte| byte == b'\n').count();
        self.at = start;
        ScriptStatement {
            sql: &self.sql[start..end],
            number: before + 1,
            line: self.line,
        }
    }
}

/// Where a statement ends: at a semicolon, but a trigger at the one after its `END`. It is the
/// state machine of `sqlite3_complete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Between statements.
    Start,
    /// In a statement that ends at the next semicolon.
    Plain,
    /// After `EXPLAIN`, which a trigger may follow.
    Explain,
    /// After `CREATE`, or `CREATE TEMP`.
    Create,
    /// In a trigger.
    Trigger,
    /// In a trigger, after a semicolon.
    TriggerStatement,
    /// In a trigger, after `; END`.
    TriggerEnd,
}

impl Ending {
    fn after(self, token: &Token<'_>) -> Self {
        let is = |keyword| token.is(keyword);
        match (self, token.kind) {
            (state, TokenKind::Blank) => state,
            (Self::Trigger | Self::TriggerStatement, TokenKind::Semicolon) => {
                Self::TriggerStatement
            }
            (_, TokenKind::Semicolon) => Self::Start,
            (Self::Start, _) if is("EXPLAIN") => Self::Explain,
            (Self::Start | Self::Explain, _) if is("CREATE") => Self::Create,
            (Self::Explain, _) if is("QUERY") || is("PLAN") => Self::Explain,
            (Self::Create, _) if is("TEMP") || is("TEMPORARY") => Self::Create,
            (Self::Create, _) if is("TRIGGER") => Self::Trigger,
            (Self::TriggerStatement, _) if is("END") => Self::TriggerEnd,
            (Self::Trigger | Self::TriggerStatement | Self::TriggerEnd, _) => Self::Trigger,
            _ => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(sql: &str) -> Vec<(usize, &str)> {
        statements(sql)
            .into_iter()
            .map(|one| (one.line, one.sql))
            .collect()
    }

    #[test]
    fn each_statement_is_found_with_its_line() {
        let sql = "-- a; b\r\n\r\nSELECT 1; SELECT\n'a;\n''b';;\n/* c\n; */ SELECT \"d;\" -- e\n";
        let expected = [
            (3, "SELECT 1;"),
            (3, "SELECT\n'a;\n''b';"),
            (7, "SELECT \"d;\" -- e\n"),
        ];
        assert_eq!(split(sql), expected);
        assert!(split(" ;\n; -- a").is_empty());
    }

    #[test]
    fn a_trigger_ends_after_its_end() {
        let trigger = "create temp TRIGGER t AFTER INSERT ON a BEGIN\n\
                       UPDATE a SET b = CASE WHEN 1 THEN 2 END; SELECT 'END;'; END /* x */ ;";
        let sql = format!("{trigger} SELECT 1; EXPLAIN QUERY PLAN {trigger}SELECT 2");
        let found: Vec<_> = split(&sql).into_iter().map(|(_, sql)| sql).collect();
        let explained = format!("EXPLAIN QUERY PLAN {trigger}");
        assert_eq!(found, [trigger, "SELECT 1;", &explained, "SELECT 2"]);
    }

    #[test]
    fn the_line_of_an_error_is_found() {
        let sql = "SELECT 1;\nSELECT\n  2,\n  oops";
        let last = statements(sql)[1];
        assert_eq!(
            (last.place(), last.line_of(12)),
            ("statement 2, line 2".to_owned(), 4)
        );
    }
}
