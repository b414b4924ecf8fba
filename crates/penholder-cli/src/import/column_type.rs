//! The type of a column, and what becomes of a value in it.
//!
//! The type decides what SQLite converts a value to:
//! <https://sqlite.org/datatype3.html#determination_of_column_affinity>. A value that would
//! change so that it is not recognised is refused here instead.

use penholder::Value;

use crate::number::{self, Loss, Number};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    /// Text stays what it is, numbers become text.
    Text,
    /// `INTEGER` and `NUMERIC`: text that is written as a number becomes one.
    Numeric,
    /// As `Numeric`, and integers become real numbers.
    Real,
    /// A type whose name promises text, such as `STRING`, and that SQLite takes for `NUMERIC`.
    Misnamed,
    /// The key of a row, which is an integer.
    Key,
    /// The column is for blobs; everything stays what it is.
    Blob,
    /// Everything stays what it is.
    Any,
    /// A coordinate of an R-Tree, which takes 0 for what is no number.
    Coordinate,
    /// A coordinate of an R-Tree of integers.
    IntegerCoordinate,
}

/// What to store for a word.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stored {
    /// The word.
    Word,
    Number(Number),
}

impl ColumnType {
    /// The type that is declared with these words.
    pub(crate) fn declared(words: &str, is_strict: bool) -> Self {
        let words = words.to_ascii_uppercase();
        let has = |part: &&str| words.contains(*part);
        if words.is_empty() || (is_strict && words == "ANY") {
            Self::Any
        } else if has(&"INT") {
            Self::Numeric
        } else if ["CHAR", "CLOB", "TEXT"].iter().any(has) {
            Self::Text
        } else if has(&"BLOB") {
            Self::Blob
        } else if ["REAL", "FLOA", "DOUB"].iter().any(has) {
            Self::Real
        } else if MISNAMED.iter().any(has) {
            Self::Misnamed
        } else {
            Self::Numeric
        }
    }

    /// Whether it is declared for blobs.
    pub(crate) fn is_for_blobs(self) -> bool {
        self == Self::Blob
    }

    /// What to store for a word of a CSV file or for a JSON string.
    pub(crate) fn word(self, word: &str) -> Result<Stored, String> {
        let number = match self {
            Self::Text | Self::Blob | Self::Any => return Ok(Stored::Word),
            Self::Numeric => number::numeric(word),
            Self::Real => real(word),
            Self::Misnamed => return misnamed(word),
            Self::Key => return self.key(word),
            Self::Coordinate | Self::IntegerCoordinate => return self.coordinate(word),
        };
        match number {
            None => Ok(Stored::Word),
            Some(Ok(number)) => Ok(Stored::Number(number)),
            Some(Err(loss)) => Err(self.refusal(word, loss)),
        }
    }

    /// What to store for a JSON number. A column for text gets its exact text.
    pub(crate) fn json_number(self, json: &str) -> Result<Value, String> {
        if self == Self::Text {
            return Ok(Value::Text(json.to_owned()));
        }
        let number = match self {
            Self::Real => real(json),
            Self::Coordinate | Self::IntegerCoordinate => {
                return self.coordinate(json).map(|stored| stored.value(json));
            }
            _ => number::numeric(json),
        };
        match number {
            None => Err(format!("{} is not a number", shown(json))),
            Some(Ok(number)) => Ok(number.into()),
            Some(Err(loss)) => Err(self.refusal(json, loss)),
        }
    }

    /// SQLite refuses another key than an integer, and an R-Tree makes 0 of it.
    fn key(self, word: &str) -> Result<Stored, String> {
        if word.is_empty() {
            let next = "if it means a new key, add --empty-as-null";
            return Err(format!("the key of a row is an integer: {next}"));
        }
        match number::numeric(word) {
            Some(Ok(Number::Real(value))) if value.fract() != 0.0 || value.is_infinite() => {}
            Some(Ok(number)) => return Ok(Stored::Number(number)),
            Some(Err(loss)) => return Err(self.refusal(word, loss)),
            None => {}
        }
        let word = shown(word);
        Err(format!(
            "{word} is not an integer, as the key of a row has to be"
        ))
    }

    /// An R-Tree keeps 24 bits of a coordinate. It rounds a fraction so that the area grows;
    /// another integer would be another value.
    fn coordinate(self, word: &str) -> Result<Stored, String> {
        let number = number::numeric(word).transpose();
        let number = number.map_err(|loss| self.refusal(word, loss))?;
        let wanted = match (self, number) {
            (Self::IntegerCoordinate, Some(Number::Integer(value)))
                if i32::try_from(value).is_ok() =>
            {
                return Ok(Stored::Number(Number::Integer(value)));
            }
            (Self::IntegerCoordinate, _) => "an integer of 32 bits",
            (_, None) => "a number",
            (_, Some(Number::Integer(value))) if !survives_rounding(value) => {
                return Err(self.refusal(word, Loss::Digits));
            }
            (_, Some(Number::Real(value))) if is_beyond_coordinates(value) => {
                return Err(self.refusal(word, Loss::Range));
            }
            (_, Some(number)) => return Ok(Stored::Number(number)),
        };
        Err(format!(
            "{} is not {wanted}, which an R-Tree needs",
            shown(word)
        ))
    }

    fn refusal(self, word: &str, loss: Loss) -> String {
        let (word, why) = (shown(word), loss.why());
        let next = match self {
            Self::Any | Self::Blob => "write it as a string",
            Self::Coordinate | Self::IntegerCoordinate => "keep it in an auxiliary column",
            _ => "use a TEXT column",
        };
        format!("{word}: {why}: {next}, or give --lossy to store what SQLite makes of it")
    }
}

impl Stored {
    /// The value, for this word.
    pub(crate) fn value(self, word: &str) -> Value {
        match self {
            Self::Word => Value::Text(word.to_owned()),
            Self::Number(number) => number.into(),
        }
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Integer(value) => Self::Integer(value),
            Number::Real(value) => Self::Real(value),
        }
    }
}

/// Whether a type that is declared with these words promises numbers. Dates are often texts in
/// columns that SQLite takes for columns of numbers, and intervals and points are no integers.
pub(crate) fn promises_numbers(words: &str) -> bool {
    let upper = words.to_ascii_uppercase();
    let has = |part: &str| upper.contains(part);
    match ColumnType::declared(words, false) {
        ColumnType::Real => true,
        ColumnType::Numeric if has("INT") => !has("POINT") && !has("INTERVAL"),
        ColumnType::Numeric => has("NUM") || has("DEC"),
        _ => false,
    }
}

/// Parts of the names of such types.
const MISNAMED: [&str; 5] = ["STRING", "UUID", "GUID", "ENUM", "JSON"];

/// A word may become a number if the number is printed as the same word.
fn misnamed(word: &str) -> Result<Stored, String> {
    let becomes = match number::numeric(word) {
        None => return Ok(Stored::Word),
        // SQLite makes an integer of it, where it is one.
        Some(Ok(Number::Real(value))) if value.fract() == 0.0 && value.abs() < 9e18 => {
            format!("{value:.0}")
        }
        Some(Ok(number)) => number.to_string(),
        Some(Err(_)) => "another number".to_owned(),
    };
    if becomes == word {
        return Ok(Stored::Word);
    }
    Err(format!(
        "{}: it would become {becomes}, because SQLite takes this type for one of numbers: \
         use a TEXT column, or give --lossy to store that",
        shown(word)
    ))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "compared"
)]
fn survives_rounding(integer: i64) -> bool {
    integer as f32 as i128 == i128::from(integer)
}

#[expect(clippy::cast_possible_truncation, reason = "what an R-Tree does")]
fn is_beyond_coordinates(real: f64) -> bool {
    real.is_finite() && (real as f32).is_infinite()
}

fn real(word: &str) -> Option<Result<Number, Loss>> {
    number::real(word).map(|real| real.map(Number::Real))
}

/// The beginning of a word, for a message.
fn shown(word: &str) -> String {
    const MAX: usize = 40;
    match word.char_indices().nth(MAX) {
        Some((end, _)) => format!("{:?}…", &word[..end]),
        None => format!("{word:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_type_is_read_as_sqlite_reads_it() {
        for (words, expected) in [
            ("", ColumnType::Any),
            ("INTEGER", ColumnType::Numeric),
            ("bigint", ColumnType::Numeric),
            ("POINT", ColumnType::Numeric),
            ("CHARINT", ColumnType::Numeric),
            ("varchar(20)", ColumnType::Text),
            ("TEXTBLOB", ColumnType::Text),
            ("blob", ColumnType::Blob),
            ("DOUBLE PRECISION", ColumnType::Real),
            ("DECIMAL(10, 2)", ColumnType::Numeric),
            ("STRING", ColumnType::Misnamed),
            ("uuid", ColumnType::Misnamed),
            ("ANY", ColumnType::Numeric),
        ] {
            assert_eq!(ColumnType::declared(words, false), expected, "{words}");
        }
        assert_eq!(ColumnType::declared("any", true), ColumnType::Any);
    }

    #[test]
    fn a_json_number_is_stored_exactly_or_refused() {
        let json = "0.1000000000000000055511151231257827";
        assert_eq!(ColumnType::Text.json_number(json), Ok(json.into()));
        assert_eq!(ColumnType::Text.json_number("1e400"), Ok("1e400".into()));
        for column in [
            ColumnType::Numeric,
            ColumnType::Real,
            ColumnType::Any,
            ColumnType::Blob,
        ] {
            for json in [json, "1e400", "18446744073709551615"] {
                assert!(column.json_number(json).is_err(), "{column:?} {json}");
            }
        }
    }
}
