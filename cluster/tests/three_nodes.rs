//! Three nodes: writing, reading, and what happens if one is lost.
#![cfg(test)]

mod support;

use std::time::{Duration, Instant};

use penholder::{ErrorKind, Store, StoreExt, Value};
use support::workload::{TABLE, Workload};
use support::{TestCluster, failed, number, printed, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_on_every_node() {
    let cluster = TestCluster::started(3);
    let client = cluster.client().await;
    let steps = [
        "CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT UNIQUE); CREATE INDEX i ON note(text)",
    ];
    let migrated = client.migrate(&steps).await.unwrap();
    assert_eq!((migrated.from, migrated.to), (0, 1));
    let migrated = client.migrate(&steps).await.unwrap();
    assert_eq!((migrated.from, migrated.to), (1, 1));

    let done = client
        .execute("INSERT INTO note(text) VALUES (?1)", ["ä"])
        .await
        .unwrap();
    assert_eq!((done.rows_changed, done.last_insert_rowid), (1, Some(1)));
    let batch = [
        ("UPDATE note SET text = ?1 WHERE id = 1", "b"),
        ("INSERT INTO note(text) SELECT ?1 WHERE changes() = 1", "c"),
        (
            "INSERT INTO note(text) SELECT ?1 WHERE last_insert_rowid() = 2",
            "d",
        ),
        ("DELETE FROM note WHERE text = ?1", "no"),
    ];
    let batch = batch.map(|(sql, value)| penholder::Query::new(sql, [value]));
    let done = client.batch(batch).await.unwrap();
    let results: Vec<_> = done
        .iter()
        .map(|one| (one.rows_changed, one.last_insert_rowid))
        .collect();
    assert_eq!(results, [(1, None), (1, Some(2)), (1, Some(3)), (0, None)]);

    let error = client
        .execute("INSERT INTO note(text) VALUES ('b')", ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConstraintViolation);
    assert!(
        error
            .to_string()
            .contains("UNIQUE constraint failed: note.text"),
        "{error}"
    );
    let error = client
        .execute("INSERT INTO missing VALUES (1)", ())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no such table: missing"),
        "{error}"
    );
    let error = client.query("SELECT * FROM missing", ()).await.unwrap_err();
    assert!(
        error.to_string().contains("no such table: missing"),
        "{error}"
    );
    let error = client
        .execute("INSERT INTO note(text) VALUES (random())", ())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);

    let texts: Vec<(i64, String)> = client
        .query_as("SELECT * FROM note ORDER BY id", ())
        .await
        .unwrap();
    let expected = [
        (1, "b".to_owned()),
        (2, "c".to_owned()),
        (3, "d".to_owned()),
    ];
    assert_eq!(texts, expected);
    let same = cluster
        .same_on_all("SELECT count(*), max(text) FROM note")
        .await;
    assert_eq!(same, [[Value::from(3), Value::from("d")]]);

    cluster.wait_for_voters();
    let text = printed(["status", &cluster.address()]);
    assert_eq!(text.matches("\tleads\t").count(), 1, "{text}");
    assert_eq!(text.matches("\tfollows\t").count(), 2, "{text}");
    let address = cluster.address();
    let sql = "SELECT text, x'00ff' AS b, NULL AS n FROM note WHERE id = ?1";
    let query = |options: &[&str]| {
        let words = ["query", &address, sql, "2"];
        printed(words.into_iter().chain(options.iter().copied()))
    };
    let json = "[{\"text\":\"c\",\"b\":{\"$base64\":true,\"encoded\":\"AP8=\"},\"n\":null}]\n";
    assert_eq!(query(&["--json"]), json);
    assert_eq!(query(&[]), "text,b,n\nc,X'00FF',\n");
    assert_eq!(query(&["--no-header"]), "c,X'00FF',\n");
    let table = query(&["--table"]);
    assert!(table.contains("┌") && table.contains("X'00FF'"), "{table}");
    let one = [
        "query",
        &address,
        "SELECT :a || 'x'",
        "-p",
        "a=y",
        "--scalar",
    ];
    assert_eq!(printed(one), "yx\n");
    let error = failed(1, ["query", &address, "SELECT 1, 2", "--scalar"]);
    assert!(error.contains("1 row of 2 columns"), "{error}");
    let script = "UPDATE note SET text = :t WHERE id = 1; INSERT INTO note(text) VALUES (:t || 2)";
    let output = support::run(["exec", &address, script, "--param", "t=z"]);
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "penholder: 2 rows changed\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_killed_leaders() {
    let mut cluster = TestCluster::started(3);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    cluster.wait_for_voters();
    let workload = Workload::start(&client, 8, 10);
    for _ in 0..number("PENHOLDER_TEST_KILLS", 5) {
        let leader = cluster.leader();
        tokio::time::sleep(Duration::from_millis(700)).await;
        workload.under("kill -9 of the leader");
        cluster.kill(leader);
        let next = cluster.leader();
        assert_ne!(next, leader);
        cluster.start(leader);
    }
    cluster.leader();
    workload.wait_for(1).await;
    workload.check(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_is_replaced_and_follows_when_it_continues() {
    let cluster = TestCluster::started(3);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    cluster.wait_for_voters();
    let workload = Workload::start(&client, 8, 10);
    let leader = cluster.leader();
    workload.wait_for(20).await;
    workload.under("SIGSTOP of the leader");
    cluster.signal(leader, "STOP");
    cluster.leader_instead_of(leader);
    workload.wait_for(50).await;
    workload.under("SIGCONT of the former leader");
    cluster.signal(leader, "CONT");
    cluster.leader();
    workload.wait_for(50).await;
    workload.check(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_follower_keeps_nobody_waiting_and_catches_up() {
    let cluster = TestCluster::started(3);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    cluster.wait_for_voters();
    let workload = Workload::start(&client, 8, 10);
    let follower = cluster.leader() % 3 + 1;
    workload.wait_for(20).await;
    workload.under("SIGSTOP of a follower");
    cluster.signal(follower, "STOP");
    // For longer than an election takes.
    workload.goes_on_for(Duration::from_secs(8)).await;
    workload.under("SIGCONT of the follower");
    cluster.signal(follower, "CONT");
    cluster.leader();
    workload.wait_for(50).await;
    workload.check(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_data_is_lost_gets_it_again() {
    let mut cluster = TestCluster::started(3);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    cluster.wait_for_voters();
    let leader = cluster.leader();
    let lost = leader % 3 + 1;
    for number in 0..50 {
        client
            .execute("INSERT INTO entry VALUES (1, ?1, 1)", [number])
            .await
            .unwrap();
    }
    cluster.kill(lost);
    cluster.wipe(lost);
    client
        .execute("INSERT INTO entry VALUES (1, 50, 1)", ())
        .await
        .unwrap();
    cluster.start(lost);
    let same = cluster.same_on_all("SELECT count(*) FROM entry").await;
    assert_eq!(same, [[Value::from(51)]]);
}

/// The engine would let it begin one, because it does not find node 2.
#[tokio::test(flavor = "multi_thread")]
async fn node_1_whose_data_is_lost_begins_no_second_cluster() {
    let mut cluster = TestCluster::started(3);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    cluster.wait_for_voters();
    client
        .execute("INSERT INTO entry VALUES (1, 1, 1)", ())
        .await
        .unwrap();
    cluster.kill(1);
    cluster.kill(2);
    cluster.wipe(1);
    // Also if it is started again, when its engine has left something.
    for _ in 0..2 {
        cluster.start(1);
        tokio::time::sleep(Duration::from_secs(4)).await;
        cluster.kill(1);
    }
    cluster.start(1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let short = client.with_timeout(Duration::from_secs(2));
    let error = short
        .execute("INSERT INTO entry VALUES (1, 2, 1)", ())
        .await
        .unwrap_err();
    assert!(error.is_timeout() || error.is_outcome_unknown(), "{error}");
    cluster.start(2);
    let rows = cluster
        .same_on_all("SELECT writer, min(number) FROM entry")
        .await;
    assert_eq!(rows, [[Value::from(1), Value::from(1)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_may_take_longer_than_a_node_may_be_silent() {
    let cluster = TestCluster::started(1);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?1) SELECT count(*) FROM n";
    let mut steps = 1_000_000_i64;
    let patient = client.with_timeout(Duration::from_secs(60));
    loop {
        let begun = Instant::now();
        let count: i64 = patient.query_scalar(slow, [steps]).await.unwrap();
        assert_eq!(count, steps);
        if begun.elapsed() > Duration::from_secs(3) {
            break;
        }
        steps *= 2;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged() {
    let mut cluster = TestCluster::started(3);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    cluster.wait_for_voters();
    let leader = cluster.leader();
    let others: Vec<usize> = (1..=3).filter(|&id| id != leader).collect();
    for &id in &others {
        cluster.kill(id);
    }
    let short = client.with_timeout(Duration::from_secs(3));
    let begun = Instant::now();
    let error = short
        .execute("INSERT INTO entry VALUES (1, 1, 1)", ())
        .await
        .unwrap_err();
    assert!(error.is_outcome_unknown() || error.is_timeout(), "{error}");
    assert!(error.to_string().contains("127.0.0.1:"), "{error}");
    let error = short
        .query("SELECT count(*) FROM entry", ())
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    // What the node knows can be asked for.
    let stale: i64 = cluster
        .client_of(leader)
        .await
        .query_scalar("SELECT count(*) FROM entry", ())
        .await
        .unwrap();
    assert_eq!(stale, 0);
    for &id in &others {
        cluster.start(id);
    }
    client
        .with_timeout(Duration::from_secs(60))
        .execute("INSERT INTO entry VALUES (1, 2, 1)", ())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_cleanly_and_starts_again() {
    let mut cluster = TestCluster::started(1);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    cluster.signal(1, "TERM");
    assert!(cluster.wait(1));
    let error = failed(
        75,
        ["query", &cluster.address(), "SELECT 1", "--timeout", "1"],
    );
    assert!(
        error.contains("refused") && error.contains("penholder status"),
        "{error}"
    );
    cluster.start(1);
    let client = cluster.client().await;
    assert!(
        client
            .query("SELECT * FROM entry", ())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_added_and_another_one_removed() {
    let mut cluster = TestCluster::started(3);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    cluster.wait_for_voters();
    let here = cluster.file("");
    printed(["cluster", "add", here.to_str().unwrap()]);
    cluster.add();
    cluster.start(4);
    cluster.wait_for_voters();
    // The leader is the one that is hardest to remove.
    let leader = cluster.leader();
    let number = leader.to_string();
    until("the leader is removed", || {
        let output = support::run(["cluster", "remove", &cluster.address(), &number]);
        output.status.success().then_some(())
    });
    cluster.kill(leader);
    cluster.wipe(leader);
    client
        .execute("INSERT INTO entry VALUES (1, 1, 1)", ())
        .await
        .unwrap();
    refused_removal(&cluster, &number, "is no member");
    // Of three that are left, two have to run.
    let next = cluster.leader();
    let other = (1..=4).find(|&id| id != leader && id != next).unwrap();
    cluster.kill(other);
    client
        .execute("INSERT INTO entry VALUES (1, 2, 1)", ())
        .await
        .unwrap();
    refused_removal(&cluster, &next.to_string(), "no majority");
    printed(["cluster", "remove", &cluster.address(), &other.to_string()]);
    let count: i64 = client
        .query_scalar("SELECT count(*) FROM entry", ())
        .await
        .unwrap();
    assert_eq!(count, 2);
}

/// Waits until a removal is refused for this reason: during an election there is another one.
fn refused_removal(cluster: &TestCluster, node: &str, why: &str) {
    until(why, || {
        let error = failed(1, ["cluster", "remove", &cluster.address(), node]);
        error.contains(why).then_some(())
    });
}

/// The file of the client names node 1 only.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_a_node_that_was_added_later() {
    let mut cluster = TestCluster::started(1);
    let client = cluster.client().await;
    client.execute(TABLE, ()).await.unwrap();
    let address = cluster.address();
    let old = cluster.file("old.toml");
    std::fs::copy(cluster.file("client.toml"), &old).unwrap();
    printed(["cluster", "add", cluster.file("").to_str().unwrap()]);
    cluster.add();
    cluster.start(2);
    cluster.wait_for_voters();
    // Node 2 tells its address in the background.
    until("node 1 is removed", || {
        let output = support::run(["cluster", "remove", &address, "1"]);
        output.status.success().then_some(())
    });
    client
        .execute("INSERT INTO entry VALUES (1, 1, 1)", ())
        .await
        .unwrap();
    // Of those that begin with the old file, too.
    let text = printed(["status", &format!("cluster:{}", old.to_str().unwrap())]);
    assert_eq!(text.matches("\tleads\t").count(), 1, "{text}");
}
