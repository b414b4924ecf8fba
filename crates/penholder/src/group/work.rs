//! What a writer wants done, and what it comes to.

use std::fmt;

use crate::data::{Executed, Statement};
use crate::error::{Error, Result};
use crate::options::OpenOptions;
use crate::sqlite::sql::StatementKind;
use crate::write::{self, Transaction};

/// What a write comes to: what its statements did (nothing, for a closure).
pub(crate) type WriteResult = Result<Vec<Executed>>;

/// A closure as the leader runs it. Its own result stays with its owner; it returns whether it
/// succeeded.
pub(crate) type Closure<'a> = Box<dyn FnMut(&Transaction<'_>) -> bool + Send + 'a>;

/// What a writer wants done.
pub(crate) enum Work {
    Closure(Closure<'static>),
    /// One statement, which SQLite makes atomic.
    Statement(Statement),
    /// All or nothing.
    Batch(Vec<Statement>),
}

impl Work {
    /// Returns work that does nothing, to leave where work was taken out.
    pub(super) fn nothing() -> Self {
        Self::Batch(Vec::new())
    }

    pub(crate) fn statements(&self) -> &[Statement] {
        match self {
            Self::Closure(_) => &[],
            Self::Statement(one) => std::slice::from_ref(one),
            Self::Batch(all) => all,
        }
    }

    /// Adds to an error which statement of a batch it is about.
    pub(crate) fn say_which_failed(
        &self,
        error: Error,
        index: usize,
        options: &OpenOptions,
    ) -> Error {
        match self {
            Self::Batch(all) => write::say_which_failed(error, index, all, options),
            _ => error,
        }
    }

    pub(crate) fn is_closure(&self) -> bool {
        matches!(self, Self::Closure(_))
    }

    /// Returns whether it is plain data of which every statement inserts, updates or deletes.
    pub(super) fn changes_only_data(&self) -> bool {
        let changes_data = |one: &Statement| StatementKind::of(&one.sql) != StatementKind::Other;
        let all = self.statements();
        !all.is_empty() && all.iter().all(changes_data)
    }

    pub(super) fn bytes(&self) -> usize {
        self.statements().iter().map(Statement::bytes).sum()
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closure(_) => f.write_str("Closure"),
            _ => self.statements().fmt(f),
        }
    }
}

/// Returns what the only statement of a write did.
pub(crate) fn only(all: Vec<Executed>) -> Result<Executed> {
    all.into_iter().next().ok_or_else(missing_result)
}

/// Returns the error for a finished write without a result, which cannot happen.
pub(super) fn missing_result() -> Error {
    Error::misuse("write", "its result was lost", "report this as a fault")
}
