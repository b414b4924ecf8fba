//! One write in a transaction that it shares with others.
//!
//! Most writes are done, and then nothing has to be kept apart: a batch runs without savepoints
//! first. If one write is not done, all of the batch is rolled back, of which no owner was told
//! anything, and it runs again with savepoints.

use penholder_core::REPLY_MAX;

use super::connection::{DelegateConnection, Delegated};
use super::wire::{Encoder, Reply};
use crate::data::Statement;
use crate::group::Isolation;
use crate::sqlite::savepoint;

/// How one write went in a shared transaction.
pub(crate) enum ExecutedWrite {
    /// The reply to it, which holds if the transaction is committed.
    Replied(Reply),
    /// The transaction is gone, or has to go.
    Aborted,
}

/// Runs one write in a shared transaction.
pub(crate) fn execute_write(
    connection: &DelegateConnection,
    statements: &[Statement],
    isolation: Isolation,
) -> ExecutedWrite {
    match isolation {
        Isolation::Savepoint => execute_in_savepoint(connection, statements),
        Isolation::None => execute_without_savepoint(connection, statements),
    }
}

fn execute_in_savepoint(
    connection: &DelegateConnection,
    statements: &[Statement],
) -> ExecutedWrite {
    if savepoint::begin(connection.connection()).is_err() {
        return ExecutedWrite::Aborted;
    }
    let Some(mut reply) = run_statements(connection, statements) else {
        return ExecutedWrite::Aborted;
    };
    if !can_be_told(connection, &reply) {
        reply = Reply::Local;
    }
    let ended = if matches!(reply, Reply::Done(_)) {
        savepoint::release(connection.connection())
    } else {
        savepoint::roll_back(connection.connection())
    };
    match ended {
        Ok(()) => ExecutedWrite::Replied(reply),
        Err(_) => ExecutedWrite::Aborted,
    }
}

fn execute_without_savepoint(
    connection: &DelegateConnection,
    statements: &[Statement],
) -> ExecutedWrite {
    let mut done = Vec::with_capacity(statements.len());
    for one in statements {
        match connection.run(one) {
            Delegated::Done(executed) => done.push(executed),
            // Nothing of it is in the transaction.
            Delegated::Refused if done.is_empty() => return ExecutedWrite::Replied(Reply::Local),
            _ => return ExecutedWrite::Aborted,
        }
    }
    let reply = Reply::Done(done);
    if can_be_told(connection, &reply) {
        ExecutedWrite::Replied(reply)
    } else {
        ExecutedWrite::Aborted
    }
}

/// Runs the statements of one write until one is not done; `None` if the transaction is gone.
fn run_statements(connection: &DelegateConnection, statements: &[Statement]) -> Option<Reply> {
    let mut done = Vec::with_capacity(statements.len());
    for (statement, one) in (0..).zip(statements) {
        match connection.run(one) {
            Delegated::Done(executed) => done.push(executed),
            Delegated::Failed { code, text } => {
                return Some(Reply::Failed {
                    statement,
                    code,
                    text,
                });
            }
            Delegated::Local | Delegated::Refused => return Some(Reply::Local),
            Delegated::Aborted => return None,
        }
    }
    Some(Reply::Done(done))
}

/// Returns whether the reply fits, and no deferred foreign key is violated.
fn can_be_told(connection: &DelegateConnection, reply: &Reply) -> bool {
    !connection.write_connection().has_deferred_violation()
        && encoded_length(reply) <= REPLY_MAX / 2
}

fn encoded_length(reply: &Reply) -> usize {
    let mut encoder = Encoder::default();
    encoder.reply(reply);
    encoder.len()
}
