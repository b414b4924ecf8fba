//! The names of the columns of a result.

use std::panic::{self, AssertUnwindSafe};

use penholder::rusqlite::Statement;

use crate::failure::{FAILED, Failure};

/// Returns the names. rusqlite panics at one that is not UTF-8, which other programs can give
/// to a column.
pub(crate) fn column_names(statement: &Statement<'_>) -> Result<Vec<String>, Failure> {
    let names = || statement.column_names().map(str::to_owned).collect();
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let names = panic::catch_unwind(AssertUnwindSafe(names));
    panic::set_hook(hook);
    names.map_err(|_| {
        let message = "query: the name of a column is not UTF-8: name the columns in a WITH clause";
        Failure::new(message, FAILED)
    })
}
