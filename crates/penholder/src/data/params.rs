//! The parameters of a statement.

use std::borrow::Cow;
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroIsize, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroUsize, TryFromIntError,
};
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::types::{ToSql, ToSqlOutput};

use super::markers::Markers;
use super::value::Value;
use crate::error::{Error, Result};

/// The parameters of a statement as plain data: positional or named.
///
/// It is what [`IntoParams`] makes of rusqlite's kinds of parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    given: Given,
}

#[derive(Debug, Clone, PartialEq)]
enum Given {
    Positional(Vec<Value>),
    Named(Vec<(String, Value)>),
    /// A value that cannot be converted; the error is returned when the statement is to run.
    Invalid {
        parameter: String,
        why: String,
    },
}

impl Params {
    /// Makes positional parameters.
    fn positional(converted: impl Iterator<Item = Converted>) -> Self {
        let mut values = Vec::with_capacity(converted.size_hint().0);
        for (index, value) in converted.enumerate() {
            match value {
                Ok(value) => values.push(value),
                Err(why) => return Self::invalid(format!("?{}", index + 1), why),
            }
        }
        values.into()
    }

    /// Makes named parameters.
    fn named<'a>(converted: impl Iterator<Item = (&'a str, Converted)>) -> Self {
        let mut values = Vec::with_capacity(converted.size_hint().0);
        for (name, value) in converted {
            match value {
                Ok(value) => values.push((name.to_owned(), value)),
                Err(why) => return Self::invalid(name.to_owned(), why),
            }
        }
        Self {
            given: Given::Named(values),
        }
    }

    fn invalid(parameter: String, why: String) -> Self {
        Self {
            given: Given::Invalid { parameter, why },
        }
    }

    /// Refuses SQL that contains a NUL byte. SQLite stops reading there and would run the part
    /// before it.
    pub(crate) fn refuse_nul(what: &'static str, sql: &str) -> Result<()> {
        let Some(offset) = sql.find('\0') else {
            return Ok(());
        };
        let why = format!("the SQL contains a NUL byte after {offset} bytes: nothing was run");
        Err(Error::misuse(what, why, "remove it"))
    }

    /// Returns the values in the order of the numbers that the statement gives its parameters.
    ///
    /// `what` is the operation that the error names.
    ///
    /// # Errors
    ///
    /// The names or the number of the values are not those of the parameters, a value cannot be
    /// converted, or the SQL contains a NUL byte.
    pub(crate) fn resolve(self, what: &'static str, sql: &str) -> Result<Vec<Value>> {
        Self::refuse_nul(what, sql)?;
        let markers = Markers::of(sql);
        match self.given {
            Given::Positional(values) if values.len() == markers.count || !markers.is_complete => {
                Ok(values)
            }
            Given::Positional(values) => Err(wrong_count(what, &markers, values.len())),
            Given::Named(named) => by_number(what, &markers, named),
            Given::Invalid { parameter, why } => Err(Error::misuse(
                what,
                format!("parameter {parameter}: {why}: nothing was run"),
                "store it as text or as a blob",
            )),
        }
    }
}

/// Positional parameters.
impl From<Vec<Value>> for Params {
    fn from(values: Vec<Value>) -> Self {
        Self {
            given: Given::Positional(values),
        }
    }
}

fn wrong_count(what: &'static str, markers: &Markers<'_>, given: usize) -> Error {
    let values = match given {
        1 => "1 value was given".to_owned(),
        given => format!("{given} values were given"),
    };
    let parameters = match markers.count {
        0 => "no parameters".to_owned(),
        1 => "1 parameter".to_owned(),
        count => format!("{count} parameters"),
    };
    let why = format!("the statement has {parameters}, and {values}: nothing was run");
    Error::misuse(what, why, "give one value for each parameter")
}

/// Orders named values by the numbers of their parameters.
fn by_number(
    what: &'static str,
    markers: &Markers<'_>,
    named: Vec<(String, Value)>,
) -> Result<Vec<Value>> {
    let mut values = vec![None; markers.count];
    for (name, value) in named {
        let number = markers.number_of(&name);
        let Some(place) = number.and_then(|number| values.get_mut(number - 1)) else {
            return Err(unknown_name(what, markers, &name));
        };
        if place.replace(value).is_some() {
            let why = format!("two values for {name}: nothing was run");
            return Err(Error::misuse(what, why, "give each parameter one value"));
        }
    }
    let missing = values.iter().position(Option::is_none);
    if let Some(index) = missing.filter(|_| markers.is_complete) {
        let why = format!(
            "no value for {}: nothing was run",
            name_of(markers, index + 1)
        );
        return Err(Error::misuse(what, why, "give each parameter a value"));
    }
    Ok(values
        .into_iter()
        .map(|value| value.unwrap_or(Value::Null))
        .collect())
}

fn unknown_name(what: &'static str, markers: &Markers<'_>, name: &str) -> Error {
    let prefixes = [":", "@", "$"];
    let meant = prefixes.map(|prefix| format!("{prefix}{name}"));
    let meant = meant.iter().find(|name| markers.number_of(name).is_some());
    let hint = match meant {
        Some(meant) => format!("; the name of a parameter includes its prefix: {meant:?}"),
        None => String::new(),
    };
    let why = format!("the statement has no parameter {name:?}{hint}: nothing was run");
    Error::misuse(what, why, "give the names that are in the statement")
}

fn name_of(markers: &Markers<'_>, number: usize) -> String {
    let found = markers.names.iter().find(|(_, known)| *known == number);
    found.map_or(format!("?{number}"), |(name, _)| (*name).to_owned())
}

/// A value, or why it is none.
type Converted = Result<Value, String>;

impl Value {
    /// Converts a parameter of rusqlite.
    fn of<T: ToSql + ?Sized>(param: &T) -> Converted {
        match param.to_sql() {
            Ok(ToSqlOutput::Borrowed(value)) => rusqlite::types::Value::try_from(value)
                .map(Self::from)
                .map_err(|_| "its text is not UTF-8".to_owned()),
            Ok(ToSqlOutput::Owned(value)) => Ok(value.into()),
            Ok(_) => Err("it is not plain data".to_owned()),
            Err(rusqlite::Error::ToSqlConversionFailure(error))
                if error.is::<TryFromIntError>() =>
            {
                Err(format!(
                    "it is larger than {}, SQLite's largest integer",
                    i64::MAX
                ))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Converts to the parameters of a statement: what rusqlite takes, and some more.
///
/// | parameters | bound to |
/// | --- | --- |
/// | `()`, `[]` | no parameter |
/// | a tuple of up to 16 values: `(1, "two", None::<i64>)` | `?1`, `?2` … in order |
/// | an array of up to 32 values of one type, a `Vec`, a slice | the same |
/// | [`params![1, "two"]`](crate::params!), any number of values of any types | the same |
/// | an iterator, collected: `ids.iter().collect::<Params>()` | the same |
/// | [`named_params!{":name": "ann"}`](crate::named_params!) | the parameter of that name |
/// | a slice of pairs: `&[(":name", "ann")]`, `&[(&str, &dyn ToSql)]` | the same |
///
/// A value is of any type that implements rusqlite's [`ToSql`]. The features `chrono`, `jiff`,
/// `time`, `uuid`, `url` and `serde_json` of this crate are those of rusqlite. The value is
/// converted at once, because it may be sent to another process. Every parameter needs a value,
/// and every value a parameter: otherwise the call is an error
/// ([`ErrorKind::Misuse`](crate::ErrorKind::Misuse)) before it waits for anything.
///
/// ```
/// use penholder::{Database, named_params, params};
///
/// # fn main() -> penholder::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let db = Database::open(directory.path().join("x.db"))?;
/// db.execute("CREATE TABLE job(name, size, note)", [])?;
/// db.execute("INSERT INTO job VALUES (?1, ?2, ?3)", ("a", 7, None::<String>))?;
/// db.execute("INSERT INTO job VALUES (?1, ?2, ?3)", params!["b", 1_usize, vec![1u8, 2]])?;
/// let insert = "INSERT INTO job VALUES (:name, :size, NULL)";
/// db.execute(insert, named_params! {":name": "c", ":size": 0.5})?;
/// assert_eq!(db.query("SELECT * FROM job WHERE name = ?1", ["c"])?.len(), 1);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the parameters of a statement",
    label = "not parameters of a statement",
    note = "use `()`, a tuple, an array, `params![…]` or `named_params!{{…}}`; each value has to implement `rusqlite::ToSql`"
)]
pub trait IntoParams {
    /// Returns the parameters as plain data.
    fn into_params(self) -> Params;
}

/// Makes positional parameters of values of different types, up to 32.
///
/// They are also parameters of rusqlite, and may cross an `.await`: the values have to be `Send`
/// and `Sync`. For others, and for more than 32, take `rusqlite::params!` or
/// [`Params`](crate::Params).
///
/// ```
/// use penholder::{Query, params};
///
/// let query = Query::new("INSERT INTO job VALUES (?1, ?2)", params![1, "two"]);
/// # drop(query);
/// ```
#[macro_export]
macro_rules! params {
    () => {
        ([] as [&(dyn $crate::rusqlite::ToSql + ::std::marker::Send + ::std::marker::Sync); 0])
    };
    ($($value:expr),+ $(,)?) => {
        &[$(&$value as &(dyn $crate::rusqlite::ToSql + ::std::marker::Send + ::std::marker::Sync)),+]
    };
}

/// Makes named parameters, up to 32. Each name includes its prefix, as in the statement.
///
/// They are also parameters of rusqlite, and may cross an `.await`: the values have to be `Send`
/// and `Sync`. For others, and for more than 32, take `rusqlite::named_params!`.
///
/// ```
/// use penholder::{Query, named_params};
///
/// let query = Query::new("DELETE FROM job WHERE id = :id", named_params! {":id": 1});
/// # drop(query);
/// ```
#[macro_export]
macro_rules! named_params {
    () => {
        ([] as [&(dyn $crate::rusqlite::ToSql + ::std::marker::Send + ::std::marker::Sync); 0])
    };
    ($($name:literal: $value:expr),+ $(,)?) => {
        &[$((
            $name,
            &$value as &(dyn $crate::rusqlite::ToSql + ::std::marker::Send + ::std::marker::Sync),
        )),+]
    };
}

impl IntoParams for Params {
    fn into_params(self) -> Params {
        self
    }
}

impl IntoParams for &Params {
    fn into_params(self) -> Params {
        self.clone()
    }
}

/// Positional parameters, in any number.
impl<T: ToSql> FromIterator<T> for Params {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let values = values.into_iter();
        Self::positional(values.map(|value| Value::of(&value)))
    }
}

impl IntoParams for () {
    fn into_params(self) -> Params {
        Vec::new().into()
    }
}

// This is the only implementation for `[]`, so it determines the type of its elements.
impl IntoParams for [&(dyn ToSql + Send + Sync); 0] {
    fn into_params(self) -> Params {
        Vec::new().into()
    }
}

impl<T: ToSql> IntoParams for Vec<T> {
    fn into_params(self) -> Params {
        self.into_iter().collect()
    }
}

/// The type of the elements of a slice of parameters.
///
/// A slice of pairs is named parameters, so a slice cannot take every [`ToSql`]. It takes the
/// types of the standard library and of rusqlite's features, [`Value`], references, `Option`,
/// `Box`, `Rc`, `Arc` and `Cow`. Implement it for a type of your own to pass a slice of it; all
/// other kinds of parameters take it without that.
///
/// ```
/// use penholder::rusqlite::types::{ToSql, ToSqlOutput};
/// use penholder::{IntoParams, SliceParam};
///
/// struct UserId(i64);
///
/// impl ToSql for UserId {
///     fn to_sql(&self) -> penholder::rusqlite::Result<ToSqlOutput<'_>> {
///         self.0.to_sql()
///     }
/// }
///
/// impl SliceParam for UserId {}
///
/// let ids = vec![UserId(1), UserId(2)];
/// ids.as_slice().into_params();
/// ```
pub trait SliceParam: ToSql {}

impl<T: ToSql + ?Sized> SliceParam for &T {}
impl<T: ToSql + ?Sized> SliceParam for Box<T> {}
impl<T: ToSql + ?Sized> SliceParam for Rc<T> {}
impl<T: ToSql + ?Sized> SliceParam for Arc<T> {}
impl<T: ToSql + ToOwned + ?Sized> SliceParam for Cow<'_, T> {}
impl<T: ToSql> SliceParam for Option<T> {}
impl<const N: usize> SliceParam for [u8; N] {}

macro_rules! slice_params {
    ($($type:ty)*) => {$(
        impl SliceParam for $type {}
    )*};
}

slice_params! {
    Value rusqlite::types::Value rusqlite::types::Null ToSqlOutput<'_>
    bool i8 i16 i32 i64 isize u8 u16 u32 u64 usize f32 f64 String Vec<u8>
    NonZeroI8 NonZeroI16 NonZeroI32 NonZeroI64 NonZeroIsize
    NonZeroU8 NonZeroU16 NonZeroU32 NonZeroU64 NonZeroUsize
}
#[cfg(feature = "chrono")]
slice_params! {
    chrono::NaiveDate chrono::NaiveTime chrono::NaiveDateTime chrono::DateTime<chrono::Utc>
    chrono::DateTime<chrono::Local> chrono::DateTime<chrono::FixedOffset>
}
#[cfg(feature = "jiff")]
slice_params! { jiff::civil::Date jiff::civil::Time jiff::civil::DateTime jiff::Timestamp }
#[cfg(feature = "serde_json")]
slice_params! { serde_json::Value }
#[cfg(feature = "time")]
slice_params! { time::OffsetDateTime time::PrimitiveDateTime time::Date time::Time }
#[cfg(feature = "url")]
slice_params! { url::Url }
#[cfg(feature = "uuid")]
slice_params! { uuid::Uuid }

impl<T: SliceParam> IntoParams for &[T] {
    fn into_params(self) -> Params {
        Params::positional(self.iter().map(|value| Value::of(value)))
    }
}

impl<T: SliceParam> IntoParams for &Vec<T> {
    fn into_params(self) -> Params {
        self.as_slice().into_params()
    }
}

impl<S: AsRef<str>, T: ToSql> IntoParams for &[(S, T)] {
    fn into_params(self) -> Params {
        Params::named(
            self.iter()
                .map(|(name, value)| (name.as_ref(), Value::of(value))),
        )
    }
}

// For each length by itself, because an implementation for every length would leave the type
// of the elements of `[]` open.
macro_rules! arrays {
    ($($length:literal)*) => {$(
        impl<T: ToSql> IntoParams for [T; $length] {
            fn into_params(self) -> Params {
                self.into_iter().collect()
            }
        }

        impl<T: SliceParam> IntoParams for &[T; $length] {
            fn into_params(self) -> Params {
                self.as_slice().into_params()
            }
        }

        impl<S: AsRef<str>, T: ToSql> IntoParams for &[(S, T); $length] {
            fn into_params(self) -> Params {
                self.as_slice().into_params()
            }
        }
    )*};
}

arrays!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);

macro_rules! tuples {
    ($($($name:ident $index:tt),+;)*) => {$(
        impl<$($name: ToSql),+> IntoParams for ($($name,)+) {
            fn into_params(self) -> Params {
                let values = [$(Value::of(&self.$index)),+];
                Params::positional(values.into_iter())
            }
        }
    )*};
}

tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
    A 0, B 1, C 2, D 3, E 4;
    A 0, B 1, C 2, D 3, E 4, F 5;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(sql: &str, params: impl IntoParams) -> Vec<Value> {
        params.into_params().resolve("write", sql).unwrap()
    }

    fn error(sql: &str, params: impl IntoParams) -> String {
        let error = params.into_params().resolve("write", sql).unwrap_err();
        error.to_string()
    }

    #[test]
    fn values_are_bound_by_position() {
        let both = [Value::from(1), Value::from("b")];
        assert_eq!(values("?, ?", (1, "b")), both);
        assert_eq!(values("?, ?", both.clone()), both);
        assert_eq!(values("?, ?", both.as_slice()), both);
        assert_eq!(values("?, ?", both.iter().collect::<Params>()), both);
        assert_eq!(values("?, ?", &both), both);
        assert_eq!(values("?, ?", both.to_vec()), both);
        assert_eq!(values("?, ?", rusqlite::params![1, "b"]), both);
        let dynamic: &[&dyn ToSql] = &[&1, &"b"];
        assert_eq!(values("?, ?", dynamic), both);
        for none in [
            values("1", ()),
            values("1", []),
            values("1", rusqlite::params![]),
        ] {
            assert_eq!(none, []);
        }
    }

    #[test]
    fn values_are_bound_by_name() {
        let sql = ":b, ?, $a, :b";
        let named: &[(&str, &dyn ToSql)] = &[("$a", &None::<i64>), (":b", &"b")];
        let sql_of_names = ":b, $a, :b";
        let both = [Value::from("b"), Value::Null];
        assert_eq!(values(sql_of_names, named), both);
        assert_eq!(
            values(
                sql_of_names,
                rusqlite::named_params! {"$a": None::<i64>, ":b": "b"}
            ),
            both
        );
        assert_eq!(
            values(":a, :b", &[(":b", 2), (":a", 1)]),
            [1, 2].map(Value::from)
        );
        assert!(error(sql, named).contains("no value for ?2"));
    }

    #[test]
    fn wrong_parameters_are_refused() {
        let error_text = error("?, ?", [1]);
        assert!(
            error_text.contains("has 2 parameters, and 1 value was given"),
            "{error_text}"
        );
        assert!(error("1", [1, 2]).contains("has no parameters, and 2 values"));
        assert!(error(":a", &[(":b", 1)]).contains("no parameter \":b\": nothing"));
        assert!(error(":a", &[("a", 1)]).contains("includes its prefix: \":a\""));
        assert!(error(":a, :b", &[(":a", 1)]).contains("no value for :b"));
        assert!(error(":a", &[(":a", 1), (":a", 2)]).contains("two values for :a"));
        assert!(error("?\0", [1]).contains("NUL byte after 1 bytes"));
        let huge = error("?, ?", params_of_huge());
        assert!(huge.contains("parameter ?2: "), "{huge}");
    }

    fn params_of_huge() -> (i64, u64) {
        (1, u64::MAX)
    }
}
