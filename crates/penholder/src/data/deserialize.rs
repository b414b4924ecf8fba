//! Rows as values of any type that serde can deserialize.
//!
//! | type | from a row |
//! | --- | --- |
//! | a struct with named fields, a map | the columns of these names; other columns are ignored |
//! | a tuple, a tuple struct, `Vec` | all columns in order |
//! | anything else | the only column |
//!
//! | type | from a value |
//! | --- | --- |
//! | `Option` | `NULL` is `None` |
//! | integers | an integer in range |
//! | `f32`, `f64` | a real number or an integer |
//! | `bool` | 0 or 1 |
//! | `String`, `char`, an enum without data | text |
//! | `Vec<u8>`, byte arrays | a blob |
//! | what is deserialized from text or bytes, such as a date with a time zone or a UUID | text or a blob |
//! | a field with `from_sql` | whatever `FromSql` takes |

use std::fmt;
use std::marker::PhantomData;

use rusqlite::types::{FromSql, ValueRef};
use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::row::Row;
use super::value::Value;
use crate::error::{Error, Result};

impl Row {
    /// Converts the row to a tuple, a struct, or any other type that serde can deserialize.
    ///
    /// A struct takes the columns that have the names of its fields and ignores others; a tuple
    /// takes all columns in order; any other type takes the only column. `NULL` is `None`,
    /// integers 0 and 1 are also a `bool`, text is also an enum without data, and a blob is a
    /// `Vec<u8>`.
    ///
    /// A type of another crate needs that crate's own feature `serde`: `chrono` and `uuid` have
    /// one, for instance. It is read as serde reads it, which for some types is not what rusqlite
    /// stores: `chrono::NaiveDateTime`, the types of `time`, `serde_json::Value`. For a field of
    /// such a type give [`from_sql`](crate::from_sql), which reads it as [`get`](Self::get) does.
    ///
    /// ```
    /// # fn main() -> penholder::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = penholder::Database::open(directory.path().join("x.db"))?;
    /// #[derive(serde::Deserialize)]
    /// struct Job {
    ///     id: i64,
    ///     name: Option<String>,
    /// }
    /// let rows = db.query("SELECT 1 AS id, NULL AS name", [])?;
    /// let job: Job = rows[0].deserialize()?;
    /// assert_eq!((job.id, job.name), (1, None));
    /// let (id, name): (i64, Option<String>) = rows[0].deserialize()?;
    /// assert_eq!((id, name), (1, None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse): a field has no column, or the type of a
    /// value does not fit. The text names the column.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(RowDeserializer { row: self }).map_err(|Mismatch(why)| {
            let next = "let the type fit the columns, or name the columns with AS";
            Error::misuse("read a row", why, next)
        })
    }
}

/// Reads a field of a struct as rusqlite's [`FromSql`] reads it, and not as serde does: for types
/// that rusqlite stores in another form, such as `chrono::NaiveDateTime`, `serde_json::Value` and
/// the types of `time`, and for types of your own that implement `FromSql`.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Job {
///     id: i64,
///     #[serde(deserialize_with = "penholder::from_sql")]
///     size: Size,
/// }
///
/// struct Size(i64);
///
/// use penholder::rusqlite::types::{FromSql, FromSqlResult, ValueRef};
///
/// impl FromSql for Size {
///     fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
///         value.as_i64().map(Size)
///     }
/// }
///
/// # fn main() -> penholder::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let db = penholder::Database::open(directory.path().join("x.db"))?;
/// let jobs = db.query_as::<Job>("SELECT 1 AS id, 7 AS size", [])?;
/// assert_eq!((jobs[0].id, jobs[0].size.0), (1, 7));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The value cannot be converted.
pub fn from_sql<'de, D: Deserializer<'de>, T: FromSql>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(ByFromSql(PhantomData))
}

struct ByFromSql<T>(PhantomData<T>);

impl<'de, T: FromSql> Visitor<'de> for ByFromSql<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of SQLite")
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        by_from_sql(ValueRef::Null)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        by_from_sql(ValueRef::Integer(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        by_from_sql(ValueRef::Real(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
        by_from_sql(ValueRef::Text(value.as_bytes()))
    }

    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<T, E> {
        by_from_sql(ValueRef::Blob(value))
    }
}

fn by_from_sql<T: FromSql, E: de::Error>(value: ValueRef<'_>) -> Result<T, E> {
    T::column_result(value).map_err(E::custom)
}

/// Why a row does not fit a type.
#[derive(Debug)]
struct Mismatch(String);

impl Mismatch {
    fn in_column(self, column: &str) -> Self {
        Self(format!("column {column:?}: {}", self.0))
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Unit => Self(format!("it is NULL, and {expected} was expected")),
            found => Self(format!("invalid type: {found}, expected {expected}")),
        }
    }
}

struct RowDeserializer<'r> {
    row: &'r Row,
}

impl<'r> RowDeserializer<'r> {
    fn columns(&self) -> Columns<'r> {
        Columns {
            row: self.row,
            next: 0,
        }
    }

    /// Returns the only value.
    fn only(&self) -> Result<ValueDeserializer<'r>, Mismatch> {
        match self.row.values() {
            [value] => Ok(ValueDeserializer(value)),
            values => Err(Mismatch(format!(
                "the row has {} columns, and the type takes one",
                values.len()
            ))),
        }
    }

    fn sequence<V: Visitor<'r>>(&self, visitor: V) -> Result<V::Value, Mismatch> {
        let mut columns = self.columns();
        let value = visitor.visit_seq(&mut columns)?;
        match self.row.values().len() - columns.next {
            0 => Ok(value),
            _ => Err(Mismatch(format!(
                "the row has {} columns, and the type takes {}",
                self.row.values().len(),
                columns.next
            ))),
        }
    }
}

/// Passes on to the only column what is deserialized from one value.
macro_rules! only_column {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            let only = self.only()?;
            only.$method(visitor).map_err(|why| why.in_column(&self.row.columns()[0]))
        }
    )*};
}

impl<'r> Deserializer<'r> for RowDeserializer<'r> {
    type Error = Mismatch;

    only_column! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_unit deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_map(self.columns())
    }

    fn deserialize_map<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_map(self.columns())
    }

    fn deserialize_struct<V: Visitor<'r>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_map(self.columns())
    }

    fn deserialize_seq<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        // `Vec<u8>`: one blob is a sequence of its bytes.
        if let [value @ Value::Blob(_)] = self.row.values() {
            return ValueDeserializer(value).deserialize_seq(visitor);
        }
        self.sequence(visitor)
    }

    fn deserialize_tuple<V: Visitor<'r>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        if length != self.row.values().len()
            && let [value @ Value::Blob(_)] = self.row.values()
        {
            return ValueDeserializer(value).deserialize_seq(visitor);
        }
        self.sequence(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'r>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.sequence(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'r>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.only()?.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'r>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'r>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }
}

/// The columns of a row, one after the other.
struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    fn name(&self) -> Option<&'r str> {
        self.row.columns().get(self.next).map(String::as_str)
    }

    /// Deserializes the next value.
    fn take<S: DeserializeSeed<'r>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        let (Some(value), Some(name)) = (self.row.values().get(self.next), self.name()) else {
            return Ok(None);
        };
        self.next += 1;
        let taken = seed.deserialize(ValueDeserializer(value));
        taken.map(Some).map_err(|why| why.in_column(name))
    }
}

impl<'r> SeqAccess<'r> for &mut Columns<'r> {
    type Error = Mismatch;

    fn next_element_seed<S: DeserializeSeed<'r>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mismatch> {
        self.take(seed)
    }
}

impl<'r> MapAccess<'r> for Columns<'r> {
    type Error = Mismatch;

    fn next_key_seed<S: DeserializeSeed<'r>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mismatch> {
        let Some(name) = self.name() else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Mismatch> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'r>>(&mut self, seed: S) -> Result<S::Value, Mismatch> {
        let taken = self.take(seed)?;
        taken.ok_or_else(|| Mismatch("a value was asked for without its name".to_owned()))
    }
}

struct ValueDeserializer<'r>(&'r Value);

impl<'r> Deserializer<'r> for ValueDeserializer<'r> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Real(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::Blob(value) => visitor.visit_borrowed_bytes(value),
        }
    }

    fn deserialize_bool<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Integer(value @ (0 | 1)) => visitor.visit_bool(*value == 1),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'r>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Blob(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'r>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'r>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'r>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Text(variant) => visitor.visit_enum(Variant(variant)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        <V: Visitor<'r>>
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple_struct map struct identifier ignored_any
    }
}

/// A text that names a variant without data.
struct Variant<'r>(&'r str);

impl<'r> EnumAccess<'r> for Variant<'r> {
    type Error = Mismatch;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'r>>(self, seed: S) -> Result<(S::Value, Self), Mismatch> {
        let name: StrDeserializer<'_, Mismatch> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'r> VariantAccess<'r> for Variant<'r> {
    type Error = Mismatch;

    fn unit_variant(self) -> Result<(), Mismatch> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'r>>(self, _seed: S) -> Result<S::Value, Mismatch> {
        Err(self.has_data())
    }

    fn tuple_variant<V: Visitor<'r>>(
        self,
        _length: usize,
        _visitor: V,
    ) -> Result<V::Value, Mismatch> {
        Err(self.has_data())
    }

    fn struct_variant<V: Visitor<'r>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Mismatch> {
        Err(self.has_data())
    }
}

impl Variant<'_> {
    fn has_data(&self) -> Mismatch {
        Mismatch(format!(
            "the variant {:?} has data, and text has none",
            self.0
        ))
    }
}
