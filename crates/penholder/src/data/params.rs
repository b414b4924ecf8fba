//! The parameters of a statement.

use super::value::Value;

/// Converts to the parameters `?1`, `?2` … of a statement.
///
/// It is implemented for `()`, arrays, slices and vectors, tuples of up to eight values, and
/// for what [`params!`](crate::params!) returns.
///
/// ```
/// use penholder::{IntoParams, Value};
///
/// assert_eq!(("a", 7).into_params(), [Value::from("a"), Value::from(7)]);
/// ```
pub trait IntoParams {
    /// Returns the values; the first is bound to `?1`.
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
    ($(($($name:ident $index:tt),+);)*) => {$(
        impl<$($name: Into<Value>),+> IntoParams for ($($name,)+) {
            fn into_params(self) -> Vec<Value> {
                vec![$(self.$index.into()),+]
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

/// Makes an array of parameters out of values of different types, in any number.
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
