//! One statement as plain data.

use super::params::{IntoParams, Params};
use super::value::Value;
use crate::error::{Error, Result};

/// How many characters of a statement an error shows.
const EXCERPT_MAX: usize = 60;

/// One SQL statement with its parameters, as plain data.
///
/// It owns its text and its values, so that it can be sent to another thread or process.
///
/// ```
/// use penholder::{Query, named_params};
///
/// let query = Query::new("INSERT INTO note VALUES (?1)", ["hello"]);
/// assert_eq!(query.sql(), "INSERT INTO note VALUES (?1)");
/// let named = Query::new("DELETE FROM note WHERE text = :text", named_params! {":text": "hello"});
/// # drop(named);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    sql: String,
    params: Params,
}

impl Query {
    /// Makes a query. Nothing is checked before it is to run: a value that cannot be converted
    /// and a wrong number of values are errors then.
    pub fn new(sql: impl Into<String>, params: impl IntoParams) -> Self {
        Self {
            sql: sql.into(),
            params: params.into_params(),
        }
    }

    /// Returns the SQL text.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Returns the parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Returns the SQL text, and one value for each parameter in the order of their numbers, as an
    /// engine takes them that knows no names.
    ///
    /// ```
    /// use penholder::{Query, Value, named_params};
    ///
    /// let sql = "DELETE FROM note WHERE text = :text AND id > :id";
    /// let query = Query::new(sql, named_params! {":id": 7, ":text": "hello"});
    /// let (_, values) = query.into_parts()?;
    /// assert_eq!(values, [Value::from("hello"), Value::from(7)]);
    /// # Ok::<(), penholder::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse): the names or the number of the values are
    /// not those of the parameters, a value cannot be converted, or the SQL contains a NUL byte.
    pub fn into_parts(self) -> Result<(String, Vec<Value>)> {
        let statement = self.into_statement("run SQL", |error, _| error)?;
        Ok((statement.sql, statement.values))
    }

    /// Returns it with its values in the order of its parameters; see [`Params::resolve`].
    /// `explain` adds to an error, with the SQL text.
    pub(crate) fn into_statement(
        self,
        what: &'static str,
        explain: impl FnOnce(Error, &str) -> Error,
    ) -> Result<Statement> {
        match self.params.resolve(what, &self.sql) {
            Ok(values) => Ok(Statement::new(self.sql, values)),
            Err(error) => Err(explain(error, &self.sql)),
        }
    }
}

impl From<&str> for Query {
    fn from(sql: &str) -> Self {
        Self::new(sql, ())
    }
}

impl From<String> for Query {
    fn from(sql: String) -> Self {
        Self::new(sql, ())
    }
}

impl<S: Into<String>, P: IntoParams> From<(S, P)> for Query {
    fn from((sql, params): (S, P)) -> Self {
        Self::new(sql, params)
    }
}

/// One SQL statement with one value for each of its parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Statement {
    pub(crate) fn new(sql: impl Into<String>, values: Vec<Value>) -> Self {
        Self {
            sql: sql.into(),
            values,
        }
    }

    /// Returns the length of its text and values together, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.sql.len() + self.values.iter().map(Value::bytes).sum::<usize>()
    }
}

/// Says which of several statements or steps is meant, with the beginning of its text if that may
/// be shown.
pub(crate) fn place_of(kind: &str, number: usize, of: usize, shown: Option<&str>) -> String {
    match shown {
        Some(sql) => format!("{kind} {number} of {of} (`{}`)", excerpt(sql)),
        None => format!("{kind} {number} of {of}"),
    }
}

/// Returns the beginning of a statement in one line.
fn excerpt(sql: &str) -> String {
    let mut words = String::new();
    for word in sql.split_whitespace() {
        if words.chars().count() > EXCERPT_MAX {
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    match words.char_indices().nth(EXCERPT_MAX) {
        Some((end, _)) => words[..end].chars().map(printable).chain(['…']).collect(),
        None => words.chars().map(printable).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_in_one_line() {
        assert_eq!(excerpt("  DELETE\n\tFROM a "), "DELETE FROM a");
        let long = format!("SELECT {}", "x".repeat(5000));
        assert_eq!(excerpt(&long).chars().count(), EXCERPT_MAX + 1);
        assert!(excerpt(&long).ends_with("x…"));
    }
}
