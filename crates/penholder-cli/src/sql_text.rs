//! The text of SQL, as far as the command has to read it: its tokens.

use std::borrow::Cow;

/// A part of SQL that SQLite reads as one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a str,
    /// Where it begins, in bytes.
    pub(crate) start: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// White space or a comment.
    Blank,
    Semicolon,
    /// A name, a keyword or a number, without quotes.
    Word,
    /// A text or a name in quotes.
    Quoted,
    /// Any other character.
    Sign,
}

impl<'a> Token<'a> {
    /// Whether it is this keyword.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// What it stands for: a text or a name without its quotes.
    pub(crate) fn value(&self) -> Cow<'a, str> {
        let Some(quote) = self.text.chars().next() else {
            return Cow::Borrowed(self.text);
        };
        if self.kind != TokenKind::Quoted {
            return Cow::Borrowed(self.text);
        }
        let end = if quote == '[' { ']' } else { quote };
        let inner = &self.text[1..];
        let inner = inner.strip_suffix(end).unwrap_or(inner);
        if end == ']' || !inner.contains(end) {
            return Cow::Borrowed(inner);
        }
        let doubled: String = [end, end].iter().collect();
        Cow::Owned(inner.replace(&doubled, &end.to_string()))
    }
}

/// The tokens of SQL. What SQLite could not read is read as some tokens too.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn of(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    /// The tokens of the statement itself: without blanks and semicolons.
    pub(crate) fn significant(sql: &'a str) -> impl Iterator<Item = Token<'a>> {
        let is_part =
            |token: &Token<'_>| !matches!(token.kind, TokenKind::Blank | TokenKind::Semicolon);
        Self::of(sql).filter(is_part)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = &self.sql[self.at..];
        let (kind, length) = first_token(rest)?;
        let start = self.at;
        self.at += length;
        Some(Token {
            kind,
            text: &rest[..length],
            start,
        })
    }
}

fn first_token(rest: &str) -> Option<(TokenKind, usize)> {
    let first = rest.chars().next()?;
    let until = |end: &str| rest.find(end).map_or(rest.len(), |found| found + end.len());
    Some(match first {
        _ if is_space(first) => {
            let end = rest.find(|c| !is_space(c)).unwrap_or(rest.len());
            (TokenKind::Blank, end)
        }
        '-' if rest.starts_with("--") => (TokenKind::Blank, until("\n")),
        '/' if rest.starts_with("/*") => {
            let end = rest[2..].find("*/").map_or(rest.len(), |found| found + 4);
            (TokenKind::Blank, end)
        }
        ';' => (TokenKind::Semicolon, 1),
        '\'' | '"' | '`' => (TokenKind::Quoted, quoted_length(rest, first)),
        '[' => (TokenKind::Quoted, until("]")),
        _ if is_word(first) => {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (TokenKind::Word, end)
        }
        _ => (TokenKind::Sign, first.len_utf8()),
    })
}

/// The length of what stands in quotes, which are doubled within it.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(found) = rest[at..].find(quote) {
        at += found + 1;
        if !rest[at..].starts_with(quote) {
            return at;
        }
        at += 1;
    }
    rest.len()
}

/// What SQLite skips; it skips a byte order mark too.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0c' | '\r' | '\u{feff}')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || (!c.is_ascii() && c != '\u{feff}')
}

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
    fn text_without_a_statement_is_recognised() {
        for sql in ["", " \n", ";", "-- a", "/* a */ ; ; -- b\n", "\u{feff}"] {
            assert_eq!(Tokens::significant(sql).next(), None, "{sql}");
        }
        for sql in ["; SELECT 1 -- a", "SELECT '--'"] {
            assert!(Tokens::significant(sql).next().is_some(), "{sql}");
        }
    }

    #[test]
    fn tokens_are_found_with_what_they_stand_for() {
        let values = |sql| {
            let found = Tokens::significant(sql);
            found
                .map(|token| token.value().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            values(";/* a;' */PRAGMA main.\"a\"\"b\"=-1 -- c;\n+x"),
            ["PRAGMA", "main", ".", "a\"b", "=", "-", "1", "+", "x"]
        );
        assert_eq!(
            values("[a]]'b''c'`d`ä\"e"),
            ["a", "]", "b'c", "d", "ä", "e"]
        );
        assert_eq!(values("/*/ a */ b 'it''s"), ["b", "it's"]);
        assert_eq!(values("'"), [""]);
    }

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

    #[test]
    fn tokens_make_up_the_text() {
        let sql = "\u{feff}SELECT 'a\n;''', \"b\"/* c */;\r\n-- d\nx'00'[e;]";
        let joined: String = Tokens::of(sql).map(|token| token.text).collect();
        assert_eq!(joined, sql);
        assert!(Tokens::of(sql).all(|token| sql[token.start..].starts_with(token.text)));
    }
}
