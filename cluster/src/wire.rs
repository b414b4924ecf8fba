//! What client and node say to each other.
//!
//! Each message is one frame: its length in four bytes, the lowest first, then the message as the
//! crate `postcard` writes it. A connection begins with [`Hello`] and [`Welcome`]; then one
//! [`Request`] after another has one [`Answer`] each; only a copy has several. A message that cannot be read ends the connection.

use std::io;
use std::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use penholder::{Error, ErrorKind, RowSet, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The version of these messages. A node refuses every other.
pub(crate) const VERSION: u16 = 1;
/// The longest request, in bytes. All of it is one entry of the log, which has 16 MiB at most.
pub(crate) const REQUEST_MAX: usize = 2 << 20;
/// The longest answer, in bytes.
pub(crate) const ANSWER_MAX: usize = 64 << 20;
/// The longest part of a copy, in bytes.
pub(crate) const PART_MAX: usize = 256 << 10;
/// The longest message of a client that has not shown its token.
pub(crate) const HELLO_MAX: usize = 1024;

/// Identifies a write: a client that repeats it says the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Key(pub(crate) [u8; 16]);

impl Key {
    /// Returns a key that no other write has: the time in milliseconds, and 80 random bits.
    ///
    /// The keys of writes that are made at the same time are neighbours then, and change one page of the
    /// index of each node. Other keys would change a page each. It does not matter whether the time is right.
    pub(crate) fn random() -> io::Result<Self> {
        let mut key = [0; 16];
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let bytes = time.unwrap_or_default().as_millis().to_be_bytes();
        let (start, rest) = key.split_at_mut(6);
        start.copy_from_slice(&bytes[10..]);
        let filled = rustls::crypto::ring::default_provider()
            .secure_random
            .fill(rest);
        filled.map_err(|_| io::Error::other("the system has no random numbers"))?;
        Ok(Self(key))
    }
}

/// How many writes the cluster had recorded at some time: the key of a write that was begun before
/// then, and is not recorded, may have been forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Sequence(pub(crate) i64);

/// The first message of a client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u16,
    pub(crate) token: String,
}

/// The answer to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Welcome {
    Ready {
        node: u64,
        sequence: Sequence,
    },
    /// The text says why.
    Refused(String),
}

/// One statement with one value for each of its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<WireValue>,
}

/// A [`Value`], as it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum WireValue {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Request {
    Write(Write),
    Read(Read),
    Status,
    /// A copy of the whole database, with every write that was acknowledged before. It has
    /// [`Answer::Copy`], and then [`Answer::Part`]s.
    Copy {
        within: u32,
    },
    /// Ends the membership of a node.
    Remove {
        node: u64,
    },
}

/// Statements that are one transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Write {
    pub(crate) key: Key,
    /// What the client knew when it made the key.
    pub(crate) made_at: Sequence,
    pub(crate) statements: Vec<Statement>,
    /// How long the client waits for the answer, in milliseconds.
    pub(crate) within: u32,
    /// Whether the client has asked for it before and does not know what became of that. If it fails
    /// now, that is recorded, so that the first request cannot be executed later.
    pub(crate) is_repeated: bool,
}

/// One statement that reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Read {
    pub(crate) statement: Statement,
    /// Whether what this node knows is enough, which may be old.
    pub(crate) may_be_stale: bool,
    pub(crate) within: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The answer will follow: the node is at work.
    Working,
    /// It was written, now or when it was asked for before.
    Written {
        executed: Vec<WireExecuted>,
        sequence: Sequence,
    },
    Rows {
        columns: Vec<String>,
        rows: Vec<Vec<WireValue>>,
    },
    Status(NodeStatus),
    /// This node does not lead: nothing was done. It is told which node does, if one does.
    NotLeader {
        leader: Option<u64>,
    },
    /// The key may have been forgotten: nothing was done now.
    Forgotten {
        sequence: Sequence,
    },
    /// Nothing was written.
    Failed {
        kind: FailureKind,
        text: String,
    },
    /// It may have been written, or be written yet.
    Unknown {
        text: String,
    },
    /// A database file of this length follows in parts.
    Copy {
        bytes: u64,
    },
    /// The next part of it.
    Part(Vec<u8>),
    /// The node is no member.
    Removed,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    Constraint,
    Sqlite,
    Misuse,
    Refused,
    Timeout,
}

impl FailureKind {
    pub(crate) fn error_kind(self) -> ErrorKind {
        match self {
            Self::Constraint => ErrorKind::ConstraintViolation,
            Self::Sqlite => ErrorKind::Sqlite,
            Self::Misuse => ErrorKind::Misuse,
            Self::Refused => ErrorKind::Refused,
            Self::Timeout => ErrorKind::Timeout,
        }
    }
}

/// What one statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireExecuted {
    pub(crate) rows_changed: u64,
    pub(crate) last_insert_rowid: Option<i64>,
}

/// What a node knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) node: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    /// The number of the last entry of its log, and of the last one that its database has.
    pub(crate) last_log: Option<u64>,
    pub(crate) last_applied: Option<u64>,
    pub(crate) members: Vec<Member>,
    /// Since when it has not heard from a majority, in milliseconds; known to the leader only.
    pub(crate) since_majority: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) is_voter: bool,
    /// Where it takes clients, if it has said so.
    pub(crate) client: Option<String>,
}

impl NodeStatus {
    /// Whether it leads. A node that was removed while it led may believe it for ever.
    pub(crate) fn leads(&self) -> bool {
        self.leader == Some(self.node) && self.votes()
    }

    pub(crate) fn is_member(&self) -> bool {
        self.members.iter().any(|member| member.id == self.node)
    }

    /// Whether it counts for a majority.
    pub(crate) fn votes(&self) -> bool {
        let mut members = self.members.iter();
        members.any(|member| member.id == self.node && member.is_voter)
    }
}

impl From<Value> for WireValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(value) => Self::Integer(value),
            Value::Real(value) => Self::Real(value),
            Value::Text(value) => Self::Text(value),
            Value::Blob(value) => Self::Blob(value),
        }
    }
}

impl From<WireValue> for Value {
    fn from(value: WireValue) -> Self {
        match value {
            WireValue::Null => Self::Null,
            WireValue::Integer(value) => Self::Integer(value),
            WireValue::Real(value) => Self::Real(value),
            WireValue::Text(value) => Self::Text(value),
            WireValue::Blob(value) => Self::Blob(value),
        }
    }
}

impl Statement {
    /// Makes one of what a program gives.
    pub(crate) fn of(query: penholder::Query) -> Result<Self, Error> {
        let (sql, values) = query.into_parts()?;
        let values = values.into_iter().map(Into::into).collect();
        Ok(Self { sql, values })
    }
}

/// Makes the rows that a program gets.
pub(crate) fn row_set(columns: Vec<String>, rows: Vec<Vec<WireValue>>) -> Option<RowSet> {
    if rows.iter().any(|row| row.len() != columns.len()) {
        return None;
    }
    let row = |row: Vec<WireValue>| row.into_iter().map(Into::into).collect();
    Some(RowSet::new(columns, rows.into_iter().map(row).collect()))
}

/// Writes a message of this length at most.
pub(crate) async fn send<M: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &M,
    max: usize,
) -> io::Result<()> {
    let frame = encode(message, max)?;
    send_frame(stream, &frame).await
}

/// Writes a frame.
pub(crate) async fn send_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    frame: &[u8],
) -> io::Result<()> {
    stream.write_all(frame).await?;
    stream.flush().await
}

/// Returns the frame of a message.
pub(crate) fn encode<M: Serialize>(message: &M, max: usize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    postcard::to_io(message, &mut frame).map_err(io::Error::other)?;
    let length = frame.len() - 4;
    match u32::try_from(length) {
        Ok(bytes) if length <= max => frame[..4].copy_from_slice(&bytes.to_le_bytes()),
        _ => return Err(too_long(length, max)),
    }
    Ok(frame)
}

/// Reads a message of this length at most; `None` at the end of the stream.
pub(crate) async fn receive<M: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> io::Result<Option<M>> {
    const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
    receive_within(stream, max, FOR_EVER).await
}

/// Reads a message, each part of which has to come within a time.
///
/// # Errors
///
/// Also [`io::ErrorKind::TimedOut`].
pub(crate) async fn receive_within<M: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    max: usize,
    each: Duration,
) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match timeout(each, stream.read_exact(&mut length)).await? {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > max {
        return Err(too_long(length, max));
    }
    // Not all at once: a client may announce much and send nothing.
    let mut frame = Vec::with_capacity(length.min(64 << 10));
    let mut limited = stream.take(length as u64);
    while frame.len() < length {
        if timeout(each, limited.read_buf(&mut frame)).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    decode(&frame).map(Some)
}

/// Reads the message of a frame, without its length.
pub(crate) fn decode<M: DeserializeOwned>(frame: &[u8]) -> io::Result<M> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(invalid(format!("{} bytes follow the message", rest.len()))),
        Err(error) => Err(invalid(error.to_string())),
    }
}

fn too_long(length: usize, max: usize) -> io::Error {
    let why = format!("a message has {length} bytes, and at most {max} are allowed");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write() -> Request {
        Request::Write(Write {
            key: Key([7; 16]),
            made_at: Sequence(-1),
            statements: vec![Statement {
                sql: "INSERT INTO t VALUES (?1, ?2)".to_owned(),
                values: vec![WireValue::Real(-0.0), WireValue::Blob(vec![0, 255])],
            }],
            within: 5000,
            is_repeated: true,
        })
    }

    #[test]
    fn keys_of_one_moment_are_neighbours_and_differ() {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let before = now().as_millis();
        let (one, other) = (Key::random().unwrap(), Key::random().unwrap());
        let after = now().as_millis();
        assert_ne!(one, other);
        for Key(key) in [one, other] {
            let mut time = [0; 16];
            time[10..].copy_from_slice(&key[..6]);
            assert!((before..=after).contains(&u128::from_be_bytes(time)));
        }
    }

    #[tokio::test]
    async fn a_message_arrives_as_it_was_sent() {
        let (mut here, mut there) = tokio::io::duplex(16);
        let sent = write();
        let sending = tokio::spawn(async move {
            send(&mut here, &write(), REQUEST_MAX).await.unwrap();
        });
        assert_eq!(receive(&mut there, REQUEST_MAX).await.unwrap(), Some(sent));
        sending.await.unwrap();
        let end: Option<Request> = receive(&mut there, REQUEST_MAX).await.unwrap();
        assert_eq!(end, None);
    }

    #[tokio::test]
    async fn what_is_too_long_is_neither_sent_nor_read() {
        let error = encode(&write(), 10).unwrap_err().to_string();
        assert!(error.contains("at most 10"), "{error}");
        let mut long: &[u8] = &[0xff, 0xff, 0xff, 0x7f, 0];
        let error = receive::<Request>(&mut long, REQUEST_MAX)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    proptest::proptest! {
        /// A client that has not shown its token yet may send anything.
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
            let _ = decode::<Hello>(&bytes);
            let _ = decode::<Welcome>(&bytes);
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Answer>(&bytes);
        }

        #[test]
        fn a_damaged_message_is_another_one_or_an_error(at: usize, bit in 0..8_u8) {
            let mut frame = encode(&write(), REQUEST_MAX).unwrap().split_off(4);
            let at = at % frame.len();
            frame[at] ^= 1 << bit;
            // By their texts, because 0.0 equals -0.0.
            let read = format!("{:?}", decode::<Request>(&frame).ok());
            assert_ne!(read, format!("{:?}", Some(write())));
        }
    }

    #[tokio::test]
    async fn garbage_is_an_error() {
        for garbage in [
            &b"GET / HTTP/1.1\r\n"[..],
            &[5, 0, 0, 0, 1],
            &[1, 0, 0, 0, 99],
            &[3, 0, 0, 0, 2, 2, 2],
        ] {
            let mut stream = garbage;
            assert!(
                receive::<Request>(&mut stream, HELLO_MAX).await.is_err(),
                "{garbage:?}"
            );
        }
    }
}
