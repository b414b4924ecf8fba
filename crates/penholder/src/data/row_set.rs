//! What comes out of a statement.

use rusqlite::types::FromSql;

use super::value::Value;
use crate::error::{Error, Result};

/// What a statement did.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Executed {
    /// How many rows the statement itself inserted, changed or deleted. Changes by triggers
    /// and foreign key actions are not counted.
    pub rows_changed: u64,
    /// The rowid of the last row that it inserted; `None` if it inserted none.
    pub last_insert_rowid: Option<i64>,
    /// The rows of its `RETURNING` clause.
    pub returned: RowSet,
}

/// All rows of a result, in memory, with the names of their columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowSet {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl RowSet {
    /// Runs a prepared statement, whose parameters are bound, to its end and collects its rows.
    ///
    /// # Errors
    ///
    /// Those of SQLite.
    pub fn of(statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<Self> {
        let width = statement.column_count();
        #[expect(clippy::useless_conversion, reason = "a vector up to rusqlite 0.40")]
        let names = statement.column_names().into_iter();
        let columns = names.map(str::to_owned).collect();
        let mut rows = Vec::new();
        let mut found = statement.raw_query();
        while let Some(row) = found.next()? {
            let values: rusqlite::Result<_> = (0..width).map(|column| row.get(column)).collect();
            rows.push(values?);
        }
        Ok(Self { columns, rows })
    }

    /// Returns the names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Iterates over the rows, each a slice of its values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[Value]> {
        self.rows.iter().map(Vec::as_slice)
    }

    /// Returns one value, converted to the type that is asked for. `row` counts from zero.
    ///
    /// ```
    /// # fn main() -> penholder::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = penholder::Database::open(directory.path().join("x.db"))?;
    /// let rows = db.query("SELECT 6 * 7 AS answer", ())?;
    /// assert_eq!(rows.get::<i64>(0, "answer")?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such row or column, or the value has another type.
    pub fn get<T: FromSql>(&self, row: usize, column: &str) -> Result<T> {
        let index = self.columns.iter().position(|name| name == column);
        let found = self.rows.get(row).zip(index);
        let Some(value) = found.and_then(|(values, index)| values.get(index)) else {
            let why = format!("there is no row {row} with a column {column}");
            return Err(Error::misuse(
                "read a row",
                why,
                "look at `columns` and `len`",
            ));
        };
        T::column_result(value.as_ref()).map_err(|error| {
            let why = format!("row {row}, column {column}: {error}");
            Error::misuse("read a row", why, "ask for the type that is stored")
        })
    }
}

impl IntoIterator for RowSet {
    type Item = Vec<Value>;
    type IntoIter = std::vec::IntoIter<Vec<Value>>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}
