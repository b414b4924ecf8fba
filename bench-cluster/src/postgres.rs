//! One PostgreSQL server.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, getuid};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::Result;
use crate::process::{self, Process};

/// The user that the server runs as if this program is run by root: it refuses root.
const USER: &str = "postgres";
const TABLE: &str = "CREATE TABLE t(id BIGSERIAL PRIMARY KEY, client INTEGER, text TEXT)";
const INSERT: &str = "INSERT INTO t(client, text) VALUES ($1, $2)";

/// One server.
#[derive(Debug)]
pub(crate) struct Postgres {
    config: Config,
    _process: Process,
    _directory: TempDir,
}

/// One connection with a prepared statement.
pub(crate) struct PostgresClient {
    client: Client,
    insert: Statement,
}

/// The user and group of the server.
type Ids = Option<(u32, u32)>;

impl Postgres {
    /// Starts one in a directory of its own in this one, which its user can reach.
    pub(crate) async fn start(parent: &Path) -> Result<Self> {
        let programs = programs();
        let initdb = process::program("initdb", &programs)?;
        let postgres = process::program("postgres", &programs)?;
        let ids = ids()?;
        let directory = tempfile::tempdir_in(parent)?;
        if let Some((user, group)) = ids {
            chown(directory.path(), Some(user), Some(group))?;
        }
        let data = directory.path().join("data");
        let mut command = as_user(&initdb, ids, directory.path());
        command.arg("-D").arg(&data);
        command.args(["-U", USER, "-A", "trust", "--no-sync"]);
        process::run("initdb", &mut command)?;
        let [port] = process::free_ports()?;
        let mut command = as_user(&postgres, ids, directory.path());
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=on",
            "synchronous_commit=on",
        ] {
            command.args(["-c", setting]);
        }
        // SIGQUIT ends all processes of the server at once.
        let started = Process::start("postgresql", directory.path(), Signal::QUIT, &mut command);
        let mut process = started?;
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(USER).dbname(USER);
        let servers = std::slice::from_mut(&mut process);
        process::until("PostgreSQL answers", servers, async || {
            connect(&config).await.map(drop)
        })
        .await?;
        connect(&config).await?.batch_execute(TABLE).await?;
        Ok(Self {
            config,
            _process: process,
            _directory: directory,
        })
    }

    pub(crate) async fn client(&self) -> Result<PostgresClient> {
        let client = connect(&self.config).await?;
        let insert = client.prepare(INSERT).await?;
        Ok(PostgresClient { client, insert })
    }
}

impl PostgresClient {
    pub(crate) async fn insert(&mut self, client: u32, text: &str) -> Result<()> {
        let client = i32::try_from(client)?;
        self.client.execute(&self.insert, &[&client, &text]).await?;
        Ok(())
    }

    pub(crate) async fn count(&self) -> Result<i64> {
        let row = self.client.query_one("SELECT count(*) FROM t", &[]).await?;
        Ok(row.try_get(0)?)
    }
}

async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    // It ends with its client.
    tokio::spawn(connection);
    Ok(client)
}

/// Returns where Debian has the programs of the server, the newest version first.
fn programs() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    found.sort();
    found.reverse();
    found
}

/// Returns the user that the server is to run as, if that is another one.
fn ids() -> Result<Ids> {
    if !getuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users
        .lines()
        .find_map(|line| line.strip_prefix("postgres:"));
    let mut numbers = line.unwrap_or_default().split(':').skip(1);
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    let user = next().zip(next());
    match user {
        Some(user) => Ok(Some(user)),
        None => Err(format!("it refuses root, and there is no user {USER}").into()),
    }
}

fn as_user(program: &Path, ids: Ids, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory);
    if let Some((user, group)) = ids {
        command.uid(user).gid(group);
    }
    command
}
