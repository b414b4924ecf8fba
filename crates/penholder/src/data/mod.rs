//! Plain data: what goes into a statement and what comes out of it.
//!
//! It is all owned, so that a statement can be sent to another process.

mod deserialize;
mod markers;
mod params;
mod query;
mod row;
mod row_set;
mod value;

pub use deserialize::from_sql;
pub(crate) use markers::{is_blank, skip_blanks};
pub use params::{IntoParams, Params, SliceParam};
pub use query::Query;
pub(crate) use query::{Statement, place_of};
pub use row::{ColumnIndex, Row};
pub use row_set::{Executed, RowSet};
pub use value::Value;
