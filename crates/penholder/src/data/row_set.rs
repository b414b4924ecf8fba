//! What comes out of a statement.

use std::ops::Index;
use std::sync::Arc;

use super::row::Row;
use super::value::Value;

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
///
/// ```
/// # fn main() -> penholder::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let db = penholder::Database::open(directory.path().join("x.db"))?;
/// let rows = db.query("SELECT value AS n FROM json_each('[1, 2, 3]')", [])?;
/// assert_eq!((rows.len(), rows.columns()), (3, &["n".to_owned()][..]));
/// let mut sum = 0;
/// for row in &rows {
///     sum += row.get::<i64>("n")?;
/// }
/// assert_eq!(sum, 6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RowSet {
    columns: Arc<[String]>,
    rows: Vec<Row>,
}

impl Default for RowSet {
    fn default() -> Self {
        Self::new(Vec::new(), Vec::new())
    }
}

impl RowSet {
    /// Makes a result of rows that have these columns.
    ///
    /// # Panics
    ///
    /// In a debug build, a row has another number of values.
    #[must_use]
    pub fn new(columns: Vec<String>, rows: Vec<Vec<Value>>) -> Self {
        let columns: Arc<[String]> = columns.into();
        let row = |values| Row::new(Arc::clone(&columns), values);
        let rows = rows.into_iter().map(row).collect();
        Self { columns, rows }
    }

    /// Runs a prepared statement, whose parameters are bound, to its end and collects its rows.
    /// `names` is asked for the names of its columns.
    ///
    /// # Errors
    ///
    /// Those of SQLite.
    #[doc(hidden)]
    pub fn of(
        statement: &mut rusqlite::Statement<'_>,
        names: impl Fn(&rusqlite::Statement<'_>) -> Vec<String>,
    ) -> rusqlite::Result<Self> {
        Self::up_to(usize::MAX, statement, names)
    }

    /// Collects at most `max` rows, and runs the statement no further.
    pub(crate) fn up_to(
        max: usize,
        statement: &mut rusqlite::Statement<'_>,
        names: impl Fn(&rusqlite::Statement<'_>) -> Vec<String>,
    ) -> rusqlite::Result<Self> {
        // Read after the first step, which prepares the statement again if the schema has
        // changed.
        let mut columns: Option<Arc<[String]>> = None;
        let mut rows = Vec::new();
        let mut found = statement.raw_query();
        while rows.len() < max {
            let Some(row) = found.next()? else {
                break;
            };
            let columns = columns.get_or_insert_with(|| names(row.as_ref()).into());
            let values: rusqlite::Result<_> = (0..columns.len()).map(|at| row.get(at)).collect();
            rows.push(Row::new(Arc::clone(columns), values?));
        }
        drop(found);
        let columns = columns.unwrap_or_else(|| names(statement).into());
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

    /// Returns the row with this index, from zero.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Row> {
        self.rows.get(index)
    }

    /// Returns the first row.
    #[must_use]
    pub fn first(&self) -> Option<&Row> {
        self.rows.first()
    }

    /// Iterates over the rows.
    pub fn iter(&self) -> std::slice::Iter<'_, Row> {
        self.rows.iter()
    }
}

impl Index<usize> for RowSet {
    type Output = Row;

    /// # Panics
    ///
    /// The index is not below [`len`](Self::len).
    fn index(&self, index: usize) -> &Row {
        &self.rows[index]
    }
}

impl IntoIterator for RowSet {
    type Item = Row;
    type IntoIter = std::vec::IntoIter<Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<'a> IntoIterator for &'a RowSet {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}
