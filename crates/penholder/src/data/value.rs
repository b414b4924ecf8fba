//! One value of a row or a parameter.

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

/// One value, of any of SQLite's five storage classes.
///
/// ```
/// use penholder::Value;
///
/// assert_eq!(Value::from("pen"), Value::Text("pen".into()));
/// assert_eq!(Value::from(None::<i64>), Value::Null);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `NULL`.
    Null,
    /// A signed 64-bit integer.
    Integer(i64),
    /// A 64-bit IEEE 754 number. SQLite stores NaN as `NULL`.
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

impl From<rusqlite::types::Value> for Value {
    fn from(value: rusqlite::types::Value) -> Self {
        use rusqlite::types::Value as Other;
        match value {
            Other::Null => Self::Null,
            Other::Integer(value) => Self::Integer(value),
            Other::Real(value) => Self::Real(value),
            Other::Text(value) => Self::Text(value),
            Other::Blob(value) => Self::Blob(value),
        }
    }
}

impl From<Value> for rusqlite::types::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(value) => Self::Integer(value),
            Value::Real(value) => Self::Real(value),
            Value::Text(value) => Self::Text(value),
            Value::Blob(value) => Self::Blob(value),
        }
    }
}

impl Value {
    /// Returns the length in bytes that [`GroupLimits::max_bytes`](crate::GroupLimits::max_bytes)
    /// counts.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Integer(_) | Self::Real(_) => 9,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }

    /// Borrows the value as rusqlite takes it.
    pub(super) fn as_ref(&self) -> ValueRef<'_> {
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
    /// Converts what SQLite returns. In text that is not UTF-8, wrong bytes are replaced by
    /// U+FFFD.
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
