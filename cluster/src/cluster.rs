//! The client of a cluster.

mod copy;
mod removal;

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use penholder::{Error, ErrorKind, Executed, IntoParams, Migrated, Query, Result, RowSet, Store};
use tokio::time::{sleep, timeout_at};

use crate::address::Address;
use crate::client_file::ClientFile;
use crate::migration;
use crate::nodes::Nodes;
use crate::transport::{Connector, Stream};
use crate::wire::{
    self, ANSWER_MAX, Answer, FailureKind, HELLO_MAX, Hello, Key, NodeStatus, REQUEST_MAX, Read,
    Request, Sequence, Statement, Welcome, WireExecuted, Write,
};

/// How long a call waits for its answer unless it is told otherwise: longer than an election.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one node is waited for before another one is asked: a node that is stopped takes a
/// connection and does not answer.
const ONE_NODE: Duration = Duration::from_secs(2);
/// How long one node may take to be connected to.
const ONE_CONNECTION: Duration = Duration::from_secs(1);
/// The pause before all nodes are asked again, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];
/// How long an idle connection is kept: less than a node keeps it.
const IDLE: Duration = Duration::from_secs(200);
/// How many idle connections to one node are kept.
const IDLE_MAX: usize = 64;
/// How many attempts an error lists.
const LISTED: usize = 6;

/// A handle on a cluster. It is cheap to clone, and shared between tasks.
///
/// A call is one transaction, as with `AsyncDatabase`: `execute` and `batch` write, `query` reads
/// what every acknowledged write has left. A call waits until its timeout, through connecting,
/// elections and repetitions, and an acknowledged write is on the disks of a majority of the nodes.
/// A write that is repeated because a node did not answer is executed once: it has a key, which the
/// cluster remembers for the next 200,000 writes.
///
/// ```no_run
/// use penholder::{Result, Store, StoreExt};
/// use penholder_cluster::Cluster;
///
/// # async fn example() -> Result<()> {
/// let cluster = Cluster::connect("cluster:here/client.toml").await?;
/// cluster.execute("INSERT INTO note VALUES (?1)", ["hello"]).await?;
/// let count: i64 = cluster.query_scalar("SELECT count(*) FROM note", ()).await?;
/// # assert_eq!(count, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
    timeout: Duration,
    may_be_stale: bool,
}

struct Inner {
    address: Address,
    nodes: Nodes,
    token: String,
    connector: Connector,
    /// The node that led when it was last known.
    leader: AtomicUsize,
    idle: Mutex<HashMap<usize, Vec<Connection>>>,
    /// The greatest sequence that was seen.
    sequence: AtomicI64,
}

/// An open connection, on which no request is under way.
struct Connection {
    stream: Box<dyn Stream>,
    /// When it was last used.
    used: Instant,
}

/// Why one attempt did not lead to an answer.
struct Attempt {
    node: String,
    why: String,
}

/// Which node is asked next.
struct Route {
    place: usize,
    /// The node that leads, if the one that was asked said so.
    hint: Option<usize>,
    /// Whether the last step followed a hint. Two nodes may name each other for a while.
    has_followed: bool,
    pause: Duration,
}

/// What became of one request.
enum Asked {
    Answer(Answer),
    /// It was not sent.
    NotSent(String),
    /// It was sent, and there was no answer.
    NoAnswer(String),
}

impl Cluster {
    /// Connects to a cluster: at least one node has to answer within [`DEFAULT_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// The address or the file that it names is wrong, no node can be reached, or none accepts the
    /// token or shows the right certificate.
    pub async fn connect(address: &str) -> Result<Self> {
        let address = Address::parse(address)?;
        let file = address.client_file()?;
        Self::of(address, file, DEFAULT_TIMEOUT).await
    }

    pub(crate) async fn of(address: Address, file: ClientFile, timeout: Duration) -> Result<Self> {
        let connector = Connector::new(file.authority.as_deref()).map_err(|error| {
            let text = format!(
                "connect to cluster: {address}: the certificate of its authority: {error}: copy \
                 the file ca.pem of the cluster"
            );
            Error::of_engine(ErrorKind::Misuse, text)
        })?;
        let inner = Inner {
            address,
            nodes: Nodes::new(file.nodes),
            token: file.token,
            connector,
            leader: AtomicUsize::new(0),
            idle: Mutex::default(),
            sequence: AtomicI64::new(0),
        };
        let cluster = Self {
            inner: Arc::new(inner),
            timeout,
            may_be_stale: false,
        };
        cluster.reach().await?;
        Ok(cluster)
    }

    /// Returns a handle whose calls wait this long.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// Returns a handle whose reads any node answers, from what it knows at that moment, without
    /// asking the others: faster, possible without a majority, and perhaps old.
    #[must_use]
    pub fn stale(&self) -> Self {
        Self {
            may_be_stale: true,
            ..self.clone()
        }
    }

    /// Returns its address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Connects to one node at least. If every one refuses, that is an error at once.
    async fn reach(&self) -> Result<()> {
        let deadline = deadline_after(self.timeout);
        let mut attempts = Vec::new();
        let mut pause = PAUSES[0];
        loop {
            let mut refusals = 0;
            for (place, node) in self.inner.nodes.all().iter().enumerate() {
                let why = match self.inner.connection(place, deadline).await {
                    Ok(connection) => {
                        self.inner.keep(place, connection);
                        return Ok(());
                    }
                    Err(ConnectError::Refused(why)) => {
                        refusals += 1;
                        why
                    }
                    Err(error) => error.why(),
                };
                attempts.push(Attempt {
                    node: node.address.clone(),
                    why,
                });
            }
            if refusals == self.inner.nodes.len() {
                let mut text = format!("connect to cluster: {}: refused", self.inner.address);
                list(&mut text, &attempts);
                return Err(Error::of_engine(ErrorKind::Refused, text));
            }
            if !rest(&mut pause, deadline).await {
                return Err(self.not_reached("connect to cluster", &attempts));
            }
        }
    }

    async fn write(&self, statements: Vec<Statement>) -> Result<Vec<Executed>> {
        const WHAT: &str = "write";
        let deadline = deadline_after(self.timeout);
        let mut attempts = Vec::new();
        let mut may_have_happened = false;
        let mut write = Write {
            key: new_key()?,
            made_at: self.inner.sequence(),
            statements,
            within: u32::MAX,
            is_repeated: true,
        };
        let mut request = self.checked(Request::Write(write.clone()))?;
        let mut route = self.inner.route();
        loop {
            let place = route.place;
            write.within = milliseconds(deadline);
            if let Request::Write(asked) = &mut request {
                asked.within = write.within;
                asked.is_repeated = may_have_happened;
            }
            let asked = self.inner.ask(place, &request, deadline).await;
            let why = match asked {
                Asked::Answer(Answer::Written { executed, sequence }) => {
                    self.inner.saw(sequence);
                    self.inner.leader.store(place, Ordering::Relaxed);
                    return Ok(executed.into_iter().map(executed_of).collect());
                }
                // The first request may still be under way.
                Asked::Answer(Answer::Failed {
                    kind: FailureKind::Timeout,
                    text,
                }) if may_have_happened => text,
                Asked::Answer(Answer::Failed { kind, text }) => {
                    return Err(self.failed(WHAT, kind.error_kind(), &text));
                }
                Asked::Answer(Answer::Forgotten { sequence }) => {
                    self.inner.saw(sequence);
                    if may_have_happened {
                        let why = "the cluster has forgotten its key".to_owned();
                        attempts.push(Attempt {
                            node: self.inner.nodes.at(place).address.clone(),
                            why,
                        });
                        return Err(self.outcome_unknown(&attempts));
                    }
                    // It has not been executed, and never is with this key.
                    if Instant::now() >= deadline {
                        break;
                    }
                    (write.key, write.made_at) = (new_key()?, self.inner.sequence());
                    request = Request::Write(write.clone());
                    continue;
                }
                Asked::Answer(Answer::NotLeader { leader }) => {
                    route.hint = self.inner.place_of(leader, place, deadline).await;
                    not_leader(leader)
                }
                Asked::Answer(Answer::Unknown { text }) => {
                    may_have_happened = true;
                    text
                }
                Asked::Answer(_) => {
                    may_have_happened = true;
                    "it answered something else".to_owned()
                }
                Asked::NoAnswer(why) => {
                    may_have_happened = true;
                    why
                }
                Asked::NotSent(why) => why,
            };
            attempts.push(Attempt {
                node: self.inner.nodes.at(place).address.clone(),
                why,
            });
            if !route.advance(&self.inner.nodes, deadline).await {
                break;
            }
        }
        Err(match may_have_happened {
            true => self.outcome_unknown(&attempts),
            false => self.not_reached(WHAT, &attempts),
        })
    }

    async fn read(&self, statement: Statement) -> Result<RowSet> {
        const WHAT: &str = "query";
        let deadline = deadline_after(self.timeout);
        let may_be_stale = self.may_be_stale;
        let mut request = self.checked(Request::Read(Read {
            statement,
            may_be_stale,
            within: u32::MAX,
        }))?;
        let mut attempts = Vec::new();
        let mut route = self.inner.route();
        loop {
            let place = route.place;
            if let Request::Read(read) = &mut request {
                read.within = milliseconds(deadline);
            }
            let why = match self.inner.ask(place, &request, deadline).await {
                Asked::Answer(Answer::Rows { columns, rows }) => {
                    if !may_be_stale {
                        self.inner.leader.store(place, Ordering::Relaxed);
                    }
                    let rows = wire::row_set(columns, rows);
                    let text = "a row of the answer has another number of values";
                    return rows.ok_or_else(|| self.failed(WHAT, ErrorKind::Io, text));
                }
                Asked::Answer(Answer::Failed { kind, text }) => {
                    return Err(self.failed(WHAT, kind.error_kind(), &text));
                }
                Asked::Answer(Answer::NotLeader { leader }) => {
                    route.hint = self.inner.place_of(leader, place, deadline).await;
                    not_leader(leader)
                }
                Asked::Answer(_) => "it answered something else".to_owned(),
                Asked::NoAnswer(why) | Asked::NotSent(why) => why,
            };
            attempts.push(Attempt {
                node: self.inner.nodes.at(place).address.clone(),
                why,
            });
            if !route.advance(&self.inner.nodes, deadline).await {
                break;
            }
        }
        Err(self.not_reached(WHAT, &attempts))
    }

    /// Returns what each node says of itself and of the cluster, in the order of the addresses. Nodes of which
    /// another one tells follow.
    pub(crate) async fn statuses(&self) -> Vec<(String, Result<NodeStatus, String>)> {
        let deadline = deadline_after(self.timeout);
        let mut statuses = Vec::new();
        while statuses.len() < self.inner.nodes.len() {
            let place = statuses.len();
            let status = match self.inner.ask(place, &Request::Status, deadline).await {
                Asked::Answer(Answer::Status(status)) => Ok(status),
                Asked::Answer(Answer::Failed { text, .. }) => Err(text),
                Asked::Answer(_) => Err("it answered something else".to_owned()),
                Asked::NotSent(why) | Asked::NoAnswer(why) => Err(why),
            };
            if let Ok(status) = &status {
                self.inner.learn(status);
            }
            statuses.push((self.inner.nodes.at(place).address.clone(), status));
        }
        statuses
    }

    /// Refuses a request that is too long for a node.
    fn checked(&self, request: Request) -> Result<Request> {
        match wire::encode(&request, REQUEST_MAX) {
            Ok(_) => Ok(request),
            Err(_) => {
                let text = format!(
                    "its statements and values have more than {} MiB together: nothing was sent: \
                     split it into several calls",
                    REQUEST_MAX >> 20
                );
                Err(self.failed("send to cluster", ErrorKind::Refused, &text))
            }
        }
    }

    fn failed(&self, what: &str, kind: ErrorKind, text: &str) -> Error {
        let text = format!("{what}: {}: {text}", self.inner.address);
        Error::of_engine(kind, text)
    }

    fn not_reached(&self, what: &str, attempts: &[Attempt]) -> Error {
        let mut text = format!(
            "{what}: {}: no node that leads answered within {}: nothing was written",
            self.inner.address,
            seconds(self.timeout)
        );
        list(&mut text, attempts);
        text.push_str("\n  try again, or look at `penholder status` of the same address");
        Error::of_engine(ErrorKind::Timeout, text)
    }

    fn outcome_unknown(&self, attempts: &[Attempt]) -> Error {
        let mut text = format!(
            "write: {}: it is not known whether it was written: the cluster did not confirm it within {}",
            self.inner.address,
            seconds(self.timeout)
        );
        list(&mut text, attempts);
        text.push_str(
            "\n  it happens once or not at all: look at the data before you write it again",
        );
        Error::of_engine(ErrorKind::OutcomeUnknown, text)
    }
}

impl Inner {
    /// Returns where a call begins: at the node that led when it was last known, unless that is silent.
    fn route(&self) -> Route {
        let leader = self.leader.load(Ordering::Relaxed);
        Route::from(match self.nodes.at(leader).silence.may_ask() {
            true => leader,
            false => self.nodes.after(leader),
        })
    }

    /// Asks one node. It is waited for until the deadline, and no longer than [`ONE_NODE`].
    async fn ask(&self, place: usize, request: &Request, deadline: Instant) -> Asked {
        let mut connection = match self.connection(place, deadline).await {
            Ok(connection) => connection,
            Err(error) => return Asked::NotSent(error.why()),
        };
        match exchange(&mut connection.stream, request, deadline).await {
            Ok(answer) => {
                self.nodes.at(place).silence.end();
                self.keep(place, connection);
                Asked::Answer(answer)
            }
            Err(error) => {
                // The others may have been opened before a node was started again, too.
                self.idle().remove(&place);
                if matches!(error, ExchangeError::Silent) {
                    self.nodes.at(place).silence.begin();
                }
                Asked::NoAnswer(error.why())
            }
        }
    }

    /// Returns an idle connection to a node, or opens one.
    async fn connection(
        &self,
        place: usize,
        deadline: Instant,
    ) -> Result<Connection, ConnectError> {
        while let Some(idle) = self.idle().get_mut(&place).and_then(Vec::pop) {
            if idle.used.elapsed() < IDLE {
                return Ok(idle);
            }
        }
        let until = deadline.min(Instant::now() + ONE_CONNECTION).into();
        match timeout_at(until, self.open(place)).await {
            Ok(opened) => {
                self.nodes.at(place).silence.end();
                opened
            }
            Err(_) => {
                // One with a deadline that is shorter learns nothing of the node.
                if Instant::now() < deadline {
                    self.nodes.at(place).silence.begin();
                }
                Err(ConnectError::Silent)
            }
        }
    }

    async fn open(&self, place: usize) -> Result<Connection, ConnectError> {
        let failed = |error: io::Error| match is_certificate(&error) {
            true => ConnectError::Refused(format!(
                "{error}: its certificate is not of the authority in ca.pem: copy that of this cluster"
            )),
            false => ConnectError::Failed(error.to_string()),
        };
        let mut stream = self
            .connector
            .connect(&self.nodes.at(place).address)
            .await
            .map_err(failed)?;
        let hello = Hello {
            version: wire::VERSION,
            token: self.token.clone(),
        };
        wire::send(&mut stream, &hello, HELLO_MAX)
            .await
            .map_err(failed)?;
        match wire::receive(&mut stream, ANSWER_MAX)
            .await
            .map_err(failed)?
        {
            Some(Welcome::Ready { node, sequence }) => {
                self.saw(sequence);
                self.nodes.note(node, place);
                Ok(Connection {
                    stream,
                    used: Instant::now(),
                })
            }
            Some(Welcome::Refused(why)) => Err(ConnectError::Refused(why)),
            None => Err(ConnectError::Failed("it closed the connection".to_owned())),
        }
    }

    fn keep(&self, place: usize, mut connection: Connection) {
        connection.used = Instant::now();
        let mut idle = self.idle();
        let idle = idle.entry(place).or_default();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the place of the node that leads, as the node at another place says. If that names none, or one
    /// that is not known, it is asked which nodes there are.
    async fn place_of(&self, leader: Option<u64>, at: usize, deadline: Instant) -> Option<usize> {
        let known = |leader: Option<u64>| self.nodes.place_of(leader?);
        if known(leader).is_none()
            && let Asked::Answer(Answer::Status(status)) =
                self.ask(at, &Request::Status, deadline).await
        {
            self.learn(&status);
        }
        known(leader)
    }

    /// Adds the nodes of which another one tells.
    fn learn(&self, status: &NodeStatus) {
        for member in &status.members {
            if let Some(client) = &member.client {
                self.nodes.learn(member.id, client);
            }
        }
    }

    fn sequence(&self) -> Sequence {
        Sequence(self.sequence.load(Ordering::SeqCst))
    }

    fn saw(&self, Sequence(sequence): Sequence) {
        self.sequence.fetch_max(sequence, Ordering::SeqCst);
    }
}

impl Route {
    fn from(place: usize) -> Self {
        Self {
            place,
            hint: None,
            has_followed: false,
            pause: PAUSES[0],
        }
    }

    /// Goes to the next node: at once to one that is said to lead, and otherwise after a pause to each
    /// in turn, except those that are silent. `false` if the deadline passes.
    async fn advance(&mut self, nodes: &Nodes, deadline: Instant) -> bool {
        let hint = self.hint.take().filter(|&hint| {
            hint != self.place && !self.has_followed && nodes.at(hint).silence.may_ask()
        });
        self.has_followed = hint.is_some();
        if let Some(hint) = hint {
            self.place = hint;
            return Instant::now() < deadline;
        }
        self.place = nodes.after(self.place);
        rest(&mut self.pause, deadline).await
    }
}

/// Why there is no connection.
enum ConnectError {
    /// For the moment, perhaps.
    Failed(String),
    /// The node, or this client, does not want it.
    Refused(String),
    /// The node did not take it in time.
    Silent,
}

impl ConnectError {
    fn why(self) -> String {
        match self {
            Self::Failed(why) | Self::Refused(why) => why,
            Self::Silent => "it does not take a connection".to_owned(),
        }
    }
}

/// Why there is no answer.
enum ExchangeError {
    Failed(String),
    /// The node was silent for [`ONE_NODE`].
    Silent,
}

impl ExchangeError {
    fn why(self) -> String {
        match self {
            Self::Failed(why) => why,
            Self::Silent => "it did not answer".to_owned(),
        }
    }
}

/// Without the token.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Inner");
        debug
            .field("address", &self.address)
            .field("nodes", &self.nodes);
        debug.finish_non_exhaustive()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Store for Cluster {
    async fn execute(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> Result<Executed> {
        let statement = Statement::of(Query::new(sql, params))?;
        let executed = self.write(vec![statement]).await?;
        let text = "the answer has no result";
        let first = executed.into_iter().next();
        first.ok_or_else(|| self.failed("write", ErrorKind::OutcomeUnknown, text))
    }

    async fn batch<Q: Into<Query>>(
        &self,
        queries: impl IntoIterator<Item = Q> + Send,
    ) -> Result<Vec<Executed>> {
        let statements: Result<Vec<_>> = queries
            .into_iter()
            .map(|query| Statement::of(query.into()))
            .collect();
        let statements = statements?;
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        self.write(statements).await
    }

    async fn query(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> Result<RowSet> {
        let statement = Statement::of(Query::new(sql, params))?;
        self.read(statement).await
    }

    async fn migrate(&self, steps: &[&str]) -> Result<Migrated> {
        migration::migrate(self, steps).await
    }
}

/// Sends a request and waits for its answer until the deadline, as long as the node says that it is at
/// work.
async fn exchange(
    stream: &mut Box<dyn Stream>,
    request: &Request,
    deadline: Instant,
) -> Result<Answer, ExchangeError> {
    let until = || deadline.min(Instant::now() + ONE_NODE).into();
    let failed = |error: io::Error| ExchangeError::Failed(error.to_string());
    let slow = |error: io::Error| match error.kind() {
        io::ErrorKind::TimedOut => ExchangeError::Silent,
        _ => failed(error),
    };
    let late = |_| match Instant::now() < deadline {
        true => ExchangeError::Silent,
        false => ExchangeError::Failed("it did not answer in time".to_owned()),
    };
    let sent = timeout_at(until(), wire::send(stream, request, REQUEST_MAX)).await;
    sent.map_err(late)?.map_err(failed)?;
    loop {
        // A long answer may take its time, as long as something of it comes.
        let received = timeout_at(
            deadline.into(),
            wire::receive_within(stream, ANSWER_MAX, ONE_NODE),
        );
        match received.await.map_err(late)?.map_err(slow)? {
            Some(Answer::Working) => {}
            Some(answer) => return Ok(answer),
            None => {
                let why = "it closed the connection".to_owned();
                return Err(ExchangeError::Failed(why));
            }
        }
    }
}

/// Waits before all is tried again; `false` if the deadline passes.
async fn rest(pause: &mut Duration, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    if left <= *pause {
        sleep(left).await;
        return false;
    }
    sleep(*pause).await;
    *pause = (*pause * 2).min(PAUSES[1]);
    true
}

/// Returns when a call ends that waits this long; a year is as good as for ever.
fn deadline_after(timeout: Duration) -> Instant {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + timeout.min(LONGEST)
}

/// Returns a key that no other write has.
fn new_key() -> Result<Key> {
    Key::random().map_err(|error| {
        let text = format!("write: {error}: nothing was sent: try again");
        Error::of_engine(ErrorKind::Io, text)
    })
}

fn executed_of(executed: WireExecuted) -> Executed {
    let mut result = Executed::default();
    result.rows_changed = executed.rows_changed;
    result.last_insert_rowid = executed.last_insert_rowid;
    result
}

fn milliseconds(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now());
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
}

fn not_leader(leader: Option<u64>) -> String {
    match leader {
        Some(leader) => format!("it does not lead; it says that node {leader} does"),
        None => "it does not lead, and knows of no leader".to_owned(),
    }
}

fn is_certificate(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

/// Lists the last attempts, each node's once.
fn list(text: &mut String, attempts: &[Attempt]) {
    let mut listed: Vec<&Attempt> = Vec::new();
    for attempt in attempts.iter().rev() {
        let is_known = |known: &&Attempt| known.node == attempt.node && known.why == attempt.why;
        if listed.len() < LISTED && !listed.iter().any(is_known) {
            listed.push(attempt);
        }
    }
    for attempt in listed.into_iter().rev() {
        let _ = write!(text, "\n  {}: {}", attempt.node, attempt.why);
    }
}

fn seconds(time: Duration) -> String {
    format!("{time:?}")
}
