//! Plain data: what goes into a statement and what comes out of it.
//!
//! It is all owned, so that a statement can be sent to another process.

mod params;
mod query;
mod row_set;
mod value;

pub use params::IntoParams;
pub use query::Query;
pub(crate) use query::refuse_nul;
pub use row_set::{Executed, RowSet};
pub use value::Value;
