//! The values that words of a command line stand for, as the commands of this project read them. No
//! part of the API.

use rusqlite::Connection;

use crate::data::Value;

/// The value that a word of the command line stands for.
#[must_use]
pub fn value(word: &str) -> Value {
    if word == "null:" {
        return Value::Null;
    }
    if let Some(text) = word.strip_prefix("text:") {
        return text.into();
    }
    if let Some(integer) = canonical_integer(word) {
        return integer.into();
    }
    canonical_real(word).map_or_else(|| word.into(), Value::from)
}

/// Reads an integer, if printing it gives the same word: `007`, `+5` and `-0` are text, so that a
/// column of text keeps them.
fn canonical_integer(word: &str) -> Option<i64> {
    let integer: i64 = word.parse().ok()?;
    (integer.to_string() == word).then_some(integer)
}

/// Reads a real number, if SQLite prints it as the same word when a column makes text of it:
/// `1.10`, `1e5` and a number with too many digits are text.
fn canonical_real(word: &str) -> Option<f64> {
    if !word.contains('.') {
        return None;
    }
    let real: f64 = word.parse().ok()?;
    (as_text(real).ok()? == word).then_some(real)
}

/// Returns how SQLite prints a real number, which depends on its version.
fn as_text(real: f64) -> rusqlite::Result<String> {
    Connection::open_in_memory()?.query_row("SELECT CAST(?1 AS TEXT)", [real], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Database;

    #[test]
    fn canonical_numbers_become_numbers() {
        for (word, expected) in [
            ("42", Value::Integer(42)),
            ("-7", Value::Integer(-7)),
            ("0", Value::Integer(0)),
            ("-9223372036854775808", Value::Integer(i64::MIN)),
            ("1.5", Value::Real(1.5)),
            ("0.0", Value::Real(0.0)),
            ("-0.001", Value::Real(-0.001)),
            ("10.0", Value::Real(10.0)),
            ("null:", Value::Null),
        ] {
            assert_eq!(value(word), expected, "{word}");
        }
    }

    #[test]
    fn everything_else_is_text() {
        let words = [
            "",
            "null",
            "e",
            "inf",
            "NaN",
            "007",
            "-0",
            "-0.0",
            "+5",
            "+4912345",
            "1.10",
            "1.",
            ".5",
            "01.5",
            "-1e3",
            "1e5",
            "1E5",
            "6063e25",
            "1e999",
            "1_000",
            "0x10",
            "0.00001",
            "1.5e3",
            " 1",
            "1 ",
            "9223372036854775808",
            "99999999999999999999",
            "0.1234567890123456789",
            "٣",
        ];
        for word in words {
            assert_eq!(value(word), Value::Text(word.into()), "{word}");
            let marked = format!("text:{word}");
            assert_eq!(value(&marked), Value::Text(word.into()), "{marked}");
        }
        assert_eq!(value("text:42"), Value::Text("42".into()));
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| number.to_string()),
            (any::<i32>(), 0_u8..20).prop_map(|(number, digits)| {
                format!("{:.*}", usize::from(digits), f64::from(number) / 4096.0)
            }),
            "-?[0-9]{1,9}\\.[0-9]{1,9}",
            "[-+]?0{0,2}[0-9]{0,20}\\.?[0-9]{0,3}(e[0-9])?",
        ]
    }

    proptest! {
        /// What SQLite makes of a column of text is the word that was given.
        #[test]
        fn a_column_of_text_keeps_every_word(words in prop::collection::vec(word(), 1..50)) {
            let directory = tempfile::tempdir().unwrap();
            let db = Database::open(directory.path().join("x.db")).unwrap();
            db.execute("CREATE TABLE t(v TEXT)", ()).unwrap();
            let insert = |word: &String| ("INSERT INTO t VALUES (?1)", [value(word)]);
            db.batch(words.iter().map(insert)).unwrap();
            let rows: Vec<(String,)> = db.query_as("SELECT v FROM t ORDER BY rowid", ()).unwrap();
            let kept: Vec<String> = rows.into_iter().map(|(v,)| v).collect();
            prop_assert_eq!(kept, words);
        }
    }
}
