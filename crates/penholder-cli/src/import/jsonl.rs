//! JSON lines: one JSON object on each line.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take};

use penholder::Value;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::row::{MAX_ROW_BYTES, ReadError, Row, Values};
use super::source::Source;
use super::table::Table;

/// Reads objects and checks each.
#[derive(Debug)]
pub(crate) struct JsonLinesReader<'a> {
    text: BufReader<Take<File>>,
    line: Vec<u8>,
    offset: u64,
    table: &'a Table,
}

pub(crate) fn new_row() -> Row {
    Row {
        start: 0,
        columns: Vec::new(),
        values: Values::Typed(Vec::new()),
    }
}

impl<'a> JsonLinesReader<'a> {
    pub(crate) fn open(source: &Source, table: &'a Table) -> io::Result<Self> {
        Ok(Self {
            text: BufReader::with_capacity(1 << 16, source.read()?),
            line: Vec::new(),
            offset: source.start(),
            table,
        })
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool, ReadError> {
        let Values::Typed(values) = &mut row.values else {
            return Ok(false);
        };
        row.start = self.offset;
        while self.next_line()? {
            let line = self.line.trim_ascii_end();
            if line.is_empty() {
                row.start = self.offset;
                continue;
            }
            row.columns.clear();
            values.clear();
            let object = Object {
                table: self.table,
                columns: &mut row.columns,
                values,
            };
            let read = object.read(line);
            return read.map(|()| true).map_err(|why| ReadError::Malformed {
                start: row.start,
                why,
            });
        }
        Ok(false)
    }

    fn next_line(&mut self) -> Result<bool, ReadError> {
        self.line.clear();
        let mut bounded = (&mut self.text).take(MAX_ROW_BYTES);
        let length = bounded.read_until(b'\n', &mut self.line)? as u64;
        if length == MAX_ROW_BYTES {
            return Err(ReadError::Malformed {
                start: self.offset,
                why: "it is longer than 100 MB".to_owned(),
            });
        }
        self.offset += length;
        Ok(length > 0)
    }
}

/// Reads one object into a row.
struct Object<'o> {
    table: &'o Table,
    columns: &'o mut Vec<usize>,
    values: &'o mut Vec<Value>,
}

impl Object<'_> {
    fn read(self, line: &[u8]) -> Result<(), String> {
        let text = str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_map(self).and_then(|()| json.end());
        read.map_err(|error| without_line(&error))
    }
}

/// The message without its line number, which is always 1 and not that of the file.
fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line 1 column ") {
        Some((why, byte)) => format!("{why} (at byte {byte})"),
        None => message,
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object on each line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        loop {
            let key = Key {
                table: self.table,
                likely: self.columns.len(),
            };
            let Some(column) = members.next_key_seed(key)? else {
                return Ok(());
            };
            if self.columns.contains(&column) {
                let name = self.table.name(column);
                return Err(A::Error::custom(format!(
                    "the column {name:?} appears twice"
                )));
            }
            let raw: &RawValue = members.next_value()?;
            self.columns.push(column);
            self.values
                .push(value(raw.get()).map_err(A::Error::custom)?);
        }
    }
}

/// Reads a key as the number of its column.
struct Key<'o> {
    table: &'o Table,
    /// Probably the number.
    likely: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        self.table.column(name, self.likely).map_err(E::custom)
    }
}

/// The value to store for valid JSON.
fn value(json: &str) -> serde_json::Result<Value> {
    Ok(match json.as_bytes().first() {
        Some(b'n') => Value::Null,
        Some(b't') => Value::Integer(1),
        Some(b'f') => Value::Integer(0),
        Some(b'"') => Value::Text(serde_json::from_str(json)?),
        Some(b'{' | b'[') => Value::Text(json.to_owned()),
        _ => number(json),
    })
}

/// Reads a number as SQLite does: an integer that is too large becomes a real number.
fn number(json: &str) -> Value {
    match json.parse() {
        Ok(integer) => Value::Integer(integer),
        Err(_) => json.parse().map_or(Value::Null, Value::Real),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_stored_as_what_they_are() {
        for (json, stored) in [
            ("null", Value::Null),
            ("true", Value::Integer(1)),
            ("false", Value::Integer(0)),
            ("\"a\\n\\u00e4\\\"\"", Value::Text("a\nä\"".into())),
            ("[1, {}]", Value::Text("[1, {}]".into())),
            ("-0", Value::Integer(0)),
            ("9223372036854775807", Value::Integer(i64::MAX)),
            (
                "9223372036854775808",
                Value::Real(9_223_372_036_854_775_808.0),
            ),
            ("1.0", Value::Real(1.0)),
            ("1e2", Value::Real(100.0)),
            ("9e999", Value::Real(f64::INFINITY)),
        ] {
            assert_eq!(value(json).unwrap(), stored, "{json}");
        }
        assert!(value("\"\\ud800\"").is_err());
    }
}
