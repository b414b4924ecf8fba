//! Whether reads and writes of registers are linearizable under faults, and whether the checker would tell.
#![cfg(test)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use penholder_cluster::Cluster;
use support::history::{History, REGISTERS};
use support::linearizability::{Action, Operation, Verdict, check};
use support::network::Network;
use support::{TestCluster, number};
use tokio::task::JoinHandle;

/// How many clients read and write.
const CLIENTS: i64 = 6;
/// How long their calls wait: less than an election takes, so that some outcomes are unknown.
const TIMEOUT: Duration = Duration::from_secs(3);

fn operation(action: Action, begin: u64, end: impl Into<Option<u64>>) -> Operation {
    Operation {
        register: 1,
        action,
        begin,
        end: end.into(),
    }
}

fn read(value: i64, begin: u64, end: u64) -> Operation {
    operation(Action::Read(value), begin, end)
}

fn write(value: i64, begin: u64, end: impl Into<Option<u64>>) -> Operation {
    operation(Action::Write(value), begin, end)
}

fn compare_and_set(
    old: i64,
    new: i64,
    was_set: impl Into<Option<bool>>,
    begin: u64,
    end: impl Into<Option<u64>>,
) -> Operation {
    let was_set = was_set.into();
    operation(Action::CompareAndSet { old, new, was_set }, begin, end)
}

fn is_refused(history: &[Operation]) -> bool {
    matches!(check(history), Verdict::Refused(_))
}

#[test]
fn histories_that_one_register_explains_are_accepted() {
    let accepted: [&[Operation]; 9] = [
        &[],
        &[read(0, 0, 1), write(1, 2, 3), read(1, 4, 5)],
        // Both orders while they overlap.
        &[write(1, 0, 9), read(0, 1, 2), read(1, 3, 4)],
        &[write(1, 0, 9), write(2, 1, 8), read(1, 10, 11)],
        &[write(1, 0, 9), write(2, 1, 8), read(2, 10, 11)],
        // An unknown write happens never, at once, or late.
        &[write(1, 0, None), read(0, 1, 2), read(0, 3, 4)],
        &[
            write(1, 0, None),
            read(0, 1, 2),
            write(2, 3, 4),
            read(2, 5, 6),
            read(1, 7, 8),
        ],
        &[
            write(1, 0, 1),
            compare_and_set(1, 2, true, 2, 3),
            compare_and_set(1, 3, false, 4, 5),
            read(2, 6, 7),
        ],
        // What failed did so because of a write that is unknown.
        &[
            write(1, 0, None),
            compare_and_set(0, 2, false, 1, 2),
            compare_and_set(1, 3, None, 3, None),
            read(3, 4, 5),
        ],
    ];
    for history in accepted {
        assert_eq!(check(history), Verdict::Linearizable, "{history:?}");
    }
}

#[test]
fn histories_that_no_register_explains_are_refused() {
    let refused: [(&str, &[Operation]); 10] = [
        ("a stale read", &[write(1, 0, 1), read(0, 2, 3)]),
        (
            "a value that nobody wrote",
            &[write(1, 0, 1), read(2, 2, 3)],
        ),
        (
            "a lost write",
            &[write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
        ),
        (
            "a write that happened twice",
            &[write(1, 0, 1), write(2, 2, 3), read(2, 4, 5), read(1, 6, 7)],
        ),
        (
            "an unknown write that happened twice",
            &[
                write(1, 0, None),
                read(1, 1, 2),
                write(2, 3, 4),
                read(2, 5, 6),
                read(1, 7, 8),
            ],
        ),
        (
            "a read before the write began",
            &[read(1, 0, 1), write(1, 2, 3)],
        ),
        (
            "time that runs backwards",
            &[write(1, 0, 9), read(1, 1, 2), read(0, 3, 4)],
        ),
        (
            "two that set the same",
            &[
                compare_and_set(0, 1, true, 0, 9),
                compare_and_set(0, 2, true, 1, 8),
            ],
        ),
        (
            "one that failed without a reason",
            &[write(1, 0, 1), compare_and_set(1, 2, false, 2, 3)],
        ),
        (
            "one that did not fail and has no effect",
            &[compare_and_set(0, 1, true, 0, 1), read(0, 2, 3)],
        ),
    ];
    for (what, history) in refused {
        assert!(is_refused(history), "{what}: {history:?}");
    }
}

#[test]
fn each_register_is_checked_by_itself() {
    let other = |mut operation: Operation| {
        operation.register = 2;
        operation
    };
    let fine = [write(1, 0, 1), other(read(0, 2, 3)), read(1, 4, 5)];
    assert_eq!(check(&fine), Verdict::Linearizable);
    let stale = [other(write(1, 0, 1)), read(0, 2, 3), other(read(0, 4, 5))];
    assert_eq!(check(&stale), Verdict::Refused(stale[2]));
}

#[test]
fn a_long_history_with_many_unknown_outcomes_is_decided() {
    let mut history = Vec::new();
    let mut time = 0;
    for value in 1..2000 {
        let mut next = || {
            time += 1;
            time
        };
        match value % 10 {
            0 => history.push(write(value, next(), None)),
            1 => history.push(compare_and_set(value - 10, value, None, next(), None)),
            _ => {
                history.push(write(value, next(), next()));
                history.push(read(value, next(), next()));
            }
        }
    }
    assert_eq!(check(&history), Verdict::Linearizable);
    history.push(read(1998, time + 1, time + 2));
    assert!(is_refused(&history));
}

/// Clients that read and write registers.
struct Clients {
    history: Arc<History>,
    tasks: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl Clients {
    async fn start(cluster: &TestCluster) -> Self {
        let history = History::begin(&cluster.client().await).await;
        let is_over = Arc::default();
        let mut tasks = Vec::new();
        for seed in 0..CLIENTS {
            // Connections and what it knows of the nodes are its own.
            let client = cluster.client().await.with_timeout(TIMEOUT);
            tasks.push(history.start(client, seed, &is_over));
        }
        Self {
            history,
            tasks,
            is_over,
        }
    }

    async fn end(self, under: &str) {
        self.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.history.assert_linearizable(under);
    }
}

/// Goes on for a while, in which clients read and write.
async fn a_while() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_writes_are_linearizable_while_nodes_are_killed_and_stopped() {
    let mut cluster = TestCluster::started(3);
    cluster.wait_for_voters();
    let clients = Clients::start(&cluster).await;
    for _ in 0..number("PENHOLDER_TEST_HISTORIES", 1) {
        a_while().await;
        let leader = cluster.leader();
        cluster.kill(leader);
        cluster.leader();
        cluster.start(leader);
        let leader = cluster.leader();
        a_while().await;
        cluster.signal(leader, "STOP");
        cluster.leader_instead_of(leader);
        a_while().await;
        cluster.signal(leader, "CONT");
        let follower = cluster.leader() % 3 + 1;
        a_while().await;
        cluster.signal(follower, "STOP");
        a_while().await;
        cluster.signal(follower, "CONT");
    }
    a_while().await;
    clients.end("kills and stops").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_writes_are_linearizable_across_partitions() {
    let Some(network) = Network::new(3) else {
        return;
    };
    let cluster = TestCluster::started_in(network, 3);
    cluster.wait_for_voters();
    let clients = Clients::start(&cluster).await;
    let network = cluster.network.as_ref().unwrap();
    for _ in 0..number("PENHOLDER_TEST_HISTORIES", 1) {
        a_while().await;
        let leader = cluster.leader();
        let others = [leader % 3 + 1, (leader + 1) % 3 + 1];
        network.separate(leader, &others);
        cluster.leader_instead_of(leader);
        a_while().await;
        network.rejoin(leader, &others);
        let leader = cluster.leader();
        a_while().await;
        network.unplug(leader);
        cluster.leader_instead_of(leader);
        a_while().await;
        network.plug(leader);
        let leader = cluster.leader();
        // The leader reaches a majority, and so does the third node.
        network.separate(leader, &[leader % 3 + 1]);
        a_while().await;
        network.rejoin(leader, &[leader % 3 + 1]);
    }
    a_while().await;
    clients.end("partitions").await;
}

/// The checker would tell: reads that may be stale, of a node that is cut off, are refused.
#[tokio::test(flavor = "multi_thread")]
async fn stale_reads_of_a_node_that_is_cut_off_are_refused() {
    let Some(network) = Network::new(3) else {
        return;
    };
    let cluster = TestCluster::started_in(network, 3);
    cluster.wait_for_voters();
    let client = cluster.client().await;
    let history = History::begin(&client).await;
    let leader = cluster.leader();
    let follower = leader % 3 + 1;
    let stale: Cluster = cluster.client_of(follower).await;
    cluster.same_on_all("SELECT count(*) FROM register").await;
    let network = cluster.network.as_ref().unwrap();
    network.separate(follower, &[leader, 6 - leader - follower]);
    for register in 0..REGISTERS {
        history.write(&client, register).await;
        history.read(&client, register).await;
    }
    history.assert_linearizable("a follower that is cut off");
    assert_eq!(history.read(&stale, 0).await, Some(0));
    assert!(is_refused(&history.operations()));
}
