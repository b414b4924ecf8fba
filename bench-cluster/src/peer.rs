//! What is compared.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use hiqlite::Param;
use penholder::{AsyncDatabase, OpenOptions, Store as _, StoreExt as _, Synchronous};
use penholder_cluster::Cluster;

use crate::Result;
use crate::arguments::Arguments;
use crate::etcd::{Etcd, EtcdClient};
use crate::nodes::Nodes;
use crate::postgres::{Postgres, PostgresClient};
use crate::rounds::Rounds;

const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, client INTEGER, text TEXT)";
const INSERT: &str = "INSERT INTO t(client, text) VALUES (?1, ?2)";
const COUNT: &str = "SELECT count(*) FROM t";
/// The table of the engine's own client, in the same database.
const ENGINE_TABLE: &str = "CREATE TABLE own(id INTEGER PRIMARY KEY, client INTEGER, text TEXT)";
const ENGINE_INSERT: &str = "INSERT INTO own(client, text) VALUES (?1, ?2)";
const ENGINE_COUNT: &str = "SELECT count(*) FROM own";
/// The tables of the engine's own client when it records each write under a key, as penholder does.
const KEYED_TABLES: [&str; 2] = [
    "CREATE TABLE keyed(id INTEGER PRIMARY KEY, client INTEGER, text TEXT)",
    "CREATE TABLE keyed_write(number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, \
     made_at INTEGER NOT NULL, result TEXT NOT NULL)",
];
const KEYED_COUNT: &str = "SELECT count(*) FROM keyed";
const KEYED_INSERTS: [&str; 3] = [
    "INSERT INTO keyed_write(key, made_at, result) VALUES (?1, ?2, '')",
    "INSERT INTO keyed(client, text) VALUES (?1, ?2)",
    "UPDATE keyed_write SET result = json_array(json_array(changes(), last_insert_rowid())) WHERE key = ?1",
];
/// Numbers the keys, so that they are inserted in order, as penholder's are.
static KEYS: AtomicU64 = AtomicU64::new(0);
const TEXT: &str = "a row of forty bytes, as they really are";

pub(crate) const PENHOLDER: &str = "penholder";
pub(crate) const ONE_PROPOSAL: &str = "one-proposal";
pub(crate) const HIQLITE: &str = "hiqlite";
pub(crate) const KEYED: &str = "hiqlite-keyed";
const ETCD: &str = "etcd";
const POSTGRESQL: &str = "postgresql";
const LOCAL: &str = "local";
/// Each peer, and what it is.
pub(crate) const ALL: [(&str, &str); 7] = [
    (PENHOLDER, "three hiqlite nodes through penholder"),
    (ONE_PROPOSAL, "the same with shared_writes = 1"),
    (
        HIQLITE,
        "hiqlite's own client, at the nodes of the first line",
    ),
    (
        KEYED,
        "the same, with a key and a result in each transaction",
    ),
    (ETCD, "three etcd nodes"),
    (POSTGRESQL, "one PostgreSQL"),
    (LOCAL, "AsyncDatabase on this machine, synchronous FULL"),
];

/// One of the things that are compared, running.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    kind: Kind,
}

enum Kind {
    Cluster(Cluster),
    Engine {
        client: hiqlite::Client,
        /// Counts what was written.
        cluster: Cluster,
    },
    Keyed {
        client: hiqlite::Client,
        cluster: Cluster,
    },
    Etcd(Etcd),
    Postgres(Box<Postgres>),
    Local(AsyncDatabase),
}

/// One client of a peer.
pub(crate) enum Writer {
    Cluster(Cluster),
    Engine(hiqlite::Client),
    Keyed(hiqlite::Client),
    Etcd(EtcdClient),
    Postgres(PostgresClient),
    Local(AsyncDatabase),
}

/// All that run here. The clients are dropped before the servers.
pub(crate) struct Peers {
    pub(crate) running: Vec<Peer>,
    pub(crate) skipped: Vec<(&'static str, String)>,
    _nodes: Vec<Nodes>,
}

impl Peers {
    /// Starts the peers that are wanted. A missing program is no error.
    pub(crate) async fn start(
        directory: &Path,
        shared: Nodes,
        arguments: &Arguments,
    ) -> Result<Self> {
        if let Some(unknown) = arguments
            .peers
            .iter()
            .find(|name| ALL.iter().all(|(known, _)| known != name))
        {
            return Err(format!("there is no peer {unknown:?}: see --help").into());
        }
        let mut peers = Self {
            running: Vec::new(),
            skipped: Vec::new(),
            _nodes: Vec::new(),
        };
        if [PENHOLDER, HIQLITE, KEYED]
            .iter()
            .any(|peer| arguments.wants(peer))
        {
            peers.start_shared(shared, arguments).await?;
        }
        if arguments.wants(ONE_PROPOSAL) {
            peers.start_unshared(&directory.join("unshared")).await?;
        }
        if arguments.wants(ETCD) {
            let etcd = Etcd::start(&directory.join("etcd")).await;
            peers.add_or_skip(ETCD, etcd.map(Kind::Etcd));
        }
        if arguments.wants(POSTGRESQL) {
            // Not in `directory`, into which its user does not see.
            let parent = directory.parent().unwrap_or(directory);
            let postgres = Postgres::start(parent).await;
            peers.add_or_skip(
                POSTGRESQL,
                postgres.map(|postgres| Kind::Postgres(postgres.into())),
            );
        }
        if arguments.wants(LOCAL) {
            let path = directory.join("local.db");
            let options = OpenOptions::new().synchronous(Synchronous::Full);
            let database = AsyncDatabase::open_with(options, path).await?;
            database.execute(TABLE, ()).await?;
            peers.add(LOCAL, Kind::Local(database));
        }
        Ok(peers)
    }

    async fn start_shared(&mut self, mut nodes: Nodes, arguments: &Arguments) -> Result<()> {
        let cluster = nodes.start("shared").await?;
        cluster.execute(TABLE, ()).await?;
        cluster.execute(ENGINE_TABLE, ()).await?;
        cluster.batch(KEYED_TABLES).await?;
        if arguments.wants(PENHOLDER) {
            self.add(PENHOLDER, Kind::Cluster(cluster.clone()));
        }
        if arguments.wants(HIQLITE) {
            let client = nodes.engine_client().await?;
            let cluster = cluster.clone();
            self.add(HIQLITE, Kind::Engine { client, cluster });
        }
        if arguments.wants(KEYED) {
            let client = nodes.engine_client().await?;
            self.add(KEYED, Kind::Keyed { client, cluster });
        }
        self._nodes.push(nodes);
        Ok(())
    }

    async fn start_unshared(&mut self, directory: &Path) -> Result<()> {
        let mut nodes = Nodes::init(directory)?;
        nodes.set("shared_writes = 1")?;
        let cluster = nodes.start("unshared").await?;
        cluster.execute(TABLE, ()).await?;
        self.add(ONE_PROPOSAL, Kind::Cluster(cluster));
        self._nodes.push(nodes);
        Ok(())
    }

    fn add(&mut self, name: &'static str, kind: Kind) {
        self.running.push(Peer { name, kind });
    }

    fn add_or_skip(&mut self, name: &'static str, started: Result<Kind>) {
        match started {
            Ok(kind) => self.add(name, kind),
            Err(error) => {
                eprintln!("SKIPPED: {name}: {error}");
                self.skipped.push((name, error.to_string()));
            }
        }
    }

    /// Checks that each peer has the rows that it acknowledged.
    pub(crate) async fn check(&self, rounds: &Rounds) -> Result<()> {
        for peer in &self.running {
            let (acknowledged, failed) = rounds.written(peer.name);
            let found = u64::try_from(peer.count().await?)?;
            if !(acknowledged..=acknowledged + failed).contains(&found) {
                return Err(format!(
                    "{}: {acknowledged} writes were acknowledged, {failed} failed, and {found} are there",
                    peer.name
                )
                .into());
            }
        }
        Ok(())
    }
}

impl Peer {
    /// Returns one client more.
    pub(crate) async fn writer(&self) -> Result<Writer> {
        Ok(match &self.kind {
            Kind::Cluster(cluster) => Writer::Cluster(cluster.clone()),
            Kind::Engine { client, .. } => Writer::Engine(client.clone()),
            Kind::Keyed { client, .. } => Writer::Keyed(client.clone()),
            Kind::Etcd(etcd) => Writer::Etcd(etcd.client().await?),
            Kind::Postgres(postgres) => Writer::Postgres(postgres.client().await?),
            Kind::Local(database) => Writer::Local(database.clone()),
        })
    }

    /// Returns how many rows it has.
    async fn count(&self) -> Result<i64> {
        Ok(match &self.kind {
            Kind::Cluster(cluster) => cluster.query_scalar(COUNT, ()).await?,
            Kind::Engine { cluster, .. } => cluster.query_scalar(ENGINE_COUNT, ()).await?,
            Kind::Keyed { cluster, .. } => cluster.query_scalar(KEYED_COUNT, ()).await?,
            Kind::Etcd(etcd) => etcd.client().await?.count().await?,
            Kind::Postgres(postgres) => postgres.client().await?.count().await?,
            Kind::Local(database) => database.query_scalar(COUNT, ()).await?,
        })
    }
}

impl Writer {
    /// Writes a row, and returns when it is acknowledged.
    pub(crate) async fn write(&mut self, client: u32, number: i64) -> Result<()> {
        match self {
            Self::Cluster(cluster) => {
                cluster.execute(INSERT, (client, TEXT)).await?;
            }
            Self::Engine(engine) => {
                let values = vec![Param::Integer(client.into()), Param::Text(TEXT.to_owned())];
                engine.execute(ENGINE_INSERT, values).await?;
            }
            Self::Keyed(engine) => write_keyed(engine, client).await?,
            Self::Etcd(etcd) => etcd.put(client, number, TEXT).await?,
            Self::Postgres(postgres) => postgres.insert(client, TEXT).await?,
            Self::Local(database) => {
                database.execute(INSERT, (client, TEXT)).await?;
            }
        }
        Ok(())
    }
}

/// Writes a row with the statements by which penholder makes a write happen once.
async fn write_keyed(engine: &hiqlite::Client, client: u32) -> Result<()> {
    let number = KEYS.fetch_add(1, Ordering::Relaxed);
    let key = Param::Blob(u128::from(number).to_be_bytes().to_vec());
    let row = vec![Param::Integer(client.into()), Param::Text(TEXT.to_owned())];
    let params = [vec![key.clone(), Param::Integer(0)], row, vec![key]];
    for done in engine.txn(KEYED_INSERTS.into_iter().zip(params)).await? {
        done?;
    }
    Ok(())
}
