//! Writes that wait at the same time, as one entry of the log.
//!
//! One entry is under way at a time. What arrives meanwhile waits, and shares the next one: so the more
//! writers there are, the more writes share an entry and its syncs on a majority of the disks. If a
//! statement fails, all of the entry is rolled back, and each write is run again by itself, under
//! its own key: its error reaches its own client only. A write that is repeated is looked up first, as its
//! key would be such an error.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use hiqlite::rusqlite;
use hiqlite::{Client, Error as EngineError, Params};
use tokio::sync::{mpsc, oneshot};

use crate::leadership::{Leadership, Standing};
use crate::replica::Replica;
use crate::statement_kind::StatementKind;
use crate::wire::{Answer, FailureKind, Key, Sequence, Statement, WireValue, Write};
use crate::write_table::{self, Found, Recorded, Sql};

/// How many writes wait at most. Sessions with more writes wait until there is room.
const WAITING: usize = 1024;
/// How many bytes of statements and values the writes of an entry have together; one alone may have more.
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
    /// Starts the task that proposes them, at most this many in one entry. It ends with the last of its
    /// handles.
    pub(crate) fn start(
        client: Client,
        replica: Replica,
        leadership: Leadership,
        shared: usize,
    ) -> Self {
        let (pending, waiting) = mpsc::channel(WAITING);
        let proposer = Proposer {
            client,
            replica,
            leadership,
            queue: Queue {
                waiting,
                left: None,
                shared,
            },
            is_prepared: false,
            deferred: None,
        };
        tokio::spawn(proposer.run());
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

/// The writes that wait.
struct Queue {
    waiting: mpsc::Receiver<Pending>,
    /// One that did not fit into the entry before.
    left: Option<Pending>,
    /// How many share an entry at most.
    shared: usize,
}

impl Queue {
    /// Waits for writes, and returns those that may share an entry; `None` if there are no more.
    async fn next(&mut self) -> Option<Vec<Pending>> {
        let first = match self.left.take() {
            Some(pending) => pending,
            None => self.waiting.recv().await?,
        };
        let mut bytes = first.bytes();
        let mut keys = HashSet::from([first.write.key]);
        let mut shared = vec![first];
        while shared.len() < self.shared
            && let Ok(mut pending) = self.waiting.try_recv()
        {
            bytes += pending.bytes();
            let is_twice = !keys.insert(pending.write.key);
            // Its first request is in this entry, and would make it fail.
            pending.write.is_repeated |= is_twice;
            if is_twice || bytes > SHARED_BYTES {
                self.left = Some(pending);
                break;
            }
            shared.push(pending);
        }
        Some(shared)
    }
}

/// Proposes one entry after another.
struct Proposer {
    client: Client,
    replica: Replica,
    leadership: Leadership,
    queue: Queue,
    /// Whether the table of writes is known to be there.
    is_prepared: bool,
    /// The version of the schema, and whether it has deferred constraints.
    deferred: Option<(i64, bool)>,
}

impl Proposer {
    async fn run(mut self) {
        while let Some(shared) = self.queue.next().await {
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
        let shared = self.answer_recorded(shared);
        match shared.len() {
            0 => {}
            1 => self.propose_each(shared, false).await,
            _ if !self.may_share(&shared).await => self.propose_each(shared, false).await,
            _ => match self.propose(&shared).await {
                // The engine itself repeats a proposal once if another node leads by then: a key that is there
                // may be of the first one.
                Err(Failure::OfStatement(text)) => {
                    self.propose_each(shared, text.contains(write_table::KEY))
                        .await;
                }
                result => self.answer_all(shared, &result).await,
            },
        }
    }

    /// Has each of them executed by itself. If they may have been executed together before, none is said not to
    /// be written without a look.
    async fn propose_each(&self, all: Vec<Pending>, may_be_there: bool) {
        for pending in all {
            if !pending.is_wanted() {
                pending.answer(match may_be_there {
                    true => unknown("the writes before it took too long"),
                    false => timed_out(),
                });
                continue;
            }
            let one = vec![pending];
            let result = match self.propose(&one).await {
                Err(Failure::NotLeader(_)) if may_be_there => {
                    Err(Failure::Unknown("the node ceased to lead".to_owned()))
                }
                result => result,
            };
            self.answer_all(one, &result).await;
        }
    }

    /// Answers those that were executed before they were repeated, and returns the others.
    fn answer_recorded(&self, shared: Vec<Pending>) -> Vec<Pending> {
        let is_repeated = |pending: &Pending| pending.write.is_repeated;
        if !shared.iter().any(is_repeated) {
            return shared;
        }
        let Ok(found) = self.find(&shared) else {
            return shared;
        };
        let mut others = Vec::new();
        for (pending, recorded) in shared.into_iter().zip(found.recorded) {
            match recorded {
                Some(recorded) => pending.answer(recorded.answer(found.sequence)),
                None => others.push(pending),
            }
        }
        others
    }

    /// Whether no write can decide whether another one fails.
    async fn may_share(&mut self, shared: &[Pending]) -> bool {
        let changes_schema = |pending: &Pending| pending.kinds.contains(&StatementKind::Schema);
        if shared.iter().any(changes_schema) {
            return false;
        }
        matches!(self.has_deferred().await, Ok(false))
    }

    /// Whether the schema has deferred constraints; it is read again when it has changed.
    async fn has_deferred(&mut self) -> rusqlite::Result<bool> {
        let version = self.replica.read_here(write_table::schema_version)?;
        if let Some((known, has_deferred)) = self.deferred
            && known == version
        {
            return Ok(has_deferred);
        }
        let deadline = Instant::now() + LOCAL;
        let has_deferred = self.replica.read(deadline, write_table::has_deferred);
        let has_deferred = has_deferred.await?;
        self.deferred = Some((version, has_deferred));
        Ok(has_deferred)
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

    /// Tells the clients of an entry what became of it.
    async fn answer_all(&self, shared: Vec<Pending>, result: &Result<(), Failure>) {
        let text = match result {
            Ok(()) => None,
            Err(Failure::OfStatement(text)) => Some(&text[..]),
            Err(failure) => {
                for pending in shared {
                    let answer = failure.answer(&pending.write);
                    pending.answer(answer);
                }
                return;
            }
        };
        let found = self.find(&shared).ok();
        let (sequence, recorded) = match found {
            Some(found) => (Some(found.sequence), found.recorded),
            None => (None, vec![None; shared.len()]),
        };
        for (pending, recorded) in shared.into_iter().zip(recorded) {
            let answer = match sequence {
                Some(sequence) => {
                    self.answer_of(&pending.write, recorded, sequence, text)
                        .await
                }
                None => unread(),
            };
            pending.answer(answer);
        }
    }

    /// Returns what a client is told: what is recorded, if something is.
    async fn answer_of(
        &self,
        write: &Write,
        recorded: Option<Recorded>,
        sequence: Sequence,
        text: Option<&str>,
    ) -> Answer {
        match (recorded, text) {
            (Some(recorded), _) => recorded.answer(sequence),
            (None, Some(text)) if reason_of(text) == write_table::FORGOTTEN => {
                Answer::Forgotten { sequence }
            }
            (None, Some(text)) if !text.contains(write_table::KEY) => {
                self.record_failure(write, text).await
            }
            // It is recorded, and the database of this node does not have that yet.
            _ => unread(),
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

    /// Looks all of them up at once.
    fn find(&self, shared: &[Pending]) -> rusqlite::Result<Found> {
        let keys: Vec<Key> = shared.iter().map(|pending| pending.write.key).collect();
        self.replica
            .read_here(|connection| write_table::find_all(connection, &keys))
    }
}

impl Recorded {
    fn answer(self, sequence: Sequence) -> Answer {
        match self {
            Self::Executed(executed) => Answer::Written { executed, sequence },
            Self::Failed { kind, text } => Answer::Failed { kind, text },
        }
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

fn unread() -> Answer {
    unknown("this node could not read what became of it")
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

    fn write_of(key: u8, sql: &str) -> Write {
        let statement = Statement {
            sql: sql.to_owned(),
            values: Vec::new(),
        };
        Write {
            key: Key([key; 16]),
            made_at: Sequence(0),
            statements: vec![statement],
            within: 0,
            is_repeated: false,
        }
    }

    /// Returns a queue with these writes in it.
    fn queue_of(writes: Vec<Write>, shared: usize) -> Queue {
        let (sender, waiting) = mpsc::channel(WAITING);
        for write in writes {
            let pending = Pending {
                kinds: vec![StatementKind::Insert; write.statements.len()],
                write,
                deadline: Instant::now() + LOCAL,
                answer: oneshot::channel().0,
            };
            sender.try_send(pending).unwrap();
        }
        Queue {
            waiting,
            left: None,
            shared,
        }
    }

    /// Returns the first byte of the keys of each entry, and which of them are repeated.
    async fn entries_of(mut queue: Queue) -> Vec<Vec<(u8, bool)>> {
        let mut entries = Vec::new();
        while let Some(shared) = queue.next().await {
            let write = |pending: &Pending| (pending.write.key.0[0], pending.write.is_repeated);
            entries.push(shared.iter().map(write).collect());
        }
        entries
    }

    #[tokio::test]
    async fn a_second_write_with_a_key_is_left_for_the_next_entry() {
        let writes = [1, 2, 1, 3].map(|key| write_of(key, ""));
        let entries = entries_of(queue_of(writes.to_vec(), 128)).await;
        let expected = [vec![(1, false), (2, false)], vec![(1, true), (3, false)]];
        assert_eq!(entries, expected);
    }

    #[tokio::test]
    async fn an_entry_has_no_more_writes_than_the_node_allows() {
        let writes: Vec<Write> = (0..5).map(|key| write_of(key, "")).collect();
        let sizes = |entries: Vec<Vec<_>>| entries.iter().map(Vec::len).collect::<Vec<_>>();
        let shared = entries_of(queue_of(writes.clone(), 2)).await;
        assert_eq!(sizes(shared), [2, 2, 1]);
        let alone = entries_of(queue_of(writes, 1)).await;
        assert_eq!(sizes(alone), [1; 5]);
        let long = "x".repeat(SHARED_BYTES / 2);
        let writes = (0..3).map(|key| write_of(key, &long)).collect();
        assert_eq!(sizes(entries_of(queue_of(writes, 128)).await), [1, 1, 1]);
    }

    /// Starts the engine with one node in this process.
    async fn start_engine(directory: &std::path::Path) -> (Client, Proposals) {
        let address = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            (listener.local_addr().unwrap().to_string(), listener)
        };
        // Both are open until both are known.
        let ((log, one), (management, other)) = (address(), address());
        drop((one, other));
        let config = hiqlite::NodeConfig {
            node_id: 1,
            nodes: vec![hiqlite::Node {
                id: 1,
                addr_raft: log,
                addr_api: management,
            }],
            listen_addr_api: "127.0.0.1".into(),
            listen_addr_raft: "127.0.0.1".into(),
            data_dir: directory.to_str().unwrap().to_owned().into(),
            filename_db: "replica.db".into(),
            secret_raft: "s".repeat(16),
            secret_api: "s".repeat(16),
            ..hiqlite::NodeConfig::default()
        };
        let engine = hiqlite::start_node(config).await.unwrap();
        engine.wait_until_healthy_db().await;
        let replica = Replica::new(directory.join("state_machine/db/replica.db"));
        let leadership = Leadership::new(1, engine.clone());
        let proposals = Proposals::start(engine.clone(), replica, leadership, 128);
        (engine, proposals)
    }

    /// Has all writes executed at the same time, and returns their answers, and how many entries they took.
    async fn execute_all<const N: usize>(
        engine: &Client,
        proposals: &Proposals,
        writes: [Write; N],
    ) -> ([Answer; N], u64) {
        let last = async || engine.metrics_db().await.unwrap().last_log_index.unwrap();
        let before = last().await;
        let mut tasks = Vec::new();
        for write in writes {
            let proposals = proposals.clone();
            let kinds = vec![StatementKind::of(&write.statements[0].sql)];
            let deadline = Instant::now() + Duration::from_secs(60);
            tasks.push(tokio::spawn(async move {
                proposals.execute(write, kinds, deadline).await
            }));
        }
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.unwrap());
        }
        (answers.try_into().unwrap(), last().await - before)
    }

    /// The runtime has one thread, so that all that is sent at once is found at once.
    #[tokio::test]
    async fn keys_that_are_known_do_not_split_an_entry() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, proposals) = start_engine(directory.path()).await;
        let table = write_of(0, "CREATE TABLE t(a UNIQUE)");
        execute_all(&engine, &proposals, [table]).await;
        let insert = |key: u8| write_of(key, &format!("INSERT INTO t VALUES ({key})"));

        let ([first], _) = execute_all(&engine, &proposals, [insert(1)]).await;
        let mut again = insert(1);
        again.is_repeated = true;
        let writes = [insert(2), again, insert(3)];
        let (answers, entries) = execute_all(&engine, &proposals, writes).await;
        assert!(
            is_written(&first) && answers.iter().all(is_written),
            "{answers:?}"
        );
        assert_eq!(entries, 1);

        // The second one with a key waits for the first one.
        let writes = [insert(4), insert(4), insert(5)];
        let (answers, entries) = execute_all(&engine, &proposals, writes).await;
        assert!(answers.iter().all(is_written), "{answers:?}");
        assert_eq!(entries, 2);

        // Without a word that it is repeated, its key makes the entry fail, and each is executed by itself.
        let writes = [insert(6), insert(5), insert(7)];
        let (answers, entries) = execute_all(&engine, &proposals, writes).await;
        assert!(answers.iter().all(is_written), "{answers:?}");
        assert_eq!(entries, 4);
    }

    #[tokio::test]
    async fn an_error_in_an_entry_reaches_its_own_writer() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, proposals) = start_engine(directory.path()).await;
        let table = write_of(0, "CREATE TABLE t(a UNIQUE)");
        execute_all(&engine, &proposals, [table]).await;
        let insert = |key: u8, value: u8| write_of(key, &format!("INSERT INTO t VALUES ({value})"));
        let writes = [insert(1, 1), insert(2, 1), insert(3, 3)];
        let ([one, failed, three], _) = execute_all(&engine, &proposals, writes).await;
        assert!(is_written(&one) && is_written(&three), "{one:?}, {three:?}");
        let Answer::Failed { kind, text } = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(kind, FailureKind::Constraint);
        assert_eq!(text, "UNIQUE constraint failed: t.a");
    }

    fn is_written(answer: &Answer) -> bool {
        matches!(answer, Answer::Written { .. })
    }
}
