//! Writes that wait at the same time, as one entry of the log.
//!
//! One entry is under way at a time. What arrives meanwhile waits, and shares the next one: so the more
//! writers there are, the more writes share an entry and its syncs on a majority of the disks. If a
//! statement fails, all of the entry is rolled back, and each write is run again by itself, under
//! its own key: its error reaches its own client only.

use std::time::Instant;

use hiqlite::{Client, Error as EngineError, Params};
use tokio::sync::{mpsc, oneshot};

use crate::replica::Replica;
use crate::statement_kind::StatementKind;
use crate::wire::{Answer, FailureKind, Key, Sequence, WireExecuted, Write};
use crate::write_table;

/// How many writes wait at most. A client whose write is the next one waits with it.
const WAITING: usize = 1024;
/// How many writes share an entry at most.
const SHARED: usize = 128;
/// How many bytes of statements and values they have together; one alone may have more.
const SHARED_BYTES: usize = 1 << 20;

/// A write that waits.
struct Pending {
    write: Write,
    kinds: Vec<StatementKind>,
    deadline: Instant,
    answer: oneshot::Sender<Answer>,
}

/// Takes writes.
#[derive(Debug, Clone)]
pub(crate) struct Proposals {
    pending: mpsc::Sender<Pending>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("key", &self.write.key)
            .finish_non_exhaustive()
    }
}

impl Proposals {
    /// Starts the task that proposes them; it ends with the last of its handles.
    pub(crate) fn start(client: Client, replica: Replica) -> Self {
        let (pending, waiting) = mpsc::channel(WAITING);
        let proposer = Proposer {
            client,
            replica,
            is_prepared: false,
        };
        tokio::spawn(proposer.run(waiting));
        Self { pending }
    }

    /// Returns when an entry of the log is executed that was proposed since: it was confirmed that this
    /// node leads. The answer is that of a write without statements.
    pub(crate) async fn confirm(&self, deadline: Instant) -> Answer {
        let write = Write {
            key: Key([0; 16]),
            made_at: Sequence(0),
            statements: Vec::new(),
            within: 0,
        };
        self.execute(write, Vec::new(), deadline).await
    }

    /// Has a write executed, whose statements are checked and of these kinds.
    pub(crate) async fn execute(
        &self,
        write: Write,
        kinds: Vec<StatementKind>,
        deadline: Instant,
    ) -> Answer {
        let (answer, answered) = oneshot::channel();
        let pending = Pending {
            write,
            kinds,
            deadline,
            answer,
        };
        let at = tokio::time::Instant::from_std(deadline);
        let sent = tokio::time::timeout_at(at, self.pending.send(pending)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return timed_out();
        }
        match tokio::time::timeout_at(at, answered).await {
            Ok(Ok(answer)) => answer,
            _ => unknown("a majority of the nodes did not confirm it in time"),
        }
    }
}

/// Proposes one entry after another.
struct Proposer {
    client: Client,
    replica: Replica,
    /// Whether the table of writes is known to be there.
    is_prepared: bool,
}

impl Proposer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Pending>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(pending) => pending,
                None => match waiting.recv().await {
                    Some(pending) => pending,
                    None => return,
                },
            };
            let mut bytes = first.bytes();
            let mut shared = vec![first];
            while shared.len() < SHARED
                && let Ok(pending) = waiting.try_recv()
            {
                bytes += pending.bytes();
                if bytes > SHARED_BYTES {
                    next = Some(pending);
                    break;
                }
                shared.push(pending);
            }
            self.propose_all(shared).await;
        }
    }

    /// Has all of them executed, together if that succeeds.
    async fn propose_all(&mut self, shared: Vec<Pending>) {
        let (mut shared, late): (Vec<_>, Vec<_>) = shared.into_iter().partition(Pending::is_wanted);
        for pending in late {
            pending.answer(timed_out());
        }
        if shared.is_empty() {
            return;
        }
        if let Err(error) = self.prepare().await {
            for pending in shared {
                pending.answer(outcome_of(&error, None));
            }
            return;
        }
        match self.propose(&shared).await {
            Ok(()) => self.answer_all(shared).await,
            Err(error) if shared.len() > 1 && is_of_statement(&error) => {
                for pending in shared {
                    let result = self.propose(std::slice::from_ref(&pending)).await;
                    self.answer(pending, result).await;
                }
            }
            Err(error) if shared.len() == 1 => {
                if let Some(pending) = shared.pop() {
                    self.answer(pending, Err(error)).await;
                }
            }
            Err(error) => {
                for pending in shared {
                    pending.answer(outcome_of(&error, None));
                }
            }
        }
    }

    /// Creates the table of writes, if this node does not have it yet.
    async fn prepare(&mut self) -> Result<(), EngineError> {
        if self.is_prepared {
            return Ok(());
        }
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let found = self.replica.read(deadline, write_table::is_there).await;
        if !matches!(found, Ok(true)) {
            let statements = write_table::schema()
                .into_iter()
                .map(|sql| (sql, Params::new()));
            self.client.txn(statements).await?;
        }
        self.is_prepared = true;
        Ok(())
    }

    async fn propose(&self, shared: &[Pending]) -> Result<(), EngineError> {
        let mut transaction = Vec::new();
        for pending in shared.iter().filter(|pending| !pending.is_confirmation()) {
            write_table::add(&mut transaction, &pending.write, &pending.kinds);
        }
        if transaction.is_empty() {
            transaction.push(("SELECT 1".to_owned(), Params::new()));
        }
        self.client.txn(transaction).await.map(drop)
    }

    /// Answers writes that were executed.
    async fn answer_all(&self, shared: Vec<Pending>) {
        for pending in shared {
            self.answer(pending, Ok(())).await;
        }
    }

    /// Answers a write, which may have been executed before.
    async fn answer(&self, pending: Pending, result: Result<(), EngineError>) {
        let answer = match result {
            Ok(()) if pending.is_confirmation() => Answer::Written {
                executed: Vec::new(),
                sequence: Sequence(0),
            },
            Err(error) if !is_of_statement(&error) => outcome_of(&error, None),
            result => match self.find(&pending.write).await {
                Some((executed, sequence)) => Answer::Written { executed, sequence },
                None => match result {
                    Err(error) if error.to_string().contains(write_table::FORGOTTEN) => {
                        let sequence = self.sequence().await;
                        Answer::Forgotten { sequence }
                    }
                    Err(error) => outcome_of(&error, Some(&pending.write)),
                    Ok(()) => unknown("this node could not read what it did"),
                },
            },
        };
        pending.answer(answer);
    }

    async fn find(&self, write: &Write) -> Option<(Vec<WireExecuted>, Sequence)> {
        let key = write.key;
        let find = move |connection: &hiqlite::rusqlite::Connection| {
            let found = write_table::find(connection, key)?;
            Ok((found, write_table::sequence(connection)?))
        };
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let (found, sequence) = self.replica.read(deadline, find).await.ok()?;
        Some((found?, sequence))
    }

    async fn sequence(&self) -> Sequence {
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let found = self.replica.read(deadline, write_table::sequence).await;
        found.unwrap_or(Sequence(0))
    }
}

impl Pending {
    fn bytes(&self) -> usize {
        let value = |value: &crate::wire::WireValue| match value {
            crate::wire::WireValue::Text(text) => text.len(),
            crate::wire::WireValue::Blob(bytes) => bytes.len(),
            _ => 8,
        };
        let of = |statement: &crate::wire::Statement| {
            statement.sql.len() + statement.values.iter().map(value).sum::<usize>()
        };
        self.write.statements.iter().map(of).sum()
    }

    /// Whether nothing is to be written.
    fn is_confirmation(&self) -> bool {
        self.write.statements.is_empty()
    }

    /// Whether its client still waits.
    fn is_wanted(&self) -> bool {
        Instant::now() < self.deadline && !self.answer.is_closed()
    }

    fn answer(self, answer: Answer) {
        // Its client may be gone.
        let _ = self.answer.send(answer);
    }
}

/// Returns whether the engine executed the transaction, and rolled it back.
fn is_of_statement(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Sqlite(_)
            | EngineError::ConstraintViolation(_)
            | EngineError::PrepareStatement(_)
            | EngineError::QueryParams(_)
            | EngineError::Transaction(_)
    )
}

/// Returns what a client is told.
fn outcome_of(error: &EngineError, write: Option<&Write>) -> Answer {
    if let Some((leader, _)) = error.is_forward_to_leader() {
        return Answer::NotLeader { leader };
    }
    if !is_of_statement(error) {
        return unknown(&format!("the engine says: {error}"));
    }
    let kind = match is_constraint(&error.to_string()) {
        true => FailureKind::Constraint,
        false => FailureKind::Sqlite,
    };
    let of = write.map_or(1, |write| write.statements.len());
    let text = reason_of(&error.to_string());
    let text = match of {
        1 => text,
        of => format!("{text} (in a batch of {of} statements, of which none has an effect)"),
    };
    Answer::Failed { kind, text }
}

/// Returns whether a constraint failed, by the code of SQLite in the text of the engine.
fn is_constraint(text: &str) -> bool {
    const CONSTRAINT: u32 = 19;
    let after = text.rsplit_once("Error code ").map(|(_, after)| after);
    let code = after.and_then(|after| after.split_once(':')?.0.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == CONSTRAINT)
}

/// Returns what SQLite said, out of the text in which the engine wraps it.
fn reason_of(text: &str) -> String {
    let quoted_after = |start: &str| {
        let (_, rest) = text.rsplit_once(start)?;
        let end = rest.find("\")").or_else(|| rest.find("\","))?;
        Some(rest[..end].replace("\\\"", "\""))
    };
    let found = quoted_after("Some(\"").or_else(|| quoted_after("msg: \""));
    found.unwrap_or_else(|| text.to_owned())
}

fn timed_out() -> Answer {
    let text = "the writes before it took too long".to_owned();
    Answer::Failed {
        kind: FailureKind::Timeout,
        text,
    }
}

fn unknown(why: &str) -> Answer {
    let text = why.to_owned();
    Answer::Unknown { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_is_recognised_by_its_code() {
        let wrapped =
            "Transaction: Connect: Error code 2067: A UNIQUE constraint failed Some(\"t.a\")";
        assert!(is_constraint(wrapped));
        assert!(is_constraint("Error code 19: x"));
        assert!(
            !is_constraint("Error code 1: x") && !is_constraint("Error code") && !is_constraint("")
        );
    }

    #[test]
    fn what_sqlite_said_is_taken_out_of_the_text_of_the_engine() {
        for (text, expected) in [
            (
                "Connect: Error code 2067: A UNIQUE constraint failed Some(\"UNIQUE constraint failed: t.a\")",
                "UNIQUE constraint failed: t.a",
            ),
            (
                "PrepareStatement: Preparing cached query X: SqlInputError { error: Error { code: \
                 Unknown, extended_code: 1 }, msg: \"no such table: x\", sql: \"X\", offset: 12 }",
                "no such table: x",
            ),
            ("Timeout: other", "Timeout: other"),
        ] {
            assert_eq!(reason_of(text), expected);
        }
    }
}
