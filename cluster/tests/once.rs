//! A write whose answer is lost is executed once.
#![cfg(test)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use penholder::{Store, StoreExt};
use penholder_cluster::Cluster;
use support::{TestCluster, nodes_of, with_nodes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes bytes on between a client and a node. After the handshake, it cuts each `every`th answer off: the
/// node has executed the request, and the client does not learn it.
async fn start_proxy(node: String, every: usize, cut: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let answers = Arc::new(AtomicUsize::new(0));
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&node).await else {
                continue;
            };
            tokio::spawn(pass(
                client,
                server,
                every,
                Arc::clone(&answers),
                Arc::clone(&cut),
            ));
        }
    });
    address
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    every: usize,
    answers: Arc<AtomicUsize>,
    cut: Arc<AtomicUsize>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 64 << 10];
    // The handshake of TLS and the welcome are some pieces.
    let mut pieces = 0;
    while let Ok(length) = from_server.read(&mut buffer).await {
        if length == 0 {
            break;
        }
        pieces += 1;
        if pieces > 4 && answers.fetch_add(1, Ordering::SeqCst) % every == every - 1 {
            cut.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to_client.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    up.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_executed_once() {
    let cluster = TestCluster::started(3);
    let direct = cluster.client().await;
    direct
        .execute("CREATE TABLE entry(number INTEGER)", ())
        .await
        .unwrap();
    let cut = Arc::new(AtomicUsize::new(0));
    let mut proxies = Vec::new();
    for node in nodes_of(&cluster) {
        proxies.push(start_proxy(node, 3, Arc::clone(&cut)).await);
    }
    let address = with_nodes(&cluster, "proxies.toml", &proxies);
    let client = Cluster::connect(&address).await.unwrap();
    let mut tasks = Vec::new();
    for task in 0..4 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..50 {
                let insert = "INSERT INTO entry VALUES (?1)";
                let done = client.execute(insert, [task * 50 + number]).await.unwrap();
                assert_eq!(done.rows_changed, 1);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let cut = cut.load(Ordering::SeqCst);
    assert!(cut > 20, "only {cut} answers were cut off");
    let counted = "SELECT count(*), count(DISTINCT number) FROM entry";
    let rows: Vec<(i64, i64)> = direct.query_as(counted, ()).await.unwrap();
    assert_eq!(rows, [(200, 200)]);
}
