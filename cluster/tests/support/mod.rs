//! Clusters of real processes on this machine.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]

pub mod history;
pub mod linearizability;
pub mod network;
pub mod workload;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use penholder::{Result, Store};
use penholder_cluster::Cluster;

use network::Network;

/// What only catches hangs.
pub const LIMIT: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_penholder-cluster");

/// Returns the command.
pub fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub fn run<'a>(words: impl IntoIterator<Item = &'a str>) -> Output {
    command().args(words).output().unwrap()
}

/// Returns what the command prints, which succeeds.
#[track_caller]
pub fn printed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let output = run(words);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what the command says on standard error, which fails with this code.
#[track_caller]
pub fn failed<'a>(code: i32, words: impl IntoIterator<Item = &'a str>) -> String {
    let output = run(words);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// Returns the path of `penholder`, if it is in PATH or in the target directory of the main workspace.
pub fn penholder() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    directories.extend(["../target/release", "../target/debug"].map(PathBuf::from));
    let programs = directories
        .into_iter()
        .map(|directory| directory.join("penholder"));
    let found = programs.into_iter().find(|program| program.is_file())?;
    fs::canonicalize(found).ok()
}

/// A cluster, whose nodes are killed at the end.
pub struct TestCluster {
    pub directory: tempfile::TempDir,
    nodes: Vec<Option<Child>>,
    /// Where the nodes are, if each has a network namespace.
    pub network: Option<Network>,
}

impl TestCluster {
    /// Makes the files of a cluster.
    pub fn new(nodes: usize, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let count = nodes.to_string();
        let here = directory.path().join("here");
        let words = ["cluster", "init", here.to_str().unwrap(), "--nodes", &count];
        printed(words.into_iter().chain(options.iter().copied()));
        let nodes = (0..nodes).map(|_| None).collect();
        Self {
            directory,
            nodes,
            network: None,
        }
    }

    /// Makes a cluster in a network, and starts its nodes.
    pub fn started_in(network: Network, nodes: usize) -> Self {
        let hosts: Vec<String> = (1..=nodes).map(|id| network.host(id)).collect();
        let hosts = hosts.iter().flat_map(|host| ["--host", host]);
        let options: Vec<&str> = ["--port", "7100"].into_iter().chain(hosts).collect();
        let mut cluster = Self::new(nodes, &options);
        cluster.network = Some(network);
        cluster.start_all();
        cluster
    }

    /// Makes a cluster and starts its nodes.
    pub fn started(nodes: usize) -> Self {
        let mut cluster = Self::new(nodes, &[]);
        cluster.start_all();
        cluster
    }

    /// Returns how many nodes there are.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Returns a file of the cluster.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("here").join(name)
    }

    pub fn address(&self) -> String {
        format!("cluster:{}", self.file("client.toml").to_str().unwrap())
    }

    /// Starts a node. What it says is in `node-N.log`.
    pub fn start(&mut self, id: usize) {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.file(&format!("node-{id}.log")));
        let log = log.unwrap();
        let mut command = match &self.network {
            Some(network) => network.command(id, PROGRAM),
            None => command(),
        };
        command
            .stdin(Stdio::null())
            .arg("serve")
            .arg(self.file(&format!("node-{id}.toml")));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.nodes[id - 1] = Some(command.spawn().unwrap());
    }

    /// Counts one more node, whose files were added.
    pub fn add(&mut self) {
        self.nodes.push(None);
    }

    fn start_all(&mut self) {
        for id in 1..=self.nodes.len() {
            self.start(id);
        }
    }

    /// Sends a signal to a node.
    pub fn signal(&self, id: usize, signal: &str) {
        let pid = self.nodes[id - 1].as_ref().unwrap().id().to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Kills a node and waits for its end.
    pub fn kill(&mut self, id: usize) {
        let mut node = self.nodes[id - 1].take().unwrap();
        node.kill().unwrap();
        node.wait().unwrap();
    }

    /// Waits for the end of a node, and returns whether it succeeded.
    pub fn wait(&mut self, id: usize) -> bool {
        let mut node = self.nodes[id - 1].take().unwrap();
        until("the node ends", || node.try_wait().unwrap()).success()
    }

    /// Returns whether a node has ended by itself.
    pub fn has_ended(&mut self, id: usize) -> bool {
        let has_ended = match &mut self.nodes[id - 1] {
            Some(node) => node.try_wait().unwrap().is_some(),
            None => true,
        };
        if has_ended {
            self.nodes[id - 1] = None;
        }
        has_ended
    }

    /// Removes what a node has stored.
    pub fn wipe(&self, id: usize) {
        fs::remove_dir_all(self.file(&format!("node-{id}"))).unwrap();
    }

    /// Returns the answers of the nodes to `status --json`.
    pub fn statuses(&self) -> Vec<serde_json::Value> {
        let output = run(["status", &self.address(), "--json", "--timeout", "3"]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        value["nodes"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until a node leads and all running nodes say so, and returns its id.
    pub fn leader(&self) -> usize {
        until("a node leads", || {
            let running = self.nodes.iter().flatten().count();
            let statuses = self.statuses();
            let leaders: Vec<u64> = statuses
                .iter()
                .filter_map(|status| status["leader"].as_u64())
                .collect();
            let first = *leaders.first()?;
            let agree = leaders.len() >= running && leaders.iter().all(|&leader| leader == first);
            let leads = self.nodes[usize::try_from(first).unwrap() - 1].is_some();
            (agree && leads).then(|| usize::try_from(first).unwrap())
        })
    }

    /// Waits until another node than this one leads, and itself says so, and returns its id. Not all nodes
    /// need to answer.
    pub fn leader_instead_of(&self, former: usize) -> usize {
        until("another node leads", || {
            let leads = |status: &serde_json::Value| {
                let node = status["node"].as_u64()?;
                let node = usize::try_from(node).unwrap();
                (node != former && status["leader"] == status["node"]).then_some(node)
            };
            self.statuses().iter().find_map(leads)
        })
    }

    /// Waits until all nodes vote.
    pub fn wait_for_voters(&self) {
        until("all nodes vote", || {
            let statuses = self.statuses();
            let voters =
                |status: &serde_json::Value| status["voters"].as_array().map_or(0, Vec::len);
            let all = statuses.len() == self.nodes.len();
            (all && statuses
                .iter()
                .all(|status| voters(status) == self.nodes.len()))
            .then_some(())
        });
    }

    /// Returns a client, once the cluster answers.
    pub async fn client(&self) -> Cluster {
        let begun = Instant::now();
        loop {
            let client = Cluster::connect(&self.address()).await;
            if let Ok(client) = client
                && client.query("SELECT 1", ()).await.is_ok()
            {
                // Only catches hangs: an election takes long on a busy machine.
                return client.with_timeout(LIMIT / 2);
            }
            assert!(begun.elapsed() < LIMIT, "no client: {}", self.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns a client of one node only.
    pub async fn client_of(&self, id: usize) -> Cluster {
        let text = fs::read_to_string(self.file("client.toml")).unwrap();
        let mut table: toml::Table = toml::from_str(&text).unwrap();
        let node = table["nodes"].as_array().unwrap()[id - 1].clone();
        table.insert("nodes".to_owned(), vec![node].into());
        let path = self.file(&format!("client-{id}.toml"));
        fs::write(&path, table.to_string()).unwrap();
        let address = format!("cluster:{}", path.to_str().unwrap());
        let begun = Instant::now();
        loop {
            match Cluster::connect(&address).await {
                Ok(client) => return client.stale(),
                Err(error) => assert!(begun.elapsed() < LIMIT, "{error}"),
            }
        }
    }

    /// Waits until every node answers a query with the same rows, and returns them.
    pub async fn same_on_all(&self, sql: &str) -> Vec<Vec<penholder::Value>> {
        let begun = Instant::now();
        loop {
            let mut answers = Vec::new();
            for id in 1..=self.nodes.len() {
                let client = self.client_of(id).await;
                let rows: Result<_> = client.query(sql, ()).await;
                answers.push(rows.map(|rows| {
                    rows.into_iter()
                        .map(penholder::Row::into_values)
                        .collect::<Vec<_>>()
                }));
            }
            if let [Ok(first), rest @ ..] = &answers[..]
                && rest
                    .iter()
                    .all(|rows| rows.as_ref().is_ok_and(|rows| rows == first))
            {
                return first.clone();
            }
            assert!(begun.elapsed() < LIMIT, "the nodes differ: {answers:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns what the nodes said.
    pub fn logs(&self) -> String {
        let log = |id| fs::read_to_string(self.file(&format!("node-{id}.log"))).unwrap_or_default();
        (1..=self.nodes.len())
            .map(|id| format!("-- node {id}\n{}", log(id)))
            .collect()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            let _ = node.kill();
            let _ = node.wait();
        }
        if thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// Waits until something is there.
#[track_caller]
pub fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Returns a number that the environment may raise.
pub fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Writes a copy of `client.toml` with other addresses, next to it.
pub fn with_nodes(cluster: &TestCluster, name: &str, nodes: &[String]) -> String {
    let text = fs::read_to_string(cluster.file("client.toml")).unwrap();
    let mut table: toml::Table = toml::from_str(&text).unwrap();
    let nodes: Vec<toml::Value> = nodes.iter().map(|node| node.clone().into()).collect();
    table.insert("nodes".to_owned(), nodes.into());
    let path = cluster.file(name);
    fs::write(&path, table.to_string()).unwrap();
    format!("cluster:{}", path.to_str().unwrap())
}

/// Returns the addresses of the nodes for clients.
pub fn nodes_of(cluster: &TestCluster) -> Vec<String> {
    let text = fs::read_to_string(cluster.file("client.toml")).unwrap();
    let table: toml::Table = toml::from_str(&text).unwrap();
    let nodes = table["nodes"].as_array().unwrap();
    nodes
        .iter()
        .map(|node| node.as_str().unwrap().to_owned())
        .collect()
}
