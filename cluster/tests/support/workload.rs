//! Writers under faults, what they know of their writes, and the check of that.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use penholder::{Result, Store, StoreExt, Value};
use penholder_cluster::{Cluster, DEFAULT_TIMEOUT};
use tokio::task::JoinHandle;

use super::{LIMIT, TestCluster};

/// The table into which writers write.
pub const TABLE: &str = "CREATE TABLE entry(writer INTEGER, number INTEGER, bytes BLOB)";
/// How many rows are read at once to compare tables.
const PAGE: i64 = 2000;

/// Writers, until they are checked.
pub struct Workload {
    writers: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    outcomes: Arc<Outcomes>,
}

/// What writers know of their writes.
#[derive(Default)]
struct Outcomes {
    /// Writer and number.
    acknowledged: Mutex<HashMap<(i64, i64), bool>>,
    unknown: AtomicU64,
    /// Those that were said not to be written.
    failed: Mutex<Vec<(i64, i64)>>,
    pauses: Mutex<Pauses>,
}

/// How long no write of any writer was acknowledged.
#[derive(Default)]
struct Pauses {
    last: Option<Instant>,
    /// What the writers are under now, and the longest pause under it.
    now: Option<(String, Duration)>,
    /// The longest pause of each time that something happened.
    longest: BTreeMap<String, Vec<Duration>>,
}

impl Workload {
    /// Starts writers, each of which writes rows with this number of bytes.
    pub fn start(client: &Cluster, writers: i64, bytes: usize) -> Self {
        let (is_over, outcomes) = (Arc::default(), Arc::default());
        let client = client.with_timeout(DEFAULT_TIMEOUT);
        let write = |writer| {
            let (client, is_over, outcomes) =
                (client.clone(), Arc::clone(&is_over), Arc::clone(&outcomes));
            tokio::spawn(write(client, writer, bytes, is_over, outcomes))
        };
        let writers = (0..writers).map(write).collect();
        Self {
            writers,
            is_over,
            outcomes,
        }
    }

    /// Says what happens from now on: pauses are listed by it.
    pub fn under(&self, what: &str) {
        self.outcomes.pauses.lock().unwrap().begin(what);
    }

    /// Waits until this many more writes are acknowledged.
    pub async fn wait_for(&self, more: usize) {
        let acknowledged = || self.outcomes.acknowledged.lock().unwrap().len();
        let (begun, before) = (Instant::now(), acknowledged());
        while acknowledged() < before + more {
            let passed = begun.elapsed();
            assert!(
                passed < LIMIT,
                "{} of {more} writes",
                acknowledged() - before
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for this long, in which writes have to be acknowledged.
    pub async fn goes_on_for(&self, time: Duration) {
        let acknowledged = || self.outcomes.acknowledged.lock().unwrap().len();
        let before = acknowledged();
        tokio::time::sleep(time).await;
        assert!(acknowledged() > before + 20, "nothing went on for {time:?}");
    }

    /// Ends the writers, and checks that each acknowledged write is on all nodes, none is twice, and none of
    /// those that were said not to be written; and that all nodes have the same tables.
    pub async fn check(self, cluster: &TestCluster) {
        self.is_over.store(true, Ordering::SeqCst);
        for writer in self.writers {
            writer.await.unwrap();
        }
        let found = rows_of(cluster).await;
        let outcomes = &self.outcomes;
        let acknowledged = outcomes.acknowledged.lock().unwrap().clone();
        for key in acknowledged.keys() {
            let lost = "was acknowledged and is lost";
            assert!(found.contains_key(key), "{key:?} {lost}");
        }
        let failed = outcomes.failed.lock().unwrap().clone();
        for key in &failed {
            let written = "was said not to be written";
            assert!(!found.contains_key(key), "{key:?} {written}");
        }
        let unknown = outcomes.unknown.load(Ordering::SeqCst);
        let more = found.len() - acknowledged.len();
        let text = "rows of writes whose outcome is unknown";
        assert!(more as u64 <= unknown, "{more} {text}: {unknown}");
        let hash = same_hash_on_all(cluster).await;
        eprintln!(
            "{} acknowledged, {unknown} unknown of which {more} are written, {} not written; all nodes have the same tables ({hash:016x})",
            acknowledged.len(),
            failed.len(),
        );
        eprint!("{}", outcomes.pauses.lock().unwrap().text());
    }
}

async fn write(
    client: Cluster,
    writer: i64,
    bytes: usize,
    is_over: Arc<AtomicBool>,
    outcomes: Arc<Outcomes>,
) {
    for number in 0.. {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let insert = "INSERT INTO entry(writer, number, bytes) VALUES (?1, ?2, ?3)";
        let values = (writer, number, vec![7_u8; bytes]);
        match client.execute(insert, values).await {
            Ok(done) => {
                assert_eq!(done.rows_changed, 1);
                outcomes.acknowledge(writer, number);
                if number % 4 == 0 {
                    assert_is_read(&client, writer, number).await;
                }
            }
            Err(error) if error.is_outcome_unknown() => {
                outcomes.unknown.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) if error.is_timeout() => {
                outcomes.failed.lock().unwrap().push((writer, number));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Asserts that a write that was acknowledged is read, whichever node leads by now.
async fn assert_is_read(client: &Cluster, writer: i64, number: i64) {
    let count = "SELECT count(*) FROM entry WHERE writer = ?1 AND number = ?2";
    match client.query_scalar::<i64>(count, (writer, number)).await {
        Ok(count) => assert_eq!(count, 1, "writer {writer}, number {number} is not read"),
        Err(error) => assert!(error.is_timeout(), "{error}"),
    }
}

impl Outcomes {
    fn acknowledge(&self, writer: i64, number: i64) {
        self.pauses.lock().unwrap().end();
        let mut acknowledged = self.acknowledged.lock().unwrap();
        assert_eq!(acknowledged.insert((writer, number), true), None);
    }
}

impl Pauses {
    fn begin(&mut self, what: &str) {
        self.finish();
        self.now = Some((what.to_owned(), Duration::ZERO));
    }

    fn end(&mut self) {
        let now = Instant::now();
        if let (Some(last), Some((_, longest))) = (self.last, &mut self.now) {
            *longest = (*longest).max(now - last);
        }
        self.last = Some(now);
    }

    fn finish(&mut self) {
        if let Some((what, longest)) = self.now.take() {
            self.longest.entry(what).or_default().push(longest);
        }
    }

    /// A line for each thing that happened.
    fn text(&mut self) -> String {
        self.finish();
        let mut text = String::new();
        for (what, pauses) in &mut self.longest {
            pauses.sort();
            let median = pauses[pauses.len() / 2].as_secs_f64();
            let longest = pauses[pauses.len() - 1].as_secs_f64();
            text += &format!(
                "  {what}, {} times: writes pause for {median:.1} s in the median, {longest:.1} s at most\n",
                pauses.len()
            );
        }
        text
    }
}

/// Returns the writes that are on all nodes, each of which is there once.
async fn rows_of(cluster: &TestCluster) -> HashMap<(i64, i64), i64> {
    let rows = cluster
        .same_on_all("SELECT writer, number, count(*) FROM entry GROUP BY 1, 2 ORDER BY 1, 2")
        .await;
    let mut found = HashMap::new();
    for row in &rows {
        let [
            Value::Integer(writer),
            Value::Integer(number),
            Value::Integer(times),
        ] = row[..]
        else {
            panic!("{row:?}");
        };
        assert_eq!(times, 1, "writer {writer}, number {number}");
        found.insert((writer, number), times);
    }
    found
}

/// Waits until all nodes have the same rows, also in the table of the keys, and returns their hash.
async fn same_hash_on_all(cluster: &TestCluster) -> u64 {
    let begun = Instant::now();
    loop {
        let mut hashes = Vec::new();
        for id in 1..=cluster.count() {
            let client = cluster.client_of(id).await;
            hashes.push(hash_of(&client).await.map_err(|error| error.to_string()));
        }
        if let [Ok(first), rest @ ..] = &hashes[..]
            && rest.iter().all(|hash| hash.as_ref() == Ok(first))
        {
            return *first;
        }
        assert!(begun.elapsed() < LIMIT, "the nodes differ: {hashes:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Hashes all rows of one node, with their rowids.
async fn hash_of(client: &Cluster) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for table in ["entry", "_penholder_write"] {
        let page =
            format!("SELECT rowid, * FROM {table} WHERE rowid > ?1 ORDER BY rowid LIMIT {PAGE}");
        let mut last = 0;
        loop {
            let rows = client.query(page.as_str(), [last]).await?;
            for row in &rows {
                last = row.get(0)?;
                for value in row.values() {
                    hash(value, &mut hasher);
                }
            }
            if rows.is_empty() {
                break;
            }
        }
    }
    Ok(hasher.finish())
}

fn hash(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => 0.hash(hasher),
        Value::Integer(value) => value.hash(hasher),
        Value::Real(value) => value.to_bits().hash(hasher),
        Value::Text(text) => text.hash(hasher),
        Value::Blob(bytes) => bytes.hash(hasher),
    }
}
