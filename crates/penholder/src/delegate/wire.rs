//! The wire format: writes and their replies as bytes, for another process.
//!
//! The decoder trusts nothing: it checks lengths, and bytes that are left over or missing make
//! the whole undecodable. Both sides run the same version of this crate, which is part of the
//! fingerprint, so the layout may change with it.

use rusqlite::ffi;

use crate::data::{Executed, RowSet, Statement, Value};

/// The version of the layout, and of what is recorded of a request, to be changed with them.
pub(crate) const LAYOUT: u64 = 3;

/// One write: a single statement, or several, all or nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RemoteWrite {
    pub(crate) is_batch: bool,
    pub(crate) statements: Vec<Statement>,
}

/// The outcome of one write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Done(Vec<Executed>),
    /// SQLite's own error, as its owner's connection would report it, and the index of the
    /// statement that failed.
    Failed {
        statement: u32,
        code: i32,
        text: Option<String>,
    },
    /// Nothing was done: its owner executes it.
    Local,
}

impl Reply {
    /// Returns the error of a failed write.
    pub(crate) fn failed(code: i32, text: Option<String>) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), text)
    }
}

/// Encodes writes and replies.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Encodes into this buffer, whose content is discarded.
    pub(crate) fn reusing(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { bytes }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Discards what was encoded after this length.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    pub(crate) fn remote_write(&mut self, is_batch: bool, statements: &[Statement]) {
        self.begin_write(is_batch, statements.len());
        for one in statements {
            self.statement(&one.sql, &one.values);
        }
    }

    /// Encodes a write of one statement.
    pub(crate) fn remote_statement(&mut self, sql: &str, values: &[Value]) {
        self.begin_write(false, 1);
        self.statement(sql, values);
    }

    fn begin_write(&mut self, is_batch: bool, statements: usize) {
        self.bytes.push(1);
        self.bytes.push(is_batch.into());
        self.length(statements);
    }

    fn statement(&mut self, sql: &str, values: &[Value]) {
        self.text(sql.as_bytes());
        self.values(values);
    }

    pub(crate) fn reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Local => self.bytes.push(0),
            Reply::Done(all) => {
                self.bytes.push(1);
                self.length(all.len());
                for done in all {
                    self.executed(done);
                }
            }
            Reply::Failed {
                statement,
                code,
                text,
            } => {
                self.bytes.push(2);
                self.bytes.extend_from_slice(&statement.to_le_bytes());
                self.bytes.extend_from_slice(&code.to_le_bytes());
                self.bytes.push(text.is_some().into());
                self.text(text.as_deref().unwrap_or("").as_bytes());
            }
        }
    }

    fn executed(&mut self, done: &Executed) {
        self.bytes
            .extend_from_slice(&done.rows_changed.to_le_bytes());
        self.bytes.push(done.last_insert_rowid.is_some().into());
        let id = done.last_insert_rowid.unwrap_or(0);
        self.bytes.extend_from_slice(&id.to_le_bytes());
        self.length(done.returned.columns().len());
        for column in done.returned.columns() {
            self.text(column.as_bytes());
        }
        self.length(done.returned.len());
        for row in &done.returned {
            self.values(row.values());
        }
    }

    fn values(&mut self, values: &[Value]) {
        self.length(values.len());
        for value in values {
            match value {
                Value::Null => self.bytes.push(0),
                Value::Integer(number) => {
                    self.bytes.push(1);
                    self.bytes.extend_from_slice(&number.to_le_bytes());
                }
                Value::Real(number) => {
                    self.bytes.push(2);
                    self.bytes
                        .extend_from_slice(&number.to_bits().to_le_bytes());
                }
                Value::Text(text) => {
                    self.bytes.push(3);
                    self.text(text.as_bytes());
                }
                Value::Blob(bytes) => {
                    self.bytes.push(4);
                    self.text(bytes);
                }
            }
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn length(&mut self, length: usize) {
        // Anything longer does not fit into a mailbox.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
    }
}

/// Decodes writes and replies; every function returns `None` for bytes that are not valid.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
}

/// Decodes all writes of a request.
pub(crate) fn remote_writes(bytes: &[u8]) -> Option<Vec<RemoteWrite>> {
    Decoder { bytes }.all(Decoder::remote_write)
}

/// Decodes all replies to a request.
pub(crate) fn replies(bytes: &[u8]) -> Option<Vec<Reply>> {
    Decoder { bytes }.all(Decoder::reply)
}

impl Decoder<'_> {
    fn all<T>(mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut all = Vec::new();
        while !self.bytes.is_empty() {
            all.push(one(&mut self)?);
        }
        Some(all)
    }

    fn remote_write(&mut self) -> Option<RemoteWrite> {
        if self.byte()? != 1 {
            return None;
        }
        let is_batch = self.flag()?;
        let statements = self.several(|decoder| {
            let sql = decoder.string()?;
            Some(Statement::new(sql, decoder.values()?))
        })?;
        (is_batch || statements.len() == 1).then_some(RemoteWrite {
            is_batch,
            statements,
        })
    }

    fn reply(&mut self) -> Option<Reply> {
        Some(match self.byte()? {
            0 => Reply::Local,
            1 => Reply::Done(self.several(Self::executed)?),
            2 => {
                let statement = u32::from_le_bytes(self.take()?);
                let code = i32::from_le_bytes(self.take()?);
                let (is_some, text) = (self.flag()?, self.string()?);
                Reply::Failed {
                    statement,
                    code,
                    text: is_some.then_some(text),
                }
            }
            _ => return None,
        })
    }

    fn executed(&mut self) -> Option<Executed> {
        let rows_changed = u64::from_le_bytes(self.take()?);
        let (is_some, id) = (self.flag()?, i64::from_le_bytes(self.take()?));
        let columns = self.several(Self::string)?;
        let rows = self.several(|decoder| {
            let values = decoder.values()?;
            (values.len() == columns.len()).then_some(values)
        })?;
        Some(Executed {
            rows_changed,
            last_insert_rowid: is_some.then_some(id),
            returned: RowSet::new(columns, rows),
        })
    }

    fn values(&mut self) -> Option<Vec<Value>> {
        self.several(|decoder| {
            Some(match decoder.byte()? {
                0 => Value::Null,
                1 => Value::Integer(i64::from_le_bytes(decoder.take()?)),
                2 => Value::Real(f64::from_bits(u64::from_le_bytes(decoder.take()?))),
                3 => Value::Text(decoder.string()?),
                4 => Value::Blob(decoder.bytes()?.to_vec()),
                _ => return None,
            })
        })
    }

    fn several<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.length()?;
        // Each takes at least one byte.
        if length > self.bytes.len() {
            return None;
        }
        (0..length).map(|_| one(self)).collect()
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let length = self.length()?;
        let (bytes, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take()?)).ok()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            (-1e300..1e300).prop_map(Value::Real),
            ".{0,20}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Blob),
        ]
    }

    fn values() -> impl Strategy<Value = Vec<Value>> {
        proptest::collection::vec(value(), 0..5)
    }

    fn remote_write() -> impl Strategy<Value = RemoteWrite> {
        let statement =
            || (".{0,60}", values()).prop_map(|(sql, params)| Statement::new(sql, params));
        let several = proptest::collection::vec(statement(), 0..4);
        prop_oneof![
            statement().prop_map(|one| RemoteWrite {
                is_batch: false,
                statements: vec![one]
            }),
            several.prop_map(|statements| RemoteWrite {
                is_batch: true,
                statements
            }),
        ]
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let rows = (0_usize..4).prop_flat_map(|width| {
            let row = proptest::collection::vec(value(), width);
            (
                proptest::collection::vec(".{0,9}", width),
                proptest::collection::vec(row, 0..4),
            )
        });
        let executed = (any::<u64>(), any::<Option<i64>>(), rows);
        let executed =
            executed.prop_map(
                |(rows_changed, last_insert_rowid, (columns, rows))| Executed {
                    rows_changed,
                    last_insert_rowid,
                    returned: RowSet::new(columns, rows),
                },
            );
        prop_oneof![
            Just(Reply::Local),
            proptest::collection::vec(executed, 0..3).prop_map(Reply::Done),
            (any::<u32>(), any::<i32>(), any::<Option<String>>()).prop_map(
                |(statement, code, text)| Reply::Failed {
                    statement,
                    code,
                    text
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn an_encoded_write_is_decoded(all in proptest::collection::vec(remote_write(), 0..5)) {
            let mut encoder = Encoder::default();
            for one in &all {
                encoder.remote_write(one.is_batch, &one.statements);
            }
            prop_assert_eq!(remote_writes(&encoder.into_bytes()), Some(all));
        }

        #[test]
        fn an_encoded_reply_is_decoded(all in proptest::collection::vec(reply(), 0..5)) {
            let mut encoder = Encoder::default();
            for one in &all {
                encoder.reply(one);
            }
            prop_assert_eq!(replies(&encoder.into_bytes()), Some(all));
        }

        /// It neither panics nor allocates without bounds.
        #[test]
        fn any_bytes_can_be_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (remote_writes(&bytes), replies(&bytes));
        }

        #[test]
        fn damaged_bytes_can_be_decoded(
            one in remote_write(), index in any::<prop::sample::Index>(), byte: u8,
        ) {
            let mut encoder = Encoder::default();
            encoder.remote_write(one.is_batch, &one.statements);
            let mut bytes = encoder.into_bytes();
            let index = index.index(bytes.len());
            bytes[index] = byte;
            let _ = remote_writes(&bytes);
        }
    }
}
