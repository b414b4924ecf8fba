//! One statement as plain data.

use super::params::IntoParams;
use super::value::Value;
use crate::error::{Error, Result};

/// One SQL statement with its parameters, as plain data.
///
/// It owns its text and its values, so that a statement can be sent to another process.
///
/// ```
/// use penholder::Query;
///
/// let statement = Query::new("INSERT INTO note VALUES (?1)", ["hello"]);
/// assert_eq!(statement.sql(), "INSERT INTO note VALUES (?1)");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    sql: String,
    params: Vec<Value>,
}

impl Query {
    /// Makes a statement. Nothing is checked before it runs.
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

    /// Returns the length of its text and values together, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.sql.len() + self.params.iter().map(Value::bytes).sum::<usize>()
    }

    /// Returns the values of its parameters.
    #[must_use]
    pub fn params(&self) -> &[Value] {
        &self.params
    }
}

impl From<&str> for Query {
    fn from(sql: &str) -> Self {
        Self::new(sql, ())
    }
}

impl<S: Into<String>, P: IntoParams> From<(S, P)> for Query {
    fn from((sql, params): (S, P)) -> Self {
        Self::new(sql, params)
    }
}

/// Refuses SQL that contains a NUL byte. SQLite stops reading there and would run the part
/// before it.
///
/// `what` is the operation that the error names.
pub(crate) fn refuse_nul(what: &'static str, sql: &str) -> Result<()> {
    let Some(offset) = sql.find('\0') else {
        return Ok(());
    };
    let why = format!("the SQL contains a NUL byte after {offset} bytes: nothing was run");
    Err(Error::misuse(what, why, "remove it"))
}
