//! What a table contains: how many rows, and a hash of all their values.

use std::fmt;

use hiqlite::rusqlite::types::ValueRef;
use hiqlite::rusqlite::{Connection, Result, Row};
use ring::digest::{Context, SHA256};

/// How many rows there are, and the sum of the SHA-256 of each one, which does not depend on their order: two
/// databases with other encodings order texts differently.
///
/// Each value is a letter for its type; then eight bytes for a number, or the length in eight bytes and
/// the bytes of a text or a blob. So values of different types differ, and those of a row cannot be shifted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) rows: u64,
    sum: [u64; 4],
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
        let (mut rows, mut sum) = (0, [0_u64; 4]);
        while let Some(row) = found.next()? {
            rows += 1;
            show(row)?;
            let mut hash = Context::new(&SHA256);
            for column in 0..columns {
                add(&mut hash, row.get_ref(column)?);
            }
            let hash = hash.finish();
            for (sum, part) in sum.iter_mut().zip(hash.as_ref().as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_be_bytes(*part));
            }
        }
        Ok(Self { rows, sum })
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

/// The number of rows, and the first digits of the hash.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = if self.rows == 1 { "row" } else { "rows" };
        write!(f, "{} {rows}, {:016x}", self.rows, self.sum[0])
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
                // The two that have the same rows in another order are last but one, and before.
                let is_same = place == other_place
                    || (place.min(other_place), place.max(other_place)) == (9, 10);
                assert_eq!(one == other, is_same, "{}", all[place]);
            }
        }
        assert!(contents[8].to_string().starts_with("2 rows, "));
    }
}
