//! One row of a result.

use std::any::type_name;
use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlError};

use super::value::Value;
use crate::error::{Error, Result};

/// One row: its values and the names of its columns.
///
/// ```
/// # fn main() -> penholder::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let db = penholder::Database::open(directory.path().join("x.db"))?;
/// let rows = db.query("SELECT 1 AS id, 'ann' AS name", [])?;
/// let row = &rows[0];
/// assert_eq!(row.get::<i64>("id")?, 1);
/// assert_eq!(row.get::<String>(1)?, "ann");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    /// Makes a row of columns and as many values.
    pub(super) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        debug_assert_eq!(columns.len(), values.len());
        Self { columns, values }
    }

    /// Returns one value, converted to the type that is asked for: any type that implements
    /// rusqlite's [`FromSql`], `Option` of it for what may be `NULL`. The column is its index,
    /// from zero, or its name, in which the case of ASCII letters does not matter; of several
    /// columns with one name it is the first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse): there is no such column, or its value
    /// has another type.
    #[expect(clippy::needless_pass_by_value, reason = "an index or a reference")]
    pub fn get<T: FromSql>(&self, column: impl ColumnIndex) -> Result<T> {
        let index = column.index_in(&self.columns)?;
        let value = self.values.get(index).unwrap_or(&Value::Null);
        T::column_result(value.as_ref()).map_err(|error| {
            let column = &self.columns[index];
            let (stored, wanted) = (value.as_ref().data_type(), type_name::<T>());
            let (why, next) = match (error, value) {
                (FromSqlError::InvalidType, Value::Null) => (
                    format!("it is NULL, and {wanted} was asked for"),
                    "ask for an Option",
                ),
                (FromSqlError::InvalidType, _) => (
                    format!("it is {stored}, and {wanted} was asked for"),
                    "ask for the type that is stored",
                ),
                (error, _) => (
                    error.to_string(),
                    "ask for another type, or correct the value",
                ),
            };
            Error::misuse("read a row", format!("column {column:?}: {why}"), next)
        })
    }

    /// Returns the names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the values, one for each column.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Takes the values out.
    #[must_use]
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }
}

/// A column of a row: its index, from zero, or its name.
pub trait ColumnIndex: sealed::Sealed {
    /// Returns the index of the column among these.
    #[doc(hidden)]
    fn index_in(&self, columns: &[String]) -> Result<usize>;
}

impl ColumnIndex for usize {
    fn index_in(&self, columns: &[String]) -> Result<usize> {
        if *self < columns.len() {
            return Ok(*self);
        }
        let why = match columns.len() {
            1 => format!("there is no column {self}: the row has one, column 0"),
            count => format!("there is no column {self}: the row has {count}, counted from 0"),
        };
        Err(Error::misuse("read a row", why, "check the index"))
    }
}

impl ColumnIndex for &str {
    fn index_in(&self, columns: &[String]) -> Result<usize> {
        let named = |name: &String| name.eq_ignore_ascii_case(self);
        columns.iter().position(named).ok_or_else(|| {
            let why = format!("there is no column {self:?} among {columns:?}");
            Error::misuse(
                "read a row",
                why,
                "check the name, or name the column with AS",
            )
        })
    }
}

impl ColumnIndex for &String {
    fn index_in(&self, columns: &[String]) -> Result<usize> {
        self.as_str().index_in(columns)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for usize {}
    impl Sealed for &str {}
    impl Sealed for &String {}
}
