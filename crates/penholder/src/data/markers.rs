//! The parameter markers of a statement: `?`, `?NNN`, `:name`, `@name`, `$name`.
//!
//! They are found in the text, so that a wrong name or count is reported before a call waits
//! for the lock, and before an earlier statement of the same batch runs. The numbering and the
//! tokens are SQLite's (<https://sqlite.org/c3ref/bind_blob.html>, `tokenize.c`); a test
//! compares both.

/// SQLite's default limit of the number in `?NNN`.
const NUMBER_MAX: usize = 32_766;

/// The parameters of one statement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Markers<'a> {
    /// The number of parameters, which is the largest of their numbers.
    pub(super) count: usize,
    /// Each name, with its prefix, and its number, from one on.
    pub(super) names: Vec<(&'a str, usize)>,
    /// Whether the text is one statement of known tokens. If not, SQLite reports what is wrong
    /// with it, and nothing follows from the number of parameters.
    pub(super) is_complete: bool,
}

impl<'a> Markers<'a> {
    /// Finds the parameters of a statement.
    ///
    /// It runs at every call, so it looks only at bytes with which a token of interest begins.
    pub(super) fn of(sql: &'a str) -> Self {
        let mut found = Self {
            is_complete: true,
            ..Self::default()
        };
        let bytes = sql.as_bytes();
        let mut at = 0;
        while let Some(skipped) = bytes[at..].iter().position(|&byte| begins_token(byte)) {
            let before = &bytes[at..at + skipped];
            at += skipped;
            if bytes[at] == b'$' && ends_in_name(before) {
                at += run(&bytes[at..], is_identifier);
                continue;
            }
            let token = Token::first_of(&sql[at..]);
            let is_known = match token {
                Token::Other(_) => true,
                Token::Illegal(_) => false,
                Token::Marker(length) => found.add(&sql[at..at + length]),
                // A second statement, or the body of a trigger. SQLite skips semicolons before
                // the first one.
                Token::End => is_blank(&sql[..at]) || is_blank(&sql[at..]),
            };
            found.is_complete &= is_known;
            if !found.is_complete {
                break;
            }
            at += token.length();
        }
        if found.count > 0 && is_virtual_table(sql) {
            // Its arguments are text for its module.
            return Self::default();
        }
        found
    }

    /// Returns the number of a parameter.
    pub(super) fn number_of(&self, name: &str) -> Option<usize> {
        if let Some(digits) = name.strip_prefix('?') {
            let number = digits.parse().ok()?;
            return (1..=self.count).contains(&number).then_some(number);
        }
        let found = self.names.iter().find(|(known, _)| *known == name);
        found.map(|(_, number)| *number)
    }

    /// Adds one marker; `false` if SQLite refuses it.
    fn add(&mut self, marker: &'a str) -> bool {
        let known = self.number_of(marker);
        let number = match marker.strip_prefix('?') {
            Some("") => self.count + 1,
            Some(digits) => digits.parse().unwrap_or(0),
            None => known.unwrap_or(self.count + 1),
        };
        if !(1..=NUMBER_MAX).contains(&number) {
            return false;
        }
        if known.is_none() && !marker.starts_with('?') {
            self.names.push((marker, number));
        }
        self.count = self.count.max(number);
        true
    }
}

/// Returns whether there is nothing but white space, comments and semicolons.
pub(crate) fn is_blank(sql: &str) -> bool {
    let mut rest = skip_blanks(sql);
    while let Some(after) = rest.strip_prefix(';') {
        rest = skip_blanks(after);
    }
    rest.is_empty()
}

/// Returns what comes after white space and comments.
pub(crate) fn skip_blanks(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}', '\u{feff}']);
        let comment = match sql.as_bytes() {
            [b'-', b'-', ..] => end_of(sql, 2, "\n"),
            [b'/', b'*', _, ..] => end_of(sql, 2, "*/"),
            _ => return sql,
        };
        sql = &sql[comment..];
    }
}

/// Returns whether the bytes end within a name, so that a `$` after them is a part of it. A byte
/// order mark is white space, unless it stands within a name.
fn ends_in_name(before: &[u8]) -> bool {
    let length = before.iter().rev().take_while(|&byte| is_identifier(byte));
    let mut name = &before[before.len() - length.count()..];
    while let Some(rest) = name.strip_prefix("\u{feff}".as_bytes()) {
        name = rest;
    }
    !name.is_empty()
}

/// Returns whether this is CREATE VIRTUAL TABLE.
fn is_virtual_table(sql: &str) -> bool {
    let mut words = skip_blanks(sql).split_ascii_whitespace();
    let mut is_next = |word: &str| {
        words
            .next()
            .is_some_and(|next| next.eq_ignore_ascii_case(word))
    };
    is_next("CREATE") && is_next("VIRTUAL")
}

/// Returns whether a token of interest may begin with this byte.
fn begins_token(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let bytes = b"-/;'\"`[?$@:#";
        let mut index = 0;
        while index < bytes.len() {
            table[bytes[index] as usize] = true;
            index += 1;
        }
        table
    };
    TABLE[usize::from(byte)]
}

/// One token of SQL, with its length in bytes.
#[derive(Debug, Clone, Copy)]
enum Token {
    /// A semicolon.
    End,
    Marker(usize),
    Illegal(usize),
    /// A comment, a text, a name or an operator.
    Other(usize),
}

impl Token {
    fn length(self) -> usize {
        match self {
            Self::End => 1,
            Self::Marker(length) | Self::Illegal(length) | Self::Other(length) => length,
        }
    }

    /// Returns the token at the beginning of a text, which begins with one of the bytes of
    /// [`begins_token`].
    fn first_of(sql: &str) -> Self {
        let bytes = sql.as_bytes();
        match (bytes[0], bytes.get(1)) {
            (b'-', Some(b'-')) => Self::Other(end_of(sql, 2, "\n")),
            (b'/', Some(b'*')) if bytes.len() > 2 => Self::Other(end_of(sql, 2, "*/")),
            (b';', _) => Self::End,
            (quote @ (b'\'' | b'"' | b'`'), _) => quoted(bytes, quote),
            (b'[', _) => match sql.find(']') {
                Some(at) => Self::Other(at + 1),
                None => Self::Illegal(bytes.len()),
            },
            (b'?', _) => Self::Marker(1 + run(&bytes[1..], u8::is_ascii_digit)),
            (b'$' | b'@' | b':' | b'#', _) => name(bytes),
            _ => Self::Other(1),
        }
    }
}

/// Returns where the text `end` ends, looked for from `from` on; all of it if there is none.
fn end_of(sql: &str, from: usize, end: &str) -> usize {
    let found = sql.get(from..).and_then(|rest| rest.find(end));
    found.map_or(sql.len(), |at| from + at + end.len())
}

/// A text in quotes; a doubled quote does not end it.
fn quoted(bytes: &[u8], quote: u8) -> Token {
    let mut at = 1;
    while let Some(length) = bytes[at..].iter().position(|&byte| byte == quote) {
        at += length + 1;
        if bytes.get(at) != Some(&quote) {
            return Token::Other(at);
        }
        at += 1;
    }
    Token::Illegal(bytes.len())
}

/// A named parameter, with what Tcl allows in names: `::` and a suffix in parentheses.
fn name(bytes: &[u8]) -> Token {
    let (mut at, mut is_named) = (1, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            byte if is_identifier(byte) => is_named = true,
            b':' if bytes.get(at + 1) == Some(&b':') => at += 1,
            b'(' if is_named => {
                at += 1 + run(&bytes[at + 1..], |&byte| !is_space(byte) && byte != b')');
                return match bytes.get(at) {
                    Some(b')') => Token::Marker(at + 1),
                    _ => Token::Illegal(at),
                };
            }
            _ => break,
        }
        at += 1;
    }
    // `#1` is a register of SQLite's own.
    let is_register = bytes[0] == b'#' && bytes[1..].first().is_some_and(u8::is_ascii_digit);
    if is_named && !is_register {
        Token::Marker(at)
    } else {
        Token::Illegal(at)
    }
}

fn run(bytes: &[u8], is_part: impl Fn(&u8) -> bool) -> usize {
    let end = bytes.iter().position(|byte| !is_part(byte));
    end.unwrap_or(bytes.len())
}

/// Every byte of a character beyond ASCII may stand in a name.
fn is_identifier(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    /// Returns what SQLite says of the parameters, if it takes the statement.
    fn by_sqlite(connection: &Connection, sql: &str) -> Option<(usize, Vec<(String, usize)>)> {
        let statement = connection.prepare(sql).ok()?;
        let count = statement.parameter_count();
        let named = |number| Some((statement.parameter_name(number)?.to_owned(), number));
        let names = (1..=count).filter_map(named);
        Some((
            count,
            names.filter(|(name, _)| !name.starts_with('?')).collect(),
        ))
    }

    fn assert_as_sqlite(connection: &Connection, sql: &str) -> bool {
        let Some((count, mut names)) = by_sqlite(connection, sql) else {
            return false;
        };
        let found = Markers::of(sql);
        assert!(found.is_complete, "{sql}");
        let mut own: Vec<_> = found
            .names
            .iter()
            .map(|(n, at)| ((*n).to_owned(), *at))
            .collect();
        own.sort_by_key(|(_, number)| *number);
        names.sort_by_key(|(_, number)| *number);
        assert_eq!((found.count, own), (count, names), "{sql}");
        true
    }

    #[test]
    fn the_parameters_are_those_that_sqlite_finds() {
        let connection = Connection::open_in_memory().unwrap();
        for sql in [
            "SELECT 1",
            "SELECT ?, ?, ?",
            "SELECT ?2, ?1, ?",
            "SELECT ?5",
            "SELECT :a, @a, $a, :a, :b",
            "SELECT ?3, :a, ?",
            "SELECT $a::b(c), $a::b(c), $a",
            "SELECT '?', \"?\", `?`, ':a''?', [?] FROM (SELECT 1 AS [?])",
            "SELECT 1 -- ?\n, ? /* ? */, ?",
            "SELECT a$b, ? FROM (SELECT 1 AS a$b)",
            "SELECT :größe, ?",
            "SELECT x'3f', ?; -- ?",
            "SELECT ? /* :a",
            "SELECT 1+:a",
            ";; SELECT ?, ?;",
            "\u{feff}SELECT ?, \u{feff}$a, a\u{feff}$b FROM (SELECT 1 AS a\u{feff}$b);\u{feff}",
            "SELECT j -> ?, j ->> ? FROM (SELECT '{}' AS j) LIMIT ? OFFSET :o",
            "EXPLAIN SELECT ?",
            "WITH a(x) AS (SELECT :x) SELECT x, :x FROM a",
        ] {
            assert!(assert_as_sqlite(&connection, sql), "{sql}");
        }
    }

    #[test]
    fn text_without_a_statement_is_recognised() {
        for sql in [
            "",
            " \n",
            ";",
            "-- SELECT 1",
            "/* a */ ; ;-- b\n",
            "/* a",
            "\u{feff}",
        ] {
            assert!(is_blank(sql), "{sql}");
        }
        for sql in [
            "SELECT 1",
            "; SELECT 1",
            "-",
            "/",
            "/*",
            "\u{a0}",
            "-- a\nb",
        ] {
            assert!(!is_blank(sql), "{sql}");
        }
    }

    #[test]
    fn what_sqlite_refuses_is_left_to_sqlite() {
        for sql in [
            "SELECT ?0",
            "SELECT ?40000",
            "SELECT ?99999999999999999999",
            "SELECT ?; SELECT ?",
            "SELECT 'a",
            "SELECT [a",
            "SELECT :",
            "SELECT #1",
            "SELECT $a(b",
            "CREATE VIRTUAL TABLE a USING fts5(?)",
            "/* a */ create virtual TABLE a USING fts5(:b)",
        ] {
            assert!(!Markers::of(sql).is_complete, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn random_text_has_the_parameters_that_sqlite_finds(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "SELECT ", ", ", " ", "?", "?1", "?7", ":a", "@a", "$a", "$b::c", "(d)", "'", "''",
                    "\u{feff}", "\"", "`", "[", "]", "--", "\n", "/*", "*/", "1", "a", "x'", "+", "#", ":", ";", "ü",
                ]),
                0..14,
            ),
        ) {
            let connection = Connection::open_in_memory().unwrap();
            let sql = parts.concat();
            assert_as_sqlite(&connection, &sql);
            assert_as_sqlite(&connection, &format!("SELECT {sql}"));
        }
    }
}
