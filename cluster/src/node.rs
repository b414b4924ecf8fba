//! One node of a cluster: the engine, and a listener for clients.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hiqlite::tls::{ServerTlsConfig, ServerTlsConfigCerts};
use hiqlite::{LogSync, NodeConfig, RaftConfig};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::announcement;
use crate::disk_watch;
use crate::failure::Failure;
use crate::joining;
use crate::leadership::{ELECTION, HEARTBEAT, Leadership};
use crate::membership::Membership;
use crate::node_file::{NodeAddresses, NodeFile, TlsFiles, host_of};
use crate::proposals::Proposals;
use crate::replica::Replica;
use crate::session::Node;
use crate::transport::Acceptor;
use penholder_core::shown_path;

/// How many clients one node serves at once. More wait for one to end.
const CLIENTS_MAX: u64 = 4096;
/// How many connections the system takes before the node does.
const BACKLOG: u32 = 1024;
/// How many queries of clients run at once.
const QUERIES_MAX: usize = 64;
/// How many open files are left to the engine.
const FILES_OF_ENGINE: u64 = 256;
/// The length of a file of the engine's log, in bytes. An entry has to fit into one.
const LOG_FILE: u32 = 16 << 20;
/// After how many entries the engine makes a snapshot, and how many it keeps in its log.
const SNAPSHOT_AFTER: u64 = 10_000;
/// How often it is looked whether the engine goes on.
const LOOK: Duration = Duration::from_millis(300);
/// The file of the database in the engine's directory.
const DATABASE: &str = "replica.db";
/// How many entries are sent to another node at once: each message has to arrive within one heartbeat.
const ENTRIES_AT_ONCE: u64 = 4;

/// Runs a node until SIGTERM or SIGINT.
pub(crate) async fn serve(file: NodeFile) -> Result<(), Failure> {
    let id = file.id;
    let own = file
        .own()
        .cloned()
        .ok_or_else(|| failed(id, "it is not among its nodes"))?;
    std::fs::create_dir_all(&file.data)
        .map_err(|error| failed(id, &format!("{}: {error}", shown_path(&file.data))))?;
    let _lock = lock(&file).map_err(|why| failed(id, &why))?;
    let acceptor =
        Acceptor::new(file.tls.as_ref()).map_err(|error| failed(id, &error.to_string()))?;
    let not_listening = |error| {
        let why = format!("listen for clients on {}: {error}", own.client);
        failed(id, &why)
    };
    let socket = bind(address_of(&own.client).await?).map_err(not_listening)?;
    disk_watch::start(&file.data).map_err(|error| failed(id, &error.to_string()))?;
    say(&format!(
        "node {id}: starting; it is ready when a majority of {} nodes runs",
        file.nodes.len()
    ));
    let mut stop = Stop::new().map_err(|error| failed(id, &error.to_string()))?;
    let nodes = tokio::select! {
        nodes = joining::nodes(&file, |text| say(&format!("node {id}: {text}"))) => nodes.map_err(|error| failed(id, &error.to_string()))?,
        () = stop.asked() => return Ok(()),
    };
    #[cfg(target_os = "linux")]
    tokio::spawn(crate::socket_limit::keep(port_of(&own.client)));
    let starting = tokio::spawn(hiqlite::start_node(engine_config(&file, nodes)?));
    let data = file.data.clone();
    let engine = tokio::select! {
        started = starting => started
            .map_err(|error| failed(id, &error.to_string()))?
            .map_err(|error| failed(id, &error.to_string()))?,
        // Nothing was acknowledged by this run yet.
        () = stop.asked() => return Ok(()),
    };
    let members = engine
        .metrics_db()
        .await
        .map(|metrics| metrics.membership_config.nodes().count());
    joining::note_joined(&file, members.unwrap_or(0))
        .map_err(|error| failed(id, &error.to_string()))?;
    let listener = socket.listen(BACKLOG).map_err(not_listening)?;
    let leadership = Leadership::new(id, engine.clone());
    let replica = Replica::new(file.data.join("state_machine/db").join(DATABASE));
    replica
        .remove_copies()
        .map_err(|error| failed(id, &error.to_string()))?;
    let membership = Membership::new(&file).map_err(|error| failed(id, &error))?;
    let node = Node {
        id,
        membership,
        token: file.token.as_str().into(),
        acceptor,
        proposals: Proposals::start(
            engine.clone(),
            replica.clone(),
            leadership.clone(),
            file.shared_writes(),
        ),
        leadership,
        confirmations: Arc::default(),
        reads: Arc::new(Semaphore::new(QUERIES_MAX)),
        copies: Arc::new(Semaphore::new(1)),
        engine: engine.clone(),
        replica,
    };
    tokio::spawn(announcement::announce(
        engine.clone(),
        node.replica.clone(),
        id,
        own.client.clone(),
    ));
    say(&format!("node {id}: ready for clients on {}", own.client));
    tokio::select! {
        () = accept(listener, node) => {}
        why = end_of_engine(&engine) => return Err(failed(id, &format!(
            "the engine has ended: {why}: make room or mend the disk, and start it again; if it ends \
             again, remove {} first, and it gets all from the other nodes",
            shown_path(&data)
        ))),
        () = stop.asked() => {}
    }
    say(&format!(
        "node {id}: shutting down; the engine takes ten seconds for that"
    ));
    engine
        .shutdown()
        .await
        .map_err(|error| failed(id, &error.to_string()))?;
    say(&format!("node {id}: ended"));
    Ok(())
}

/// Takes an address, and does not listen yet: clients of a node that starts are turned away at once, and go
/// on to another one, instead of waiting for it.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // As after a node that was killed.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Takes the data directory for this process until the file is closed.
fn lock(file: &NodeFile) -> Result<File, String> {
    let path = file.data.join("lock");
    let failed = |error: std::io::Error| format!("{}: {error}", shown_path(&path));
    let lock = File::create(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(format!(
            "another process uses {}: wait until it has ended, which takes some seconds",
            shown_path(&file.data)
        )),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(target_os = "linux")]
fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

/// Takes clients, for ever.
async fn accept(listener: TcpListener, node: Node) {
    let places = raise_file_limit()
        .saturating_sub(FILES_OF_ENGINE)
        .clamp(1, CLIENTS_MAX);
    let places = Arc::new(Semaphore::new(usize::try_from(places).unwrap_or(1)));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let node = node.clone();
                tokio::spawn(async move {
                    let _place = place;
                    // A client that is gone or speaks something else harms no other.
                    let _ = node.serve(stream).await;
                });
            }
            // The system has run out of something.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Lets this process open as many files as it may, and returns how many that are.
fn raise_file_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let former = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current.unwrap_or(u64::MAX),
        Err(_) => former.unwrap_or(u64::MAX),
    }
}

/// Waits until the engine cannot go on, for example because its log cannot be written, and returns why.
/// It does not end the process itself.
async fn end_of_engine(engine: &hiqlite::Client) -> String {
    loop {
        let metrics = engine.metrics_db().await;
        match metrics.as_ref().map(|metrics| &metrics.running_state) {
            Ok(Ok(())) => tokio::time::sleep(LOOK).await,
            Ok(Err(fatal)) => return fatal.to_string(),
            Err(error) => return error.to_string(),
        }
    }
}

fn engine_config(file: &NodeFile, nodes: Vec<NodeAddresses>) -> Result<NodeConfig, Failure> {
    let listen = |address: &str| match host_of(address) {
        Some(host) if host.parse::<std::net::IpAddr>().is_ok() => host.to_owned(),
        Some("localhost") => "127.0.0.1".to_owned(),
        // A name may have addresses that are not this machine's.
        _ => "0.0.0.0".to_owned(),
    };
    let own = file
        .own()
        .ok_or_else(|| failed(file.id, "it is not among its nodes"))?;
    let data = file
        .data
        .to_str()
        .ok_or_else(|| failed(file.id, "its directory is no UTF-8"))?;
    let tls = file
        .tls
        .as_ref()
        .map(|tls| certificates(file.id, tls))
        .transpose()?;
    let nodes = nodes.into_iter().map(|node| hiqlite::Node {
        id: node.id,
        addr_raft: node.log,
        addr_api: node.management,
    });
    Ok(NodeConfig {
        node_id: file.id,
        nodes: nodes.collect(),
        listen_addr_api: listen(&own.management).into(),
        listen_addr_raft: listen(&own.log).into(),
        data_dir: data.to_owned().into(),
        filename_db: DATABASE.into(),
        // An acknowledged write is on a majority of the disks.
        wal_sync: LogSync::Immediate,
        wal_size: LOG_FILE,
        raft_config: RaftConfig {
            heartbeat_interval: HEARTBEAT,
            election_timeout_min: ELECTION[0],
            election_timeout_max: ELECTION[1],
            max_payload_entries: ENTRIES_AT_ONCE,
            ..NodeConfig::default_raft_config(SNAPSHOT_AFTER)
        },
        tls_raft: tls.clone(),
        tls_api: tls,
        secret_raft: file.secret.clone(),
        secret_api: file.secret.clone(),
        health_check_delay: Duration::ZERO,
        ..NodeConfig::default()
    })
}

fn certificates(id: u64, files: &TlsFiles) -> Result<ServerTlsConfig, Failure> {
    let text = |path: &std::path::Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| failed(id, &format!("{}: its path is no UTF-8", shown_path(path))))
    };
    Ok(ServerTlsConfig::Specific(ServerTlsConfigCerts::new(
        text(&files.key)?,
        text(&files.certificate)?,
    )))
}

async fn address_of(address: &str) -> Result<SocketAddr, Failure> {
    let found = lookup_host(address).await;
    let first = found.map(|mut all| all.next());
    match first {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(Failure::new(format!("serve: {address}: it has no address"))),
        Err(error) => Err(Failure::new(format!("serve: {address}: {error}"))),
    }
}

/// The signals that ask a node to end.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn failed(id: u64, why: &str) -> Failure {
    Failure::new(format!("serve: node {id}: {why}"))
}

/// Says how far the node is.
#[expect(clippy::print_stderr, reason = "a program that runs for long")]
fn say(text: &str) {
    eprintln!("penholder: {text}");
}
