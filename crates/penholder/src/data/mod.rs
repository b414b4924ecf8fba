//! Plain data: what goes into a statement and what comes out of it.

mod value;

pub(crate) use value::refuse_nul;
pub use value::{Executed, IntoParams, Rows, Statement, Value};
