//! JSON: objects, each of them a row.

use std::fmt;

use penholder::Value;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::column_type::ColumnType;
use super::objects::Objects;
use super::row::{Cell, ReadError, Row};
use super::source::Source;
use super::table::Table;
use super::unknown::Unknown;
use crate::number;
use penholder_rows::base64;

/// Reads objects and checks each.
#[derive(Debug)]
pub(crate) struct JsonReader<'a> {
    objects: Objects,
    table: &'a Table,
    unknown: Unknown,
    is_lossy: bool,
}

impl<'a> JsonReader<'a> {
    pub(crate) fn open(
        source: &Source,
        table: &'a Table,
        unknown: Unknown,
        is_lossy: bool,
    ) -> Result<Self, ReadError> {
        Ok(Self {
            objects: Objects::open(source)?,
            table,
            unknown,
            is_lossy,
        })
    }

    pub(crate) fn offset(&self) -> u64 {
        self.objects.offset()
    }

    /// The names that were left out so far.
    pub(crate) fn unknown(&self) -> &Unknown {
        &self.unknown
    }

    pub(crate) fn read(&mut self, row: &mut Row) -> Result<bool, ReadError> {
        let Some((start, text)) = self.objects.read()? else {
            return Ok(false);
        };
        row.start = start;
        row.columns.clear();
        row.values.clear();
        let object = Object {
            table: self.table,
            unknown: &mut self.unknown,
            is_lossy: self.is_lossy,
            columns: &mut row.columns,
            values: &mut row.values,
        };
        parse(start, text, object)?;
        Ok(true)
    }
}

/// Reads the names of all members of all objects, each once, in the order in which they
/// first appear.
pub(crate) fn names(source: &Source) -> Result<Vec<String>, ReadError> {
    let mut objects = Objects::open(source)?;
    let mut names = Vec::new();
    while let Some((start, text)) = objects.read()? {
        parse(start, text, Names(&mut names))?;
    }
    Ok(names)
}

/// Parses the object that begins at `start`.
fn parse<'de>(
    start: u64,
    text: &'de [u8],
    object: impl Visitor<'de, Value = ()>,
) -> Result<(), ReadError> {
    let Ok(text) = str::from_utf8(text) else {
        let why = "it is not UTF-8: give the encoding of the file, for example \
                   --encoding windows-1252";
        let why = why.to_owned();
        return Err(ReadError::Malformed { start, why });
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(object).and_then(|()| json.end());
    read.map_err(|error| {
        // The place after a line end is that of the line end.
        let line = error.line() - usize::from(error.column() == 0 && error.line() > 1);
        let before: usize = text
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        ReadError::Malformed {
            start: start + before as u64,
            why: without_line(&error) + no_json(text, &error),
        }
    })
}

/// What to write instead of a word that other programs write.
fn no_json(text: &str, error: &serde_json::Error) -> &'static str {
    let line = text.lines().nth(error.line().saturating_sub(1));
    let from = line.and_then(|line| line.get(error.column().saturating_sub(1)..));
    let from = from.unwrap_or_default().trim_start_matches('-');
    if from.starts_with("NaN") || from.starts_with("None") || from.starts_with("undefined") {
        ": JSON has no such value: write null"
    } else if from.starts_with("Inf") {
        ": JSON has no infinity: write 9e999"
    } else if from.starts_with("True") || from.starts_with("False") {
        ": write true and false in small letters"
    } else if from.starts_with('\'') {
        ": JSON has texts and names in double quotes"
    } else {
        ""
    }
}

/// The message without its line number, which is not that of the file.
fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let (line, column) = (error.line(), error.column());
    match message.strip_suffix(&format!(" at line {line} column {column}")) {
        Some(why) if column > 0 => format!("{why} (at byte {column})"),
        Some(why) => why.to_owned(),
        None => message,
    }
}

/// Reads one object into a row.
struct Object<'o> {
    table: &'o Table,
    unknown: &'o mut Unknown,
    is_lossy: bool,
    columns: &'o mut Vec<usize>,
    values: &'o mut Vec<Cell>,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object for each row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut wrapper = None;
        loop {
            let key = Key {
                table: self.table,
                unknown: &mut *self.unknown,
                likely: self.columns.len(),
            };
            let Some(found) = members.next_key_seed(key)? else {
                break;
            };
            let raw: &RawValue = members.next_value()?;
            let column = match found {
                Found::Column(column) => column,
                Found::LeftOut(name) => {
                    wrapper = wrapper.or_else(|| rows_in(&name, raw.get()));
                    continue;
                }
            };
            let name = self.table.name(column);
            if self.columns.contains(&column) {
                return Err(A::Error::custom(format!(
                    "the column {name:?} appears twice"
                )));
            }
            let kind = self.table.column_type(column);
            let value = value(raw.get(), kind, self.is_lossy);
            let value = value.map_err(|why| A::Error::custom(format!("column {name:?}: {why}")))?;
            self.columns.push(column);
            self.values.push(Cell::Value(value));
        }
        match wrapper {
            Some(next) if self.columns.is_empty() => Err(A::Error::custom(format!(
                "it has no column of the table: {next}"
            ))),
            _ => Ok(()),
        }
    }
}

/// What to do if the rows are in an array that is a member of an object.
fn rows_in(name: &str, json: &str) -> Option<String> {
    let elements = json.strip_prefix('[')?.trim_start();
    let is_rows = elements.starts_with('{');
    is_rows.then(|| format!("if the elements of {name:?} are the rows, write only that array"))
}

/// What a name stands for.
enum Found {
    Column(usize),
    LeftOut(String),
}

/// Reads a key as the number of its column.
struct Key<'o> {
    table: &'o Table,
    unknown: &'o mut Unknown,
    /// Probably the number.
    likely: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Found, E> {
        match self.table.column(name, self.likely) {
            Some(column) => Ok(Found::Column(column)),
            None if self.unknown.leave_out(name) => Ok(Found::LeftOut(name.to_owned())),
            None => {
                let (why, next) = (self.table.no_column(name), self.table.instead(name));
                Err(E::custom(format!("{why}: {next}")))
            }
        }
    }
}

/// Collects the names of members.
struct Names<'o>(&'o mut Vec<String>);

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object for each row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some((name, _)) = members.next_entry::<String, &RawValue>()? {
            if !self.0.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                self.0.push(name);
            }
        }
        Ok(())
    }
}

/// The value to store for valid JSON.
fn value(json: &str, kind: ColumnType, is_lossy: bool) -> Result<Value, String> {
    match json.as_bytes().first() {
        Some(b'n') => Ok(Value::Null),
        // The exact text, as for a number.
        Some(b't' | b'f') if kind == ColumnType::Text => Ok(json.into()),
        Some(b't') => Ok(Value::Integer(1)),
        Some(b'f') => Ok(Value::Integer(0)),
        Some(b'"') => {
            // It is a string: nothing else can be wrong with it.
            let why = "an escape like \\ud800 is half of a character: write both halves";
            let text: String = serde_json::from_str(json).map_err(|_| why.to_owned())?;
            string(text, kind, is_lossy)
        }
        Some(b'{') => object(json),
        Some(b'[') => Ok(json.into()),
        _ => {
            let lossy = || number::lossy(json).filter(|_| is_lossy);
            let value = kind.json_number(json);
            value.or_else(|why| lossy().map(Value::from).ok_or(why))
        }
    }
}

fn string(text: String, kind: ColumnType, is_lossy: bool) -> Result<Value, String> {
    match kind.word(&text) {
        Ok(stored) => Ok(stored.value(&text)),
        Err(_) if is_lossy && number::is_number(&text) => Ok(Value::Text(text)),
        Err(why) => Err(why),
    }
}

/// A blob as `penholder query`, Datasette and sqlite-utils write it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Blob {
    #[serde(rename = "$base64")]
    is_base64: bool,
    encoded: String,
}

/// A blob, or the text of an object.
fn object(json: &str) -> Result<Value, String> {
    match serde_json::from_str::<Blob>(json) {
        Ok(blob) if blob.is_base64 => match base64::decode(&blob.encoded) {
            Some(bytes) => Ok(bytes.into()),
            None => Err("the blob is not well-formed base64".to_owned()),
        },
        _ => Ok(json.into()),
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
            ("\"a\\n\\u00e4\\\"\"", "a\nä\"".into()),
            ("[1, {}]", "[1, {}]".into()),
            ("{ \"a\": 1 }", "{ \"a\": 1 }".into()),
            (
                "{\"encoded\":\"AP8=\",\"$base64\":true}",
                vec![0, 255].into(),
            ),
            (
                "{\"$base64\":false,\"encoded\":\"\"}",
                "{\"$base64\":false,\"encoded\":\"\"}".into(),
            ),
            ("-0", Value::Integer(0)),
            ("9223372036854775807", Value::Integer(i64::MAX)),
            ("1.0", Value::Real(1.0)),
            ("1e2", Value::Real(100.0)),
            ("9e999", Value::Real(f64::INFINITY)),
        ] {
            assert_eq!(value(json, ColumnType::Any, false), Ok(stored), "{json}");
        }
        for json in [
            "\"\\ud800\"",
            "{\"$base64\":true,\"encoded\":\"A\"}",
            "1e400",
        ] {
            assert!(value(json, ColumnType::Any, false).is_err(), "{json}");
        }
        let lossy = value("9223372036854775808", ColumnType::Any, true);
        assert_eq!(lossy, Ok(Value::Real(9_223_372_036_854_775_808.0)));
    }

    #[test]
    fn the_type_of_the_column_decides() {
        use ColumnType::{Numeric, Real, Text};
        for (json, kind, stored) in [
            ("true", Text, "true".into()),
            ("1.10", Text, "1.10".into()),
            ("\"007\"", Text, "007".into()),
            ("\"1.50\"", Numeric, Value::Real(1.5)),
            ("\"x\"", Numeric, "x".into()),
            ("3", Real, Value::Real(3.0)),
        ] {
            assert_eq!(value(json, kind, false), Ok(stored), "{json}");
        }
        assert!(value("\"007\"", Numeric, false).is_err());
        assert_eq!(value("\"007\"", Numeric, true), Ok("007".into()));
    }
}
