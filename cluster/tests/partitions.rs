//! Nodes that do not reach each other, or by a slow link. Needs root, for network namespaces.
#![cfg(test)]

mod support;

use std::time::{Duration, Instant};

use penholder::Store;
use penholder_cluster::Cluster;
use support::network::Network;
use support::workload::{TABLE, Workload};
use support::{TestCluster, number, until};

/// How long a partition lasts at least: longer than an election takes.
const LONG: Duration = Duration::from_secs(8);

/// Three nodes in a network, and writers.
struct Setting {
    cluster: TestCluster,
    workload: Workload,
    client: Cluster,
}

impl Setting {
    /// Starts them; `None` if there are no network namespaces.
    async fn begin(bytes: usize) -> Option<Self> {
        let cluster = TestCluster::started_in(Network::new(3)?, 3);
        let client = cluster.client().await;
        client.execute(TABLE, ()).await.unwrap();
        cluster.wait_for_voters();
        let workload = Workload::start(&client, 8, bytes);
        workload.wait_for(20).await;
        Some(Self {
            cluster,
            workload,
            client,
        })
    }

    fn network(&self) -> &Network {
        self.cluster.network.as_ref().unwrap()
    }

    /// Waits until all nodes follow one, and writes are acknowledged, and prints how long that took.
    async fn recover(&self, what: &str) {
        let begun = Instant::now();
        self.cluster.leader();
        let recovered = begun.elapsed().as_secs_f64();
        eprintln!("{what}: all nodes follow one after {recovered:.1} s");
        self.workload.wait_for(50).await;
    }

    async fn end(self) {
        self.workload.check(&self.cluster).await;
    }
}

/// Returns how many partitions there are in a row; none leaves the longest tests out.
fn partitions() -> usize {
    number("PENHOLDER_TEST_PARTITIONS", 0)
}

fn is_left_out() -> bool {
    let is_left_out = partitions() == 0;
    if is_left_out {
        eprintln!(
            "LEFT OUT: it takes long; set PENHOLDER_TEST_PARTITIONS, as the whole .ci/cluster does"
        );
    }
    is_left_out
}

fn others(id: usize) -> [usize; 2] {
    [id % 3 + 1, (id + 1) % 3 + 1]
}

/// Such a leader goes on believing that it leads, and its clients reach it.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_from_the_others_sends_its_clients_on() {
    let Some(setting) = Setting::begin(10).await else {
        return;
    };
    let leader = setting.cluster.leader();
    let what = "the leader cut off from the other nodes";
    setting.workload.under(what);
    setting.network().separate(leader, &others(leader));
    setting.cluster.leader_instead_of(leader);
    setting.workload.wait_for(100).await;
    // A client that knows the former leader only learns from it where the others are.
    let alone = setting.cluster.client_of(leader).await.with_timeout(LONG);
    let nothing = "INSERT INTO entry SELECT 100, 1, NULL WHERE 0";
    let done = alone.execute(nothing, ()).await.unwrap();
    assert_eq!(done.rows_changed, 0);
    setting.workload.under("the end of that");
    setting.network().rejoin(leader, &others(leader));
    setting.recover(what).await;
    setting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_from_everything_is_replaced() {
    if is_left_out() {
        return;
    }
    let Some(setting) = Setting::begin(10).await else {
        return;
    };
    let leader = setting.cluster.leader();
    let what = "the leader cut off from everything";
    setting.workload.under(what);
    setting.network().unplug(leader);
    setting.cluster.leader_instead_of(leader);
    setting.workload.wait_for(100).await;
    setting.workload.under("the end of that");
    setting.network().plug(leader);
    setting.recover(what).await;
    setting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_off_keeps_nobody_waiting_and_catches_up() {
    let Some(setting) = Setting::begin(10).await else {
        return;
    };
    let follower = others(setting.cluster.leader())[0];
    let what = "a follower cut off from everything";
    setting.workload.under(what);
    setting.network().unplug(follower);
    setting.workload.goes_on_for(LONG).await;
    setting.workload.under("the end of that");
    setting.network().plug(follower);
    setting.recover(what).await;
    setting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_to_a_follower_keeps_nobody_waiting() {
    let Some(setting) = Setting::begin(3000).await else {
        return;
    };
    let follower = others(setting.cluster.leader())[0];
    let what = "a link of 1 Mbit/s to a follower";
    setting.workload.under(what);
    setting.network().slow_down(follower, "1mbit");
    setting.workload.goes_on_for(LONG).await;
    setting.workload.under("the end of that");
    setting.network().speed_up(follower);
    setting.recover(what).await;
    setting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_to_the_leader_loses_nothing() {
    if !is_left_out() {
        slow_link_to_the_leader(3000).await;
    }
}

/// Entries of the log do not go through the link within half a second, and nothing is acknowledged meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_too_slow_for_the_leader_loses_nothing() {
    if !is_left_out() {
        slow_link_to_the_leader(20_000).await;
    }
}

async fn slow_link_to_the_leader(bytes: usize) {
    let Some(setting) = Setting::begin(bytes).await else {
        return;
    };
    let leader = setting.cluster.leader();
    let what = format!("a link of 1 Mbit/s to the leader, rows of {bytes} bytes");
    setting.workload.under(&what);
    setting.network().slow_down(leader, "1mbit");
    tokio::time::sleep(LONG * 2).await;
    setting.workload.under("the end of that");
    setting.network().speed_up(leader);
    setting.recover(&what).await;
    setting.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_majority_means_no_acknowledgement_until_the_partition_heals() {
    if is_left_out() {
        return;
    }
    let Some(setting) = Setting::begin(10).await else {
        return;
    };
    let what = "each node alone";
    setting.workload.under(what);
    setting.network().separate(1, &[2, 3]);
    setting.network().separate(2, &[3]);
    // A write that was under way may have reached a majority.
    until("no node leads by its own account", || {
        let short = setting.cluster.statuses();
        let silent = |status: &serde_json::Value| {
            status["leader"] != status["node"]
                || status["since_majority_ms"]
                    .as_u64()
                    .is_some_and(|since| since > 3000)
        };
        (short.len() == 3 && short.iter().all(silent)).then_some(())
    });
    let short = setting.client.with_timeout(Duration::from_secs(2));
    let insert = "INSERT INTO entry VALUES (100, 1, NULL)";
    let error = short.execute(insert, ()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    setting.workload.under("the end of that");
    setting.network().rejoin(1, &[2, 3]);
    setting.network().rejoin(2, &[3]);
    setting.recover(what).await;
    setting.end().await;
}

/// Partitions in a row, each after the cluster has recovered from the one before.
#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_in_a_row_lose_nothing() {
    let rounds = partitions();
    if is_left_out() {
        return;
    }
    let Some(setting) = Setting::begin(10).await else {
        return;
    };
    for round in 0..rounds {
        let leader = setting.cluster.leader();
        let [one, _] = others(leader);
        match round % 3 {
            0 => {
                setting
                    .workload
                    .under("the leader cut off from the other nodes");
                setting.network().separate(leader, &others(leader));
                setting.cluster.leader_instead_of(leader);
                setting.workload.wait_for(20).await;
                setting.workload.under("the end of that");
                setting.network().rejoin(leader, &others(leader));
            }
            1 => {
                setting.workload.under("the leader cut off from one node");
                setting.network().separate(leader, &[one]);
                tokio::time::sleep(LONG).await;
                setting.workload.under("the end of that");
                setting.network().rejoin(leader, &[one]);
            }
            _ => {
                setting.workload.under("the leader cut off from everything");
                setting.network().unplug(leader);
                setting.cluster.leader_instead_of(leader);
                setting.workload.wait_for(20).await;
                setting.workload.under("the end of that");
                setting.network().plug(leader);
            }
        }
        setting.recover("a partition").await;
    }
    setting.end().await;
}
