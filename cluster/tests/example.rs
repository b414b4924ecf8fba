//! The example service, on a file and on three nodes.
#![cfg(test)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::{LIMIT, TestCluster};

/// The service, which is killed at the end.
struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start(database: &str) -> Self {
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_penholder-cluster"));
        program.set_file_name("examples");
        program.push("tickets");
        let mut process = Command::new(&program)
            .args([database, "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program:?}: {error}: run `cargo test`, which builds it")
            });
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let (_, address) = line.trim().rsplit_once("http://").unwrap();
        let address = address.to_owned();
        Self { process, address }
    }

    /// Returns the status line and the body of an answer.
    fn ask(&self, method: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} /ticket HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\
             Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two processes of the service on one database give out each number once.
fn try_it(database: &str) {
    let services = [Service::start(database), Service::start(database)];
    let mut numbers = Vec::new();
    for place in 0..6 {
        let (status, number) = services[place % 2].ask("POST", "ann");
        assert!(status.contains("200"), "{status}: {number}");
        numbers.push(number.trim().parse::<i64>().unwrap());
    }
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    let (status, why) = services[0].ask("POST", "");
    assert!(
        status.contains("400") && why.contains("CHECK"),
        "{status}: {why}"
    );
    let (_, list) = services[1].ask("GET", "");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 6);
    assert_eq!(list[5], serde_json::json!({ "number": 6, "owner": "ann" }));
}

#[test]
fn the_example_runs_on_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    try_it(path.to_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_runs_on_three_nodes() {
    let cluster = TestCluster::started(3);
    cluster.client().await;
    let address = cluster.address();
    tokio::task::spawn_blocking(move || try_it(&address))
        .await
        .unwrap();
}
