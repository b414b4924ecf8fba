//! What a node answers to one client.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hiqlite::Client;
use hiqlite::rusqlite::{self, Connection};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::announcement;
use crate::leadership::Leadership;
use crate::membership::Membership;
use crate::proposals::{Proposals, size_in_log};
use crate::replica::Replica;
use crate::silence::Silence;
use crate::statement_kind::{self, Refusal};
use crate::transport::{Acceptor, Stream};
use crate::wire::{
    self, ANSWER_MAX, Answer, FailureKind, HELLO_MAX, Hello, Key, Member, NodeStatus, PART_MAX,
    REQUEST_MAX, Read, Request, Sequence, Statement, Welcome, WireValue, Write,
};
use crate::write_table::{self, STATEMENTS_MAX};

/// How long a client may take to show its token.
const WELCOME: Duration = Duration::from_secs(10);
/// How long the engine may take to confirm by a question that this node leads.
const CONFIRMATION: Duration = Duration::from_millis(500);
/// How often a node that is behind looks whether it has caught up.
const CATCH_UP: Duration = Duration::from_millis(2);
/// How often a node says that it is at work. A client waits for that four times as long.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(300);
/// How many bytes an entry of the engine's log has at most: half of a file of the log.
const ENTRY_MAX: usize = 8 << 20;
/// How long a client may take to read an answer.
const DELIVERY: Duration = Duration::from_secs(60);
/// The longest time that a client may ask to wait.
const WITHIN_MAX: Duration = Duration::from_secs(600);
/// How many bytes of rows one answer has at most, as they are counted while they are read.
const ROWS_MAX: usize = ANSWER_MAX / 2;

/// What all sessions of a node share.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) token: Arc<str>,
    pub(crate) acceptor: Acceptor,
    pub(crate) engine: Client,
    pub(crate) replica: Replica,
    pub(crate) proposals: Proposals,
    pub(crate) membership: Membership,
    pub(crate) leadership: Leadership,
    /// Whether the engine answers when it is asked for the last write.
    pub(crate) confirmations: Arc<Silence>,
    /// A place for each query that runs at once, so that the node itself can always read.
    pub(crate) reads: Arc<Semaphore>,
    /// A place for a copy of the database, until its client has it: several would fill the disk.
    pub(crate) copies: Arc<Semaphore>,
}

impl Node {
    /// Answers one client, until it ends the connection.
    pub(crate) async fn serve(self, stream: TcpStream) -> io::Result<()> {
        let opened = timeout(WELCOME, async {
            let mut stream = self.acceptor.accept(stream).await?;
            let hello = wire::receive(&mut stream, HELLO_MAX).await?;
            Ok::<_, io::Error>((stream, hello))
        });
        let (mut stream, hello) = opened.await??;
        let Some(hello) = hello else {
            return Ok(());
        };
        let welcome = self.welcome(&hello).await;
        let is_ready = matches!(welcome, Welcome::Ready { .. });
        deliver(&mut stream, &welcome).await?;
        if !is_ready {
            return Ok(());
        }
        loop {
            let request = timeout(IDLE, wire::receive(&mut stream, REQUEST_MAX)).await??;
            let Some(request) = request else {
                return Ok(());
            };
            let answer = match request {
                Request::Write(write) => working(&mut stream, self.write(write)).await?,
                Request::Read(read) => working(&mut stream, self.read(read)).await?,
                Request::Status => working(&mut stream, self.status()).await?,
                Request::Remove { node } => working(&mut stream, self.remove(node)).await?,
                Request::Copy { within } => {
                    self.send_copy(&mut stream, deadline(within)).await?;
                    continue;
                }
            };
            let frame = wire::encode(&answer, ANSWER_MAX).or_else(|error| {
                let text = format!("the answer is too long: {error}: ask for fewer rows");
                let kind = FailureKind::Refused;
                wire::encode(&Answer::Failed { kind, text }, ANSWER_MAX)
            })?;
            timeout(DELIVERY, wire::send_frame(&mut stream, &frame)).await??;
        }
    }

    /// Sends a copy of the database, or why there is none.
    async fn send_copy(&self, stream: &mut Box<dyn Stream>, deadline: Instant) -> io::Result<()> {
        let Ok(_place) = self.copies.try_acquire() else {
            let text = "another copy is under way: try again when it is done".to_owned();
            let kind = FailureKind::Refused;
            return deliver(stream, &Answer::Failed { kind, text }).await;
        };
        let (mut file, bytes) = match working(stream, self.copy(deadline)).await? {
            Ok(copy) => copy,
            Err(answer) => return deliver(stream, &answer).await,
        };
        deliver(stream, &Answer::Copy { bytes }).await?;
        let mut part = vec![0; PART_MAX];
        loop {
            let length = file.read(&mut part).await?;
            if length == 0 {
                return Ok(());
            }
            deliver(stream, &Answer::Part(part[..length].to_vec())).await?;
        }
    }

    /// Returns a copy of the database with every write that was acknowledged before, and its length.
    async fn copy(&self, deadline: Instant) -> Result<(File, u64), Answer> {
        if let Some(answer) = self.catch_up(deadline).await {
            return Err(answer);
        }
        let Ok(Ok(_place)) = tokio::time::timeout_at(deadline.into(), self.reads.acquire()).await
        else {
            return Err(queries_took_too_long());
        };
        let copied = self.replica.copy(deadline).await;
        let failed = |error: io::Error| Answer::Failed {
            kind: match error.kind() {
                io::ErrorKind::TimedOut => FailureKind::Timeout,
                io::ErrorKind::StorageFull => FailureKind::Refused,
                _ => FailureKind::Sqlite,
            },
            text: format!("copy the database: {error}"),
        };
        let file = copied.map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok((File::from_std(file), bytes))
    }

    async fn welcome(&self, hello: &Hello) -> Welcome {
        if hello.version != wire::VERSION {
            return Welcome::Refused(format!(
                "it speaks version {} of the protocol, and the client version {}: use the same \
                 release of penholder-cluster on both sides",
                wire::VERSION,
                hello.version
            ));
        }
        if !is_same(hello.token.as_bytes(), self.token.as_bytes()) {
            let why = "the token is another one: copy the file client.toml of this cluster";
            return Welcome::Refused(why.to_owned());
        }
        Welcome::Ready {
            node: self.id,
            sequence: self.sequence().await,
        }
    }

    async fn write(&self, write: Write) -> Answer {
        let count = write.statements.len();
        if count == 0 || count > STATEMENTS_MAX {
            let text =
                format!("a write has 1 to {STATEMENTS_MAX} statements, and this one {count}");
            return Answer::Failed {
                kind: FailureKind::Misuse,
                text,
            };
        }
        let mut kinds = Vec::with_capacity(count);
        for (number, statement) in write.statements.iter().enumerate() {
            match statement_kind::check_write(&statement.sql) {
                Ok(kind) => kinds.push(kind),
                Err(refusal) => return refused(refusal, number, count),
            }
        }
        if let Some(refusal) = self.leadership.refusal().await {
            return refusal;
        }
        if size_in_log(&write) > ENTRY_MAX {
            let text = format!(
                "its statements and values have more than {} MiB in the log: split it",
                ENTRY_MAX >> 20
            );
            return Answer::Failed {
                kind: FailureKind::Refused,
                text,
            };
        }
        let deadline = deadline(write.within);
        self.proposals.execute(write, kinds, deadline).await
    }

    async fn read(&self, read: Read) -> Answer {
        let deadline = deadline(read.within);
        if let Err(refusal) = statement_kind::check_read(&read.statement.sql) {
            return refused(refusal, 0, 1);
        }
        if !read.may_be_stale
            && let Some(answer) = self.catch_up(deadline).await
        {
            return answer;
        }
        let Ok(Ok(_place)) = tokio::time::timeout_at(deadline.into(), self.reads.acquire()).await
        else {
            return queries_took_too_long();
        };
        let statement = read.statement;
        let found = self
            .replica
            .read(deadline, move |connection| rows(connection, &statement))
            .await;
        match found {
            Ok(Rows::All { columns, rows }) => Answer::Rows { columns, rows },
            Ok(Rows::TooMany) => {
                let text = format!(
                    "the rows have more than {} MiB: ask for fewer",
                    ROWS_MAX >> 20
                );
                Answer::Failed {
                    kind: FailureKind::Refused,
                    text,
                }
            }
            Err(error) if is_interrupted(&error) => {
                let text = "the query took too long".to_owned();
                Answer::Failed {
                    kind: FailureKind::Timeout,
                    text,
                }
            }
            Err(error) => {
                let kind = FailureKind::Sqlite;
                Answer::Failed {
                    kind,
                    text: error.to_string(),
                }
            }
        }
    }

    /// Waits until the database of this node has every write that was acknowledged before. Otherwise
    /// returns what to answer.
    ///
    /// Each write has a number in the table of writes. The node that leads is asked for the last one,
    /// which a majority confirms; then this node waits until it has that too.
    async fn catch_up(&self, deadline: Instant) -> Option<Answer> {
        if let Some(refusal) = self.leadership.refusal().await {
            return Some(refusal);
        }
        if let Some(last) = self.last_confirmed().await {
            return self.wait_for(last, deadline).await;
        }
        // There is no table before the first write; or the engine asks by a connection that still leads to a
        // former leader, which is silent. A write of our own has a number too.
        let made_at = self.sequence().await;
        let Ok(key) = Key::random() else {
            let text = "the system has no random numbers".to_owned();
            return Some(Answer::Failed {
                kind: FailureKind::Sqlite,
                text,
            });
        };
        match self.proposals.confirm(key, made_at, deadline).await {
            Answer::Written { .. } => None,
            Answer::Failed {
                kind: FailureKind::Timeout,
                text,
            } => Some(Answer::Failed {
                kind: FailureKind::Timeout,
                text,
            }),
            _ => Some(Answer::NotLeader { leader: None }),
        }
    }

    /// Asks the engine for the number of the last write, which a majority confirms. If it is silent, it is
    /// left alone for a while, so that not each query waits for it.
    async fn last_confirmed(&self) -> Option<Sequence> {
        if !self.confirmations.may_ask() {
            return None;
        }
        let last = self
            .engine
            .query_consistent_map::<Last, _>(write_table::LAST, Vec::new());
        let Ok(found) = timeout(CONFIRMATION, last).await else {
            self.confirmations.begin();
            return None;
        };
        self.confirmations.end();
        match found.ok()?[..] {
            [Last(last)] => Some(Sequence(last)),
            _ => None,
        }
    }

    /// Waits until the database of this node has a write.
    async fn wait_for(&self, sequence: Sequence, deadline: Instant) -> Option<Answer> {
        while self.sequence().await < sequence {
            if Instant::now() >= deadline {
                let text = "this node did not catch up in time".to_owned();
                return Some(Answer::Failed {
                    kind: FailureKind::Timeout,
                    text,
                });
            }
            tokio::time::sleep(CATCH_UP).await;
        }
        None
    }

    /// Returns the number of the last write that the database of this node has.
    async fn sequence(&self) -> Sequence {
        let deadline = Instant::now() + WELCOME;
        // There is no table before the first write.
        let found = self.replica.read(deadline, write_table::sequence).await;
        found.unwrap_or(Sequence(0))
    }

    /// Ends the membership of a node.
    async fn remove(&self, node: u64) -> Answer {
        if let Some(refusal) = self.leadership.refusal().await {
            return refusal;
        }
        let removed = self.membership.remove(node).await;
        // If the answer was lost, it may have been done all the same.
        let is_member = match self.engine.metrics_db().await {
            Ok(metrics) => metrics.membership_config.nodes().any(|(&id, _)| id == node),
            Err(_) => true,
        };
        match removed {
            _ if !is_member => Answer::Removed,
            Ok(()) => unknown_removal("the engine has not removed it yet"),
            Err(why) => unknown_removal(&why),
        }
    }

    async fn status(&self) -> Answer {
        match self.engine.metrics_db().await {
            Ok(metrics) => {
                let membership = metrics.membership_config.membership();
                let voters: Vec<u64> = membership.voter_ids().collect();
                let mut addresses = announcement::known(&self.replica).await;
                let members = membership.nodes().map(|(&id, _)| Member {
                    id,
                    is_voter: voters.contains(&id),
                    client: addresses.remove(&id),
                });
                Answer::Status(NodeStatus {
                    node: self.id,
                    leader: metrics.current_leader,
                    term: metrics.current_term,
                    last_log: metrics.last_log_index,
                    last_applied: metrics.last_applied.map(|log| log.index),
                    members: members.collect(),
                    since_majority: metrics.millis_since_quorum_ack,
                })
            }
            Err(error) => Answer::Failed {
                kind: FailureKind::Sqlite,
                text: error.to_string(),
            },
        }
    }
}

/// Waits for what the client gets, and tells it from time to time that the node is at work. If the client is
/// gone, that ends.
async fn working<T>(stream: &mut Box<dyn Stream>, work: impl Future<Output = T>) -> io::Result<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(SIGN_OF_LIFE) => deliver(stream, &Answer::Working).await?,
        }
    }
}

fn unknown_removal(why: &str) -> Answer {
    Answer::Unknown {
        text: format!("the engine says: {why}"),
    }
}

fn queries_took_too_long() -> Answer {
    let text = "the queries before it took too long".to_owned();
    Answer::Failed {
        kind: FailureKind::Timeout,
        text,
    }
}

async fn deliver<M: serde::Serialize>(stream: &mut Box<dyn Stream>, message: &M) -> io::Result<()> {
    timeout(DELIVERY, wire::send(stream, message, ANSWER_MAX)).await?
}

fn deadline(within: u32) -> Instant {
    Instant::now() + Duration::from_millis(within.into()).min(WITHIN_MAX)
}

fn refused(refusal: Refusal, number: usize, count: usize) -> Answer {
    let Refusal { kind, why } = refusal;
    let text = match count {
        1 => why,
        _ => format!("statement {} of {count}: {why}", number + 1),
    };
    Answer::Failed { kind, text }
}

/// Compares without telling by the time how much is equal.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one
        .iter()
        .zip(other)
        .fold(0, |found, (one, other)| found | (one ^ other));
    one.len() == other.len() && differences == 0
}

/// The number of the last write.
struct Last(i64);

impl From<&mut hiqlite::Row<'_>> for Last {
    fn from(row: &mut hiqlite::Row<'_>) -> Self {
        // It is an integer: see `write_table::LAST`.
        Self(row.try_get("number").unwrap_or(i64::MAX))
    }
}

enum Rows {
    All {
        columns: Vec<String>,
        rows: Vec<Vec<WireValue>>,
    },
    TooMany,
}

fn rows(connection: &Connection, statement: &Statement) -> rusqlite::Result<Rows> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    if prepared.parameter_count() != statement.values.len() {
        return Err(rusqlite::Error::InvalidParameterCount(
            statement.values.len(),
            prepared.parameter_count(),
        ));
    }
    for (index, value) in statement.values.iter().enumerate() {
        let value = penholder::Value::from(value.clone());
        prepared.raw_bind_parameter(index + 1, value)?;
    }
    let columns: Vec<String> = prepared
        .column_names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut found = prepared.raw_query();
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let mut values = Vec::with_capacity(columns.len());
        for index in 0..columns.len() {
            let value: penholder::Value = row.get(index)?;
            bytes += match &value {
                penholder::Value::Text(text) => text.len() + 8,
                penholder::Value::Blob(blob) => blob.len() + 8,
                _ => 16,
            };
            if bytes > ROWS_MAX {
                return Ok(Rows::TooMany);
            }
            values.push(value.into());
        }
        rows.push(values);
    }
    Ok(Rows::All { columns, rows })
}

fn is_interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
}
