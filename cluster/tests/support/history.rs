//! A history of reads and writes of registers in a cluster, as it is recorded under faults.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use penholder::{Error, Store, StoreExt};
use penholder_cluster::Cluster;
use tokio::task::JoinHandle;

use super::linearizability::{Action, Operation, Verdict, check};

/// How many registers there are: few, so that clients meet in each.
pub const REGISTERS: i64 = 5;
/// The pause of a client between two operations.
const PAUSE: Duration = Duration::from_millis(15);

/// What clients did.
#[derive(Default)]
pub struct History {
    /// Counts the begins and ends.
    clock: AtomicU64,
    /// The last value that was written: each is another one.
    values: AtomicI64,
    operations: Mutex<Vec<Operation>>,
    /// How many are said not to have been executed.
    failed: AtomicU64,
}

impl History {
    /// Creates the registers.
    pub async fn begin(client: &Cluster) -> Arc<Self> {
        let create = "CREATE TABLE register(k INTEGER PRIMARY KEY, v INTEGER NOT NULL)";
        client.execute(create, ()).await.unwrap();
        for register in 0..REGISTERS {
            let insert = "INSERT INTO register VALUES (?1, 0)";
            client.execute(insert, [register]).await.unwrap();
        }
        Arc::default()
    }

    /// Starts a client that reads, writes, and compares and sets, one after another.
    pub fn start(
        self: &Arc<Self>,
        client: Cluster,
        seed: i64,
        is_over: &Arc<AtomicBool>,
    ) -> JoinHandle<()> {
        let (history, is_over) = (Arc::clone(self), Arc::clone(is_over));
        tokio::spawn(async move {
            let mut random = seed;
            let mut last_read = HashMap::new();
            while !is_over.load(Ordering::SeqCst) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let register = (random >> 33).rem_euclid(REGISTERS);
                let known = last_read.entry(register).or_insert(0);
                match (random >> 59).rem_euclid(4) {
                    0 => history.write(&client, register).await,
                    1 => history.compare_and_set(&client, register, *known).await,
                    _ => *known = history.read(&client, register).await.unwrap_or(*known),
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
    }

    /// Reads a register.
    pub async fn read(&self, client: &Cluster, register: i64) -> Option<i64> {
        let begin = self.now();
        let select = "SELECT v FROM register WHERE k = ?1";
        match client.query_scalar(select, [register]).await {
            Ok(value) => {
                self.note(register, Action::Read(value), begin, true);
                Some(value)
            }
            Err(error) => {
                self.note_error(&error, None);
                None
            }
        }
    }

    /// Writes a new value.
    pub async fn write(&self, client: &Cluster, register: i64) {
        let (begin, new) = (self.now(), self.new_value());
        let update = "UPDATE register SET v = ?1 WHERE k = ?2";
        let action = Action::Write(new);
        match client.execute(update, (new, register)).await {
            Ok(done) => {
                assert_eq!(done.rows_changed, 1);
                self.note(register, action, begin, true);
            }
            Err(error) => self.note_error(&error, Some((register, action, begin))),
        }
    }

    /// Writes a new value if the register has this one.
    pub async fn compare_and_set(&self, client: &Cluster, register: i64, old: i64) {
        let (begin, new) = (self.now(), self.new_value());
        let update = "UPDATE register SET v = ?1 WHERE k = ?2 AND v = ?3";
        let action = |was_set| Action::CompareAndSet { old, new, was_set };
        match client.execute(update, (new, register, old)).await {
            Ok(done) => {
                let was_set = Some(done.rows_changed == 1);
                self.note(register, action(was_set), begin, true);
            }
            Err(error) => self.note_error(&error, Some((register, action(None), begin))),
        }
    }

    /// Returns what is recorded.
    pub fn operations(&self) -> Vec<Operation> {
        self.operations.lock().unwrap().clone()
    }

    /// Asserts that the history is linearizable, and prints how long it is.
    pub fn assert_linearizable(&self, under: &str) {
        let operations = self.operations();
        let unknown = operations.iter().filter(|one| one.end.is_none()).count();
        let verdict = check(&operations);
        if let Verdict::Refused(refused) = verdict {
            let near = |one: &&Operation| {
                let end = one.end.unwrap_or(u64::MAX);
                one.register == refused.register
                    && end + 100 > refused.begin
                    && one.begin < refused.end.unwrap_or(u64::MAX)
            };
            let near: Vec<_> = operations.iter().filter(near).collect();
            panic!("{under}: no order explains {refused:?} among {near:#?}");
        }
        assert_eq!(verdict, Verdict::Linearizable, "{under}");
        assert!(operations.len() > unknown, "{under}: nothing is known");
        eprintln!(
            "{under}: {} operations are linearizable, of which {unknown} have an unknown outcome; {} more were not executed",
            operations.len(),
            self.failed.load(Ordering::SeqCst)
        );
    }

    /// A read that fails, and a write that is said not to have been executed, say nothing of a register.
    fn note_error(&self, error: &Error, write: Option<(i64, Action, u64)>) {
        match write {
            Some((register, action, begin)) if error.is_outcome_unknown() => {
                self.note(register, action, begin, false);
            }
            _ => {
                assert!(error.is_timeout(), "{error}");
                self.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn note(&self, register: i64, action: Action, begin: u64, is_known: bool) {
        let end = is_known.then(|| self.now());
        let operation = Operation {
            register,
            action,
            begin,
            end,
        };
        self.operations.lock().unwrap().push(operation);
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn new_value(&self) -> i64 {
        self.values.fetch_add(1, Ordering::SeqCst) + 1
    }
}
