//! Writes that wait at the same time, as one entry of the log.
//!
//! One entry is under way at a time. What arrives meanwhile waits, and shares the next one: so the more
//! writers there are, the more writes share an entry and its syncs on a majority of the disks. If a
//! statement fails, all of the entry is rolled back, and each write is run again by itself, under
//! its own key: its error reaches its own client only.

use std::time::{Duration, Instant};

use hiqlite::rusqlite::{self, Connection};
use hiqlite::{Client, Error as EngineError, Params};
use tokio::sync::{mpsc, oneshot};

use crate::leadership::{Leadership, Standing};
use crate::replica::Replica;
use crate::statement_kind::StatementKind;
use crate::wire::{Answer, FailureKind, Key, Sequence, Statement, WireValue, Write};
use crate::write_table::{self, Recorded, Sql};

/// How many writes wait at most. Sessions with more writes wait until there is room.
const WAITING: usize = 1024;
/// How many writes share an entry at most.
const SHARED: usize = 128;
/// How many bytes of statements and values they have together; one alone may have more.
const SHARED_BYTES: usize = 1 << 20;

/// How long this node may take for what it does by itself.
const LOCAL: Duration = Duration::from_secs(5);

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
    pub(crate) fn start(client: Client, replica: Replica, leadership: Leadership) -> Self {
        let (pending, waiting) = mpsc::channel(WAITING);
        let proposer = Proposer {
            client,
            replica,
            leadership,
            is_prepared: false,
        };
        tokio::spawn(proposer.run(waiting));
        Self { pending }
    }

    /// Has an empty write executed: when the database of this node has it, it also has every write that
    /// was acknowledged before.
    pub(crate) async fn confirm(&self, key: Key, made_at: Sequence, deadline: Instant) -> Answer {
        let write = Write {
            key,
            made_at,
            statements: Vec::new(),
            within: 0,
            is_repeated: false,
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
    leadership: Leadership,
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
        let (shared, late): (Vec<_>, Vec<_>) = shared.into_iter().partition(Pending::is_wanted);
        for pending in late {
            pending.answer(timed_out());
        }
        if shared.is_empty() {
            return;
        }
        if let Err(failure) = self.prepare().await {
            for pending in shared {
                let answer = failure.answer(&pending.write);
                pending.answer(answer);
            }
            return;
        }
        if shared.len() > 1 && !self.may_share(&shared).await {
            return self.propose_each(shared).await;
        }
        match self.propose(&shared).await {
            Err(Failure::OfStatement(_)) if shared.len() > 1 => self.propose_each(shared).await,
            Ok(()) => {
                for pending in shared {
                    let answer = self.answer_of(&pending.write, Ok(())).await;
                    pending.answer(answer);
                }
            }
            Err(failure) => {
                for pending in shared {
                    let answer = self.answer_of(&pending.write, Err(failure.clone())).await;
                    pending.answer(answer);
                }
            }
        }
    }

    /// Has each of them executed by itself.
    async fn propose_each(&self, all: Vec<Pending>) {
        for pending in all {
            if !pending.is_wanted() {
                pending.answer(timed_out());
                continue;
            }
            let result = self.propose(std::slice::from_ref(&pending)).await;
            let answer = self.answer_of(&pending.write, result).await;
            pending.answer(answer);
        }
    }

    /// Whether no write can decide whether another one fails.
    async fn may_share(&self, shared: &[Pending]) -> bool {
        let changes_schema = |pending: &Pending| pending.kinds.contains(&StatementKind::Schema);
        if shared.iter().any(changes_schema) {
            return false;
        }
        let deadline = Instant::now() + LOCAL;
        let deferred = self.replica.read(deadline, write_table::has_deferred).await;
        matches!(deferred, Ok(false))
    }

    /// Creates the table of writes, if this node does not have it yet.
    async fn prepare(&mut self) -> Result<(), Failure> {
        if self.is_prepared {
            return Ok(());
        }
        let found = self
            .replica
            .read(Instant::now() + LOCAL, write_table::is_there)
            .await;
        if !matches!(found, Ok(true)) {
            let statements = write_table::schema()
                .into_iter()
                .map(|sql| (sql.into(), Params::new()));
            self.commit(statements.collect(), Instant::now() + LOCAL)
                .await?;
        }
        self.is_prepared = true;
        Ok(())
    }

    async fn propose(&self, shared: &[Pending]) -> Result<(), Failure> {
        let mut transaction = Vec::new();
        for pending in shared {
            write_table::add(&mut transaction, &pending.write, &pending.kinds);
        }
        let last = shared.iter().map(|pending| pending.deadline).max();
        self.commit(transaction, last.unwrap_or_else(Instant::now))
            .await
    }

    /// Runs a transaction, and waits for it as long as its clients do and this node leads. A leader that is cut
    /// off would wait for the others for ever, and so would what comes after it.
    async fn commit(
        &self,
        transaction: Vec<(Sql, Params)>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        match self.leadership.standing().await {
            Standing::Leads => {}
            Standing::Follows(leader) => return Err(Failure::NotLeader(leader)),
            Standing::CutOff => return Err(Failure::NotLeader(None)),
        }
        let done = tokio::time::timeout_at(deadline.into(), self.client.txn(transaction));
        tokio::select! {
            biased;
            done = done => match done {
                // An entry may have been appended before the node ceased to lead.
                Ok(Err(error)) if error.is_forward_to_leader().is_some() => {
                    Err(Failure::Unknown("the node ceased to lead".to_owned()))
                }
                Ok(result) => result.map(drop).map_err(|error| Failure::of(&error)),
                Err(_) => Err(Failure::Unknown(
                    "a majority of the nodes did not confirm it in time".to_owned(),
                )),
            },
            why = self.leadership.lost() => Err(Failure::Unknown(why.to_owned())),
        }
    }

    /// Returns what a client is told: what is recorded, if something is.
    async fn answer_of(&self, write: &Write, result: Result<(), Failure>) -> Answer {
        let text = match &result {
            Ok(()) => None,
            Err(Failure::OfStatement(text)) => Some(text),
            Err(failure) => return failure.answer(write),
        };
        match (self.find(write).await, text) {
            (Ok((Some(Recorded::Executed(executed)), sequence)), _) => {
                Answer::Written { executed, sequence }
            }
            (Ok((Some(Recorded::Failed { kind, text }), _)), _) => Answer::Failed { kind, text },
            (Ok((None, sequence)), Some(text)) if reason_of(text) == write_table::FORGOTTEN => {
                Answer::Forgotten { sequence }
            }
            (Ok((None, _)), Some(text)) if !text.contains(write_table::KEY) => {
                self.record_failure(write, text).await
            }
            // It is recorded, and the database of this node does not have that yet, or cannot be read.
            _ => unknown("this node could not read what became of it"),
        }
    }

    /// Answers that a write failed. If it was asked for before, that is recorded first: otherwise the first
    /// request, which may still be under way, could be executed afterwards.
    async fn record_failure(&self, write: &Write, text: &str) -> Answer {
        let Answer::Failed { kind, text } = failed(text, write) else {
            return unknown("it failed");
        };
        if write.is_repeated {
            let record = vec![write_table::failed(write, kind, &text)];
            if self.commit(record, Instant::now() + LOCAL).await.is_err() {
                return unknown("it failed, and its first request may still be under way");
            }
        }
        Answer::Failed { kind, text }
    }

    async fn find(&self, write: &Write) -> rusqlite::Result<(Option<Recorded>, Sequence)> {
        let key = write.key;
        let find = move |connection: &Connection| {
            let found = write_table::find(connection, key)?;
            Ok((found, write_table::sequence(connection)?))
        };
        self.replica.read(Instant::now() + LOCAL, find).await
    }
}

/// Why a transaction was not executed, or may not have been.
#[derive(Debug, Clone)]
enum Failure {
    /// The engine executed it, and rolled it back. This is what it says.
    OfStatement(String),
    NotLeader(Option<u64>),
    Unknown(String),
}

impl Failure {
    fn of(error: &EngineError) -> Self {
        if is_of_statement(error) {
            return Self::OfStatement(error.to_string());
        }
        match error.is_forward_to_leader() {
            Some((leader, _)) => Self::NotLeader(leader),
            None => Self::Unknown(format!("the engine says: {error}")),
        }
    }

    fn answer(&self, write: &Write) -> Answer {
        match self {
            Self::OfStatement(text) => failed(text, write),
            Self::NotLeader(leader) => Answer::NotLeader { leader: *leader },
            Self::Unknown(text) => unknown(text),
        }
    }
}

impl Pending {
    fn bytes(&self) -> usize {
        size_in_log(&self.write)
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

/// Returns about how many bytes a write has in the log of the engine, which is less compact than a request.
pub(crate) fn size_in_log(write: &Write) -> usize {
    const STATEMENT: usize = 128;
    const VALUE: usize = 24;
    let value = |value: &WireValue| match value {
        WireValue::Text(text) => text.len() + VALUE,
        WireValue::Blob(bytes) => bytes.len() + VALUE,
        _ => VALUE,
    };
    let of = |statement: &Statement| {
        statement.sql.len() + STATEMENT + statement.values.iter().map(value).sum::<usize>()
    };
    write.statements.iter().map(of).sum()
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

fn failed(text: &str, write: &Write) -> Answer {
    let kind = match is_constraint(text) {
        true => FailureKind::Constraint,
        false => FailureKind::Sqlite,
    };
    let text = reason_of(text);
    let text = match write.statements.len() {
        0 | 1 => text,
        of => format!("{text} (in a batch of {of} statements, of which none has an effect)"),
    };
    Answer::Failed { kind, text }
}

/// Returns whether a constraint failed, by the code of SQLite in the text of the engine.
fn is_constraint(text: &str) -> bool {
    const CONSTRAINT: u32 = 19;
    let after = text.rsplit_once("Error code ").map(|(_, after)| after);
    let code = after.and_then(|after| after.split_once(':')?.0.parse::<u32>().ok());
    // At the end of a transaction there is no code in it.
    code.map_or(text.contains("constraint failed"), |code| {
        code & 0xff == CONSTRAINT
    })
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
