//! The command: every subcommand, option and default. No part of the API.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Parser, Subcommand};
use penholder::word_value::value;
use penholder::{Params, Query, Row, RowSet, Store, Value};
use tokio::runtime::Builder;

use crate::address::Address;
use crate::cluster::Cluster;
use crate::failure::{FAILED, Failure};
use crate::init::{self, NewCluster};
use crate::node;
use crate::node_file::NodeFile;
use crate::stress;
use crate::transport::Acceptor;
use crate::wire::NodeStatus;
use penholder_core::{shell_path, shell_word, shown_path};

/// The variable from which the engine takes the authorities that it trusts.
const AUTHORITIES: &str = "SSL_CERT_FILE";
/// The variable from which SQLite takes the directory of its temporary files.
const TEMPORARY_FILES: &str = "SQLITE_TMPDIR";
/// How long a node that ends waits for queries that still run.
const END: Duration = Duration::from_secs(2);

/// The same database on several machines, by SQLite replicated by Raft.
#[derive(Debug, Parser)]
#[command(
    name = "penholder-cluster",
    bin_name = "penholder",
    version,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a cluster
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Run one node of a cluster, until SIGTERM or Ctrl-C
    Serve(Serve),
    /// Run one statement that writes
    Exec(Exec),
    /// Run one statement that reads
    Query(QueryArguments),
    /// Show the nodes: who leads, and how far each one is
    Status(Status),
    /// Write from many tasks at once, and check that what was acknowledged is there
    Stress(Stress),
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Write the files of a new cluster: certificates, secrets, a file for each node and one for clients
    Init(Init),
}

#[derive(Debug, Args)]
struct Init {
    /// A new or empty directory
    directory: PathBuf,
    /// How many nodes: 3 survive the loss of one, 5 of two
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// The address of all nodes, or of each one in order
    #[arg(long, default_value = "127.0.0.1")]
    host: Vec<String>,
    /// The first of the ports that they listen on; free ones of this machine if it is missing
    #[arg(long)]
    port: Option<u16>,
    /// No certificates: plain text, on this machine only
    #[arg(long)]
    plain: bool,
}

#[derive(Debug, Args)]
struct Serve {
    /// The file of the node, as node-1.toml
    file: PathBuf,
    /// Only check the file, the certificates and the ports
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Target {
    /// The cluster: cluster:DIR/client.toml, or cluster://HOST:PORT,HOST:PORT
    address: String,
    /// How long to wait
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,
}

#[derive(Debug, Args)]
struct Exec {
    #[command(flatten)]
    target: Target,
    /// One statement
    sql: String,
    /// The values of its parameters ?1, ?2 …, as `penholder exec` reads them
    #[arg(allow_negative_numbers = true)]
    params: Vec<String>,
}

#[derive(Debug, Args)]
struct QueryArguments {
    #[command(flatten)]
    target: Target,
    /// One statement
    sql: String,
    /// The values of its parameters
    #[arg(allow_negative_numbers = true)]
    params: Vec<String>,
    /// A JSON array with an object for each row
    #[arg(long)]
    json: bool,
    /// What any node knows, without asking the others; perhaps old
    #[arg(long)]
    stale: bool,
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    target: Target,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Stress {
    #[command(flatten)]
    target: Target,
    /// How many tasks write
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    writers: u32,
    /// For how long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    time: Duration,
}

/// Runs the command.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody may read it.
            let _ = writeln!(io::stderr(), "penholder: {failure}");
            failure.code.into()
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Cluster {
            command: ClusterCommand::Init(new),
        } => begin(&new),
        Command::Serve(serve) => self::serve(&serve),
        Command::Exec(exec) => block_on(self::exec(exec)),
        Command::Query(query) => block_on(self::query(query)),
        Command::Status(status) => block_on(self::status(status)),
        Command::Stress(stress) => block_on(self::stress(stress)),
    }
}

fn begin(new: &Init) -> Result<(), Failure> {
    let directory = &new.directory;
    init::init(&NewCluster {
        directory,
        nodes: new.nodes,
        hosts: new.host.clone(),
        port: new.port,
        is_plain: new.plain,
    })?;
    let mut text = String::from("made; start each node:\n");
    for id in 1..=new.nodes {
        let file = directory.join(format!("node-{id}.toml"));
        text += &format!("  penholder serve {}\n", shell_path(&file));
    }
    let client = Address::ClientFile(directory.join("client.toml"));
    text += &format!("address: {}\n", shell_word(client.to_string()));
    print(&text)
}

fn serve(arguments: &Serve) -> Result<(), Failure> {
    let file = NodeFile::read(&arguments.file)?;
    if arguments.check {
        return check(&file, &arguments.file);
    }
    set_environment(&file)?;
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("PENHOLDER_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error,hiqlite::init=off")),
        )
        .init();
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("serve: {error}")))?;
    let result = runtime.block_on(node::serve(file));
    runtime.shutdown_timeout(END);
    result
}

fn check(file: &NodeFile, path: &Path) -> Result<(), Failure> {
    let failed = |why: String| Failure::new(format!("serve: {}: {why}", shown_path(path)));
    Acceptor::new(file.tls.as_ref()).map_err(|error| failed(error.to_string()))?;
    let own = file
        .own()
        .ok_or_else(|| failed("it is not among its nodes".to_owned()))?;
    for address in [&own.client, &own.log, &own.management] {
        std::net::TcpListener::bind(address)
            .map_err(|error| failed(format!("listen on {address}: {error}")))?;
    }
    print(&format!(
        "node {}: file, certificates and ports are in order\n",
        file.id
    ))
}

/// Starts this program again with what the engine and SQLite take from the environment: the authority
/// of the cluster, as the engine would trust every one of the system otherwise; and the data directory for
/// temporary files, so that a node that can write its data can write those too.
fn set_environment(file: &NodeFile) -> Result<(), Failure> {
    let mut wanted = vec![(TEMPORARY_FILES, file.data.as_os_str())];
    if let Some(tls) = &file.tls {
        wanted.push((AUTHORITIES, tls.authority.as_os_str()));
    }
    let is_set =
        |&(name, value): &(&str, &OsStr)| env::var_os(name).is_some_and(|known| known == value);
    if wanted.iter().all(is_set) {
        return Ok(());
    }
    let failed = |error: io::Error| Failure::new(format!("serve: start again: {error}"));
    let mut again = Process::new(env::current_exe().map_err(failed)?);
    again
        .args(env::args_os().skip(1))
        .envs(wanted)
        .env_remove("SSL_CERT_DIR");
    Err(failed(std::os::unix::process::CommandExt::exec(&mut again)))
}

async fn exec(arguments: Exec) -> Result<(), Failure> {
    let cluster = reach(&arguments.target).await?;
    let query = Query::new(arguments.sql, params(&arguments.params));
    let executed = cluster.batch([query]).await?;
    let changed = executed.first().map_or(0, |executed| executed.rows_changed);
    let rows = if changed == 1 { "row" } else { "rows" };
    let _ = writeln!(io::stderr(), "penholder: {changed} {rows} changed");
    Ok(())
}

async fn query(arguments: QueryArguments) -> Result<(), Failure> {
    let mut cluster = reach(&arguments.target).await?;
    if arguments.stale {
        cluster = cluster.stale();
    }
    let rows = cluster
        .query(arguments.sql, params(&arguments.params))
        .await?;
    print(&if arguments.json {
        json_of(&rows)
    } else {
        table_of(&rows)
    })
}

async fn status(arguments: Status) -> Result<(), Failure> {
    let cluster = reach(&arguments.target).await?;
    let statuses = cluster.statuses().await;
    let text = match arguments.json {
        true => status_json(&statuses),
        false => status_text(&statuses),
    };
    print(&text)?;
    let has_leader = statuses
        .iter()
        .flat_map(|(_, status)| status)
        .any(|status| status.leader.is_some());
    match has_leader {
        true => Ok(()),
        false => Err(Failure::new(
            "status: no node leads: start a majority of the nodes",
        )),
    }
}

async fn stress(arguments: Stress) -> Result<(), Failure> {
    let cluster = reach(&arguments.target).await?;
    let found = stress::run(&cluster, arguments.writers, arguments.time).await?;
    print(&found.text(arguments.writers))
}

async fn reach(target: &Target) -> Result<Cluster, Failure> {
    let address = Address::parse(&target.address)?;
    let file = address.client_file()?;
    Ok(Cluster::of(address, file, target.timeout).await?)
}

/// Reads a time. A plain number means seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::try_from_secs_f64);
    if let Some(seconds) = seconds {
        return seconds.map_err(|_| "it is negative, or too long".to_owned());
    }
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    let time = parsed.and_then(|time| Duration::try_from(time).ok());
    time.ok_or_else(|| {
        "give a time like 500ms, 10s or 1.5m; a plain number means seconds".to_owned()
    })
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::with_code(error.to_string(), FAILED))?;
    runtime.block_on(work)
}

/// Reads values as `penholder exec` does.
fn params(words: &[String]) -> Params {
    words.iter().map(|word| value(word)).collect()
}

fn table_of(rows: &RowSet) -> String {
    let mut text = rows.columns().join("\t") + "\n";
    for row in rows {
        let values: Vec<String> = row.values().iter().map(shown).collect();
        text += &values.join("\t");
        text.push('\n');
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => format!("{value:?}"),
        Value::Text(text) => text.escape_debug().to_string(),
        Value::Blob(bytes) => {
            bytes
                .iter()
                .fold("x'".to_owned(), |text, byte| text + &format!("{byte:02x}"))
                + "'"
        }
    }
}

/// As `penholder query --json`: an array with an object for each row, in the order of the columns.
fn json_of(rows: &RowSet) -> String {
    let objects: Vec<String> = rows.iter().map(object).collect();
    format!("[{}]\n", objects.join(",\n"))
}

fn object(row: &Row) -> String {
    let pairs = row.columns().iter().zip(row.values());
    let pairs: Vec<String> = pairs
        .map(|(column, value)| format!("{}:{}", serde_json::json!(column), json(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(value) => (*value).into(),
        Value::Real(value) => (*value).into(),
        Value::Text(text) => text.clone().into(),
        Value::Blob(bytes) => {
            serde_json::json!({ "$base64": true, "encoded": STANDARD.encode(bytes) })
        }
    }
}

type NodeResult = (String, Result<NodeStatus, String>);

fn status_text(statuses: &[NodeResult]) -> String {
    let mut text = String::from("node\taddress\trole\tterm\tlog\tapplied\n");
    for (address, status) in statuses {
        text += &match status {
            Ok(status) => {
                let is_voter = status
                    .members
                    .iter()
                    .any(|member| member.id == status.node && member.is_voter);
                let role = match (status.leader == Some(status.node), is_voter) {
                    (true, _) => "leads",
                    (false, true) => "follows",
                    (false, false) => "learns",
                };
                let number = |number: Option<u64>| {
                    number.map_or("-".to_owned(), |number| number.to_string())
                };
                format!(
                    "{}\t{address}\t{role}\t{}\t{}\t{}\n",
                    status.node,
                    status.term,
                    number(status.last_log),
                    number(status.last_applied)
                )
            }
            Err(why) => format!("?\t{address}\t{why}\n"),
        };
    }
    text
}

fn status_json(statuses: &[NodeResult]) -> String {
    let nodes = statuses.iter().map(|(address, status)| match status {
        Ok(status) => serde_json::json!({
            "address": address,
            "node": status.node,
            "leader": status.leader,
            "term": status.term,
            "last_log": status.last_log,
            "last_applied": status.last_applied,
            "voters": status.members.iter().filter(|member| member.is_voter).map(|member| member.id).collect::<Vec<_>>(),
            "since_majority_ms": status.since_majority,
        }),
        Err(why) => serde_json::json!({ "address": address, "error": why }),
    });
    serde_json::json!({ "nodes": nodes.collect::<Vec<_>>() }).to_string() + "\n"
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
