//! SQL parameters on the command line.

use std::cell::Cell;

use penholder::Value;
use penholder::rusqlite::{self, Connection, Statement};
use penholder_core::one_line;

use crate::failure::{FAILED, Failure, USAGE};

/// The values for the parameters of SQL.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// For `?1`, `?2` …
    pub(crate) positional: Vec<Value>,
    /// Whether a statement got them.
    are_used: Cell<bool>,
    /// For `:name`, `@name` and `$name`.
    named: Vec<Named>,
}

#[derive(Debug)]
struct Named {
    name: String,
    value: Value,
    is_used: Cell<bool>,
}

impl Parameters {
    /// Reads the words after the SQL, and those of `--param`, which are `NAME=VALUE`.
    pub(crate) fn of(positional: &[String], named: &[String]) -> Result<Self, Failure> {
        let mut parameters = Self {
            positional: positional.iter().map(|word| value(word)).collect(),
            ..Self::default()
        };
        for word in named {
            parameters.add(word)?;
        }
        Ok(parameters)
    }

    fn add(&mut self, word: &str) -> Result<(), Failure> {
        let shown = one_line(word);
        let refused = |why: &str| Failure::new(format!("--param {shown}: {why}"), USAGE);
        let Some((name, text)) = word.split_once('=') else {
            return Err(refused("give NAME=VALUE"));
        };
        let name = name.strip_prefix(PREFIXES).unwrap_or(name);
        if name.is_empty() {
            return Err(refused("the name is empty: give NAME=VALUE"));
        }
        if self.named.iter().any(|one| one.name == name) {
            return Err(refused("the name has a value already"));
        }
        self.named.push(Named {
            name: name.to_owned(),
            value: value(text),
            is_used: Cell::new(false),
        });
        Ok(())
    }

    /// Whether there are values for `?1`, `?2` … and for no others.
    pub(crate) fn are_positional(&self) -> bool {
        !self.positional.is_empty() && self.named.is_empty()
    }

    /// Gives each parameter of a statement its value.
    ///
    /// # Errors
    ///
    /// A parameter has no value, or there are more values than `?1`, `?2` … have places for.
    pub(crate) fn bind(&self, statement: &mut Statement<'_>) -> Result<(), Failure> {
        let count = statement.parameter_count();
        let (mut places, mut names) = (0, 0);
        for number in 1..=count {
            let name = statement.parameter_name(number).map(str::to_owned);
            let named = name.as_deref().and_then(|name| name.strip_prefix(PREFIXES));
            let value = match (named, &name) {
                (Some(name), _) => {
                    names += 1;
                    self.named(name)?
                }
                (None, name) => {
                    // SQLite counts the names before a `?` too, which need no value here.
                    let place = if name.is_some() {
                        number
                    } else {
                        number - names
                    };
                    places = places.max(place);
                    let value = self.positional.get(place - 1);
                    value.ok_or_else(|| self.wrong_number(count, place))?
                }
            };
            statement.raw_bind_parameter(number, value)?;
        }
        if self.positional.len() > places {
            return Err(self.wrong_number(count, places + 1));
        }
        self.are_used.set(true);
        Ok(())
    }

    fn given(&self) -> String {
        match self.positional.len() {
            1 => "1 value is given".to_owned(),
            given => format!("{given} values are given"),
        }
    }

    fn wrong_number(&self, count: usize, place: usize) -> Failure {
        if !self.named.is_empty() {
            let given = self.given();
            let why = format!(
                "{given} for ?1, ?2 …, which does not fit ?{place}: give one value for each of them \
                 after the SQL"
            );
            return Failure::new(why, FAILED);
        }
        let count = match count {
            0 => "no parameters".to_owned(),
            1 => "1 parameter".to_owned(),
            count => format!("{count} parameters"),
        };
        let given = self.given();
        let next = "give one for each after the SQL, or names with --param NAME=VALUE";
        let why = format!("the statement has {count}, and {given}: {next}");
        Failure::new(why, FAILED)
    }

    fn named(&self, name: &str) -> Result<&Value, Failure> {
        let Some(found) = self.named.iter().find(|one| one.name == name) else {
            let why = format!("the parameter {name} has no value: give --param {name}=VALUE");
            return Err(Failure::new(why, FAILED));
        };
        found.is_used.set(true);
        Ok(&found.value)
    }

    /// Refuses values that no statement has a place for: a name is probably misspelt.
    pub(crate) fn refuse_unused(&self) -> Result<(), Failure> {
        if !self.positional.is_empty() && !self.are_used.get() {
            let given = self.given();
            let why = format!("the SQL has no parameters, and {given}: leave them out");
            return Err(Failure::new(why, FAILED));
        }
        match self.named.iter().find(|one| !one.is_used.get()) {
            None => Ok(()),
            Some(Named { name, .. }) => {
                let name = one_line(name);
                let why =
                    format!("--param {name}: the SQL has no parameter :{name}: check the name");
                Err(Failure::new(why, FAILED))
            }
        }
    }
}

/// What a named parameter of SQL begins with.
const PREFIXES: [char; 3] = [':', '@', '$'];

/// The value that a word of the command line stands for.
fn value(word: &str) -> Value {
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
    use penholder::Database;
    use proptest::prelude::*;

    use super::*;

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
