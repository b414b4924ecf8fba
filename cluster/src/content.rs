//! What a table contains: how many rows, and a hash of all their values.

use std::fmt;

use hiqlite::rusqlite::types::ValueRef;
use hiqlite::rusqlite::{Connection, Result, Row};
use ring::digest::{Context, Digest, SHA256};

/// How many rows there are, and the SHA-256 of their values in the order of a query.
///
/// Each value is a letter for its type; then eight bytes for a number, or the length in eight bytes and
/// the bytes of a text or a blob. So values of different types differ, and rows cannot be shifted.
#[derive(Clone, Copy)]
pub(crate) struct Content {
    pub(crate) rows: u64,
    hash: Digest,
}

impl Content {
    /// Reads all rows of a query, and shows each one.
    pub(crate) fn of(
        connection: &Connection,
        sql: &str,
        mut show: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<Self> {
        let mut statement = connection.prepare(sql)?;
        let columns = statement.column_count();
        let mut found = statement.query([])?;
        let (mut rows, mut hash) = (0, Context::new(&SHA256));
        while let Some(row) = found.next()? {
            rows += 1;
            show(row)?;
            for column in 0..columns {
                add(&mut hash, row.get_ref(column)?);
            }
        }
        let hash = hash.finish();
        Ok(Self { rows, hash })
    }
}

fn add(hash: &mut Context, value: ValueRef<'_>) {
    let bytes = |hash: &mut Context, letter: u8, bytes: &[u8]| {
        hash.update(&[letter]);
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let number = |hash: &mut Context, letter: u8, number: [u8; 8]| {
        hash.update(&[letter]);
        hash.update(&number);
    };
    match value {
        ValueRef::Null => hash.update(b"n"),
        ValueRef::Integer(value) => number(hash, b'i', value.to_le_bytes()),
        ValueRef::Real(value) => number(hash, b'r', value.to_le_bytes()),
        ValueRef::Text(text) => bytes(hash, b't', text),
        ValueRef::Blob(blob) => bytes(hash, b'b', blob),
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows && self.hash.as_ref() == other.hash.as_ref()
    }
}

/// The number of rows, and the first digits of the hash.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = if self.rows == 1 { "row" } else { "rows" };
        write!(f, "{} {rows}, ", self.rows)?;
        self.hash.as_ref()[..8]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_has_another_hash() {
        let connection = Connection::open_in_memory().unwrap();
        let all = [
            "SELECT 1",
            "SELECT 1.0",
            "SELECT '1'",
            "SELECT x'31'",
            "SELECT NULL",
            "SELECT 2",
            "SELECT 'a', 'b'",
            "SELECT 'ab', ''",
            "VALUES (1), (1)",
            "VALUES (1), (2)",
            "VALUES (2), (1)",
            "SELECT 1 WHERE 0",
        ];
        let contents: Vec<Content> = all
            .iter()
            .map(|sql| Content::of(&connection, sql, |_| Ok(())).unwrap())
            .collect();
        for (place, one) in contents.iter().enumerate() {
            for (other_place, other) in contents.iter().enumerate() {
                assert_eq!(one == other, place == other_place, "{}", all[place]);
            }
        }
        assert!(contents[8].to_string().starts_with("2 rows, "));
    }
}
