//! The tokens of SQL, for the programs of this project that have to read it. No part of the API.

use std::borrow::Cow;

/// A part of SQL that SQLite reads as one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    /// Where it begins, in bytes.
    pub start: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
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
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// What it stands for: a text or a name without its quotes.
    pub fn value(&self) -> Cow<'a, str> {
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
pub struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub fn of(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    /// The tokens of the statement itself: without blanks and semicolons.
    pub fn significant(sql: &'a str) -> impl Iterator<Item = Token<'a>> {
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
    fn tokens_make_up_the_text() {
        let sql = "\u{feff}SELECT 'a\n;''', \"b\"/* c */;\r\n-- d\nx'00'[e;]";
        let joined: String = Tokens::of(sql).map(|token| token.text).collect();
        assert_eq!(joined, sql);
        assert!(Tokens::of(sql).all(|token| sql[token.start..].starts_with(token.text)));
    }
}
