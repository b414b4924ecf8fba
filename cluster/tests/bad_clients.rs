//! Clients that are wrong: each gets a clear error, and no other is harmed.
#![cfg(test)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use penholder::{ErrorKind, Store, StoreExt};
use penholder_cluster::Cluster;
use rustix::process::{Resource, getrlimit, setrlimit};
use support::{TestCluster, failed, nodes_of, printed, with_nodes};

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_strangers_are_turned_away() {
    let cluster = TestCluster::started(1);
    let client = cluster.client().await;
    client.execute("CREATE TABLE t(a)", ()).await.unwrap();
    let address = nodes_of(&cluster).remove(0);

    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 5000], &[0, 0, 0, 0]] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let _ = stream.write_all(garbage);
        let mut answer = Vec::new();
        // It ends, one way or another.
        let _ = stream.read_to_end(&mut answer);
    }
    // Many that say nothing.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let silent: Vec<TcpStream> = (0..1000)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    client
        .execute("INSERT INTO t VALUES (1)", ())
        .await
        .unwrap();
    drop(silent);

    let text = fs::read_to_string(cluster.file("client.toml")).unwrap();
    let token = text.split('"').find(|part| part.len() == 64).unwrap();
    let other = cluster.file("other.toml");
    fs::write(&other, text.replace(token, &"0".repeat(64))).unwrap();
    let error = Cluster::connect(&format!("cluster:{}", other.to_str().unwrap()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error.to_string().contains("the token is another one"),
        "{error}"
    );

    // The certificate of another cluster.
    let stranger = TestCluster::new(1, &[]);
    fs::copy(stranger.file("ca.pem"), cluster.file("stranger.pem")).unwrap();
    fs::write(&other, text.replace("ca.pem", "stranger.pem")).unwrap();
    let error = Cluster::connect(&format!("cluster:{}", other.to_str().unwrap()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error.to_string().contains("not of the authority"),
        "{error}"
    );

    let rows: i64 = client
        .query_scalar("SELECT count(*) FROM t", ())
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_before_it_is_sent() {
    let cluster = TestCluster::started(1);
    let client = cluster.client().await;
    client.execute("CREATE TABLE t(a)", ()).await.unwrap();
    let error = client
        .execute("INSERT INTO t VALUES (?1)", [vec![0_u8; 100 << 20]])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("more than 2 MiB"), "{error}");
    // The most that is allowed.
    client
        .execute("INSERT INTO t VALUES (?1)", [vec![7_u8; (2 << 20) - 1000]])
        .await
        .unwrap();
    let many: Vec<String> = vec!["INSERT INTO t VALUES (1)".to_owned(); 10_001];
    let error = client.batch(many).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let short = client.with_timeout(Duration::from_secs(1));
    assert!(short.query(endless, ()).await.unwrap_err().is_timeout());
    let long = "SELECT a FROM t, json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]') WHERE length(a) > 1";
    let error = client.query(long, ()).await.unwrap_err();
    assert!(
        error.to_string().contains("32 MiB: ask for fewer"),
        "{error}"
    );
    assert_eq!(
        client
            .query_scalar::<i64>("SELECT count(*) FROM t", ())
            .await
            .unwrap(),
        1
    );
}

#[test]
fn the_command_says_what_is_wrong() {
    let cluster = TestCluster::new(3, &["--plain"]);
    let address = cluster.address();
    let missing = failed(1, ["query", "cluster:missing/client.toml", "SELECT 1"]);
    assert!(
        missing.contains("missing/client.toml") && missing.contains("cluster init"),
        "{missing}"
    );
    let no_token = failed(1, ["query", "cluster://127.0.0.1:1", "SELECT 1"]);
    assert!(no_token.contains("PENHOLDER_CLUSTER_TOKEN"), "{no_token}");
    let dead = failed(75, ["exec", &address, "DELETE FROM t", "--timeout", "0.5"]);
    assert!(dead.contains("Connection refused"), "{dead}");
    let dead = failed(75, ["status", &address, "--timeout", "0.5"]);
    assert!(dead.contains("Connection refused"), "{dead}");
    let file = cluster.file("node-1.toml");
    let checked = printed(["serve", file.to_str().unwrap(), "--check"]);
    assert!(checked.contains("in order"), "{checked}");
    let error = failed(1, ["serve", cluster.file("client.toml").to_str().unwrap()]);
    assert!(error.contains("client.toml"), "{error}");
    for words in [
        &["query"][..],
        &["cluster", "init", "x", "--nodes", "0"],
        &["serve"],
    ] {
        failed(2, words.iter().copied());
    }
    // Plain text to another machine.
    let far = with_nodes(&cluster, "far.toml", &["192.0.2.1:7001".to_owned()]);
    let error = failed(75, ["query", &far, "SELECT 1", "--timeout", "0.2"]);
    assert!(error.contains("this machine only"), "{error}");
}
