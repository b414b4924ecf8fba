//! Plain data: what goes into a statement and what comes out of it.
//!
//! It is all owned, so that a statement can be sent to another process.

mod params;
mod rows;
mod statement;
mod value;

pub use params::IntoParams;
pub use rows::{Executed, Rows};
pub use statement::Statement;
pub(crate) use statement::refuse_nul;
pub use value::Value;
