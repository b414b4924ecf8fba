//! Plain data: what goes into a statement and what comes out of it.
//!
//! Owned values only, so that a statement can travel to another process, or to
//! another engine.

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::error::{Error, Result};

/// One value of SQLite's five storage classes.
///
/// ```
/// use penholder::Value;
///
/// assert_eq!(Value::from("pen"), Value::Text("pen".into()));
/// assert_eq!(Value::from(None::<i64>), Value::Null);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A signed 64-bit integer.
    Integer(i64),
    /// A 64-bit IEEE number. SQLite stores NaN as NULL.
    Real(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

macro_rules! from {
    ($($type:ty => $value:ident => $to:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $to
            }
        }
    )*};
}

from! {
    i64 => value => Self::Integer(value);
    i32 => value => Self::Integer(value.into());
    i16 => value => Self::Integer(value.into());
    i8 => value => Self::Integer(value.into());
    u32 => value => Self::Integer(value.into());
    u16 => value => Self::Integer(value.into());
    u8 => value => Self::Integer(value.into());
    bool => value => Self::Integer(value.into());
    f64 => value => Self::Real(value);
    f32 => value => Self::Real(value.into());
    &str => value => Self::Text(value.to_owned());
    String => value => Self::Text(value);
    &String => value => Self::Text(value.clone());
    &[u8] => value => Self::Blob(value.to_vec());
    Vec<u8> => value => Self::Blob(value);
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Integer(_) | Self::Real(_) => 9,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }

    fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.as_ref()))
    }
}

impl FromSql for Value {
    /// Text that is not UTF-8 has its wrong bytes replaced.
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Real(value) => Self::Real(value),
            ValueRef::Text(value) => Self::Text(String::from_utf8_lossy(value).into_owned()),
            ValueRef::Blob(value) => Self::Blob(value.to_vec()),
        })
    }
}

/// What can be bound to the parameters `?1`, `?2` … of a statement: `()`,
/// an array, a slice, a `Vec`, a tuple of up to eight, or [`params!`](crate::params!).
pub trait IntoParams {
    /// The values, the first for `?1`.
    fn into_params(self) -> Vec<Value>;
}

impl IntoParams for () {
    fn into_params(self) -> Vec<Value> {
        Vec::new()
    }
}

impl<T: Into<Value>, const N: usize> IntoParams for [T; N] {
    fn into_params(self) -> Vec<Value> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<Value>> IntoParams for Vec<T> {
    fn into_params(self) -> Vec<Value> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<Value> + Clone> IntoParams for &[T] {
    fn into_params(self) -> Vec<Value> {
        self.iter().cloned().map(Into::into).collect()
    }
}

macro_rules! tuples {
    ($(($($name:ident $place:tt),+);)*) => {$(
        impl<$($name: Into<Value>),+> IntoParams for ($($name,)+) {
            fn into_params(self) -> Vec<Value> {
                vec![$(self.$place.into()),+]
            }
        }
    )*};
}

tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
}

/// The parameters of a statement, of different types and any number.
///
/// ```
/// use penholder::{Value, params};
///
/// assert_eq!(params![1, "two"], [Value::Integer(1), Value::Text("two".into())]);
/// ```
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        [$($crate::Value::from($value)),*] as [$crate::Value; _]
    };
}

/// One statement with its parameters, as plain data.
///
/// ```
/// use penholder::Statement;
///
/// let statement = Statement::new("INSERT INTO note VALUES (?1)", ["hello"]);
/// assert_eq!(statement.sql(), "INSERT INTO note VALUES (?1)");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    sql: String,
    params: Vec<Value>,
}

impl Statement {
    /// A statement; nothing is checked before it runs.
    pub fn new(sql: impl Into<String>, params: impl IntoParams) -> Self {
        Self {
            sql: sql.into(),
            params: params.into_params(),
        }
    }

    /// The SQL text.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// How long its text and values are.
    pub(crate) fn bytes(&self) -> usize {
        self.sql.len() + self.params.iter().map(Value::bytes).sum::<usize>()
    }

    /// The values bound to its parameters.
    #[must_use]
    pub fn params(&self) -> &[Value] {
        &self.params
    }
}

/// Refuses SQL with a NUL byte, at which SQLite would stop reading: what came
/// before it would run as if it were all.
pub(crate) fn refuse_nul(what: &'static str, sql: &str) -> Result<()> {
    let Some(place) = sql.find('\0') else {
        return Ok(());
    };
    let why = format!("the SQL contains a NUL byte after {place} bytes: nothing was run");
    Err(Error::misuse(what, why, "remove it"))
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        Self::new(sql, ())
    }
}

impl<S: Into<String>, P: IntoParams> From<(S, P)> for Statement {
    fn from((sql, params): (S, P)) -> Self {
        Self::new(sql, params)
    }
}

/// What a statement did.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Executed {
    /// Rows that it inserted, changed or deleted itself; what triggers and
    /// foreign key actions did is not counted.
    pub rows_changed: u64,
    /// The rowid of the last row it inserted; `None` if it inserted none.
    pub last_insert_id: Option<i64>,
    /// The rows of its `RETURNING` clause.
    pub returned: Rows,
}

/// Rows, all of them, in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Rows {
    /// Runs a prepared statement, its parameters bound, to its end.
    ///
    /// # Errors
    ///
    /// SQLite's.
    pub fn of(statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<Self> {
        let width = statement.column_count();
        #[expect(clippy::useless_conversion, reason = "a vector up to rusqlite 0.40")]
        let names = statement.column_names().into_iter();
        let columns = names.map(str::to_owned).collect();
        let mut rows = Vec::new();
        let mut found = statement.raw_query();
        while let Some(row) = found.next()? {
            let values: rusqlite::Result<_> = (0..width).map(|place| row.get(place)).collect();
            rows.push(values?);
        }
        Ok(Self { columns, rows })
    }

    /// The names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, each as its values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[Value]> {
        self.rows.iter().map(Vec::as_slice)
    }

    /// One value, converted.
    ///
    /// ```
    /// # fn main() -> penholder::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = penholder::Database::open(folder.path().join("x.db"))?;
    /// let rows = db.query("SELECT 6 * 7 AS answer", ())?;
    /// assert_eq!(rows.get::<i64>(0, "answer")?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such row or column, or the value is of another type.
    pub fn get<T: FromSql>(&self, row: usize, column: &str) -> Result<T> {
        let place = self.columns.iter().position(|name| name == column);
        let found = self.rows.get(row).zip(place);
        let Some(value) = found.and_then(|(values, place)| values.get(place)) else {
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

impl IntoIterator for Rows {
    type Item = Vec<Value>;
    type IntoIter = std::vec::IntoIter<Vec<Value>>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}
