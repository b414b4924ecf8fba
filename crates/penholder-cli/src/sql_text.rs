//! What the command has to know of the text of SQL.

pub(crate) use penholder::sql_tokens::{Token, TokenKind, Tokens};

/// Whether a statement may change rows of tables.
pub(crate) fn changes_rows(sql: &str) -> bool {
    const WORDS: [&str; 5] = ["INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"];
    let first = Tokens::significant(sql).next();
    first.is_some_and(|first| WORDS.iter().any(|word| first.is(word)))
}

/// The table or view of which a statement changes rows. `None` if it begins with `WITH`, or changes
/// no rows.
pub(crate) fn changed_table(sql: &str) -> Option<String> {
    let mut tokens = Tokens::significant(sql);
    let first = tokens.next()?;
    let mut name = if first.is("INSERT") || first.is("REPLACE") {
        tokens.find(|token| token.is("INTO"))?;
        tokens.next()?
    } else if first.is("DELETE") {
        tokens.find(|token| token.is("FROM"))?;
        tokens.next()?
    } else if first.is("UPDATE") {
        let next = tokens.next()?;
        match next.is("OR") {
            true => tokens.nth(1)?,
            false => next,
        }
    } else {
        return None;
    };
    if tokens.next().is_some_and(|token| token.text == ".") {
        name = tokens.next()?;
    }
    Some(name.value().into_owned())
}

/// What a statement does to savepoints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SavepointStep {
    Begin(String),
    Release(String),
    RollBackTo(String),
}

impl SavepointStep {
    /// `None` if the statement does nothing to them. Names are in small letters.
    pub(crate) fn of(sql: &str) -> Option<Self> {
        let mut tokens = Tokens::significant(sql);
        let first = tokens.next()?;
        let make = if first.is("SAVEPOINT") {
            Self::Begin
        } else if first.is("RELEASE") {
            Self::Release
        } else if first.is("ROLLBACK") {
            tokens.find(|token| token.is("TO"))?;
            Self::RollBackTo
        } else {
            return None;
        };
        let (word, name) = (tokens.next()?, tokens.next());
        let name = name.filter(|_| word.is("SAVEPOINT")).unwrap_or(word);
        Some(make(name.value().to_ascii_lowercase()))
    }
}

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_that_is_changed_is_found() {
        for (sql, table) in [
            (
                "insert or replace into main.\"a b\"(c) values (1)",
                Some("a b"),
            ),
            ("REPLACE INTO a SELECT 1", Some("a")),
            ("UPDATE OR IGNORE a SET b = 1", Some("a")),
            ("UPDATE [a] SET b = 1", Some("a")),
            ("DELETE FROM a", Some("a")),
            ("SELECT 1 FROM a", None),
            ("WITH a AS (SELECT 1) DELETE FROM b", None),
        ] {
            assert_eq!(changed_table(sql).as_deref(), table, "{sql}");
        }
    }

    #[test]
    fn what_happens_to_savepoints_is_recognised() {
        use SavepointStep::{Begin, Release, RollBackTo};
        for (sql, step) in [
            ("savepoint A", Begin("a".to_owned())),
            ("SAVEPOINT \"a b\";", Begin("a b".to_owned())),
            ("release savepoint a", Release("a".to_owned())),
            ("RELEASE a", Release("a".to_owned())),
            ("ROLLBACK TO a", RollBackTo("a".to_owned())),
            (
                "ROLLBACK TRANSACTION TO SAVEPOINT a",
                RollBackTo("a".to_owned()),
            ),
        ] {
            assert_eq!(SavepointStep::of(sql), Some(step), "{sql}");
        }
        for sql in ["ROLLBACK", "INSERT INTO savepoint VALUES (1)", ""] {
            assert_eq!(SavepointStep::of(sql), None, "{sql}");
        }
    }
}
