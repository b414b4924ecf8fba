//! The command: every subcommand, option and default. No part of the API.

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use penholder::{Query, Store};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::added_node::{self, Place};
use crate::address::Address;
use crate::cluster::Cluster;
use crate::doctor::{self, Severity};
use crate::dump::{self, Purpose};
use crate::failure::{DOCTOR_ERROR, DOCTOR_WARNING, FAILED, Failure};
use crate::import;
use crate::init::{self, NewCluster};
use crate::load;
use crate::load_plan::LoadPlan;
use crate::node;
use crate::node_file::NodeFile;
use crate::progress::Progress;
use crate::rows_text::{self, Format, PrintError};
use crate::script::{self, Parameters};
use crate::source::Source;
use crate::status;
use crate::stress;
use crate::transport::Acceptor;
use penholder_core::{shell_path, shell_word, shown_path};

/// The variable from which the engine takes the authorities that it trusts.
const AUTHORITIES: &str = "SSL_CERT_FILE";
/// Variables by which the engine would send what its nodes say to each other through a proxy.
const PROXIES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];
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
    /// Make a cluster, fill it from a file, write it into one, change its members
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Run one node of a cluster, until SIGTERM or Ctrl-C
    Serve(Serve),
    /// Run SQL that writes, in one transaction
    Exec(Exec),
    /// Run one statement that reads
    Query(QueryArguments),
    /// Write the rows of a CSV or JSON file into a table
    Import(Import),
    /// Show the nodes: who leads, and how far each one is
    Status(Status),
    /// Find what is wrong with a cluster, and say what to do
    Doctor(Doctor),
    /// Write from many tasks at once, and check that what was acknowledged is there
    Stress(Stress),
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Write the files of a new cluster: certificates, secrets, a file for each node and one for clients
    Init(Init),
    /// Write the files of one more node into the directory of a cluster
    Add(Add),
    /// End the membership of a node
    Remove(Remove),
    /// Fill a new cluster from a database file, and compare the two
    Load(Load),
    /// Write what a cluster has into a new database file, for programs of one machine
    Dump(Export),
    /// Write all of a cluster into a new file, for `cluster restore`
    Backup(Export),
    /// Fill a new cluster from a backup, and compare the two
    Restore(Restore),
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
struct Add {
    /// The directory that `cluster init` made
    directory: PathBuf,
    /// The address of the new node
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The first of the three ports that it listens on; free ones of this machine if it is missing
    #[arg(long)]
    port: Option<u16>,
}

#[derive(Debug, Args)]
struct Remove {
    #[command(flatten)]
    target: Target,
    /// The number of the node
    node: u64,
}

#[derive(Debug, Args)]
struct Load {
    /// The database file, which may be in use
    file: PathBuf,
    /// The cluster: cluster:DIR/client.toml, or cluster://HOST:PORT,HOST:PORT
    #[arg(required_unless_present = "dry_run")]
    address: Option<String>,
    /// Only say what a cluster would take over, and what it cannot
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    options: LoadOptions,
}

#[derive(Debug, Args)]
struct Restore {
    #[command(flatten)]
    target: Target,
    /// A file of `cluster backup`
    backup: PathBuf,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct LoadOptions {
    /// Leave a table with its indexes and triggers out, or an index, a view or a trigger; may be repeated
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// How long to wait for the cluster at first
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    timeout: Duration,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    target: Target,
    /// A new file
    file: PathBuf,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct Doctor {
    #[command(flatten)]
    target: Target,
    /// A JSON array with an object for each finding
    #[arg(long)]
    json: bool,
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
    #[command(flatten)]
    sql: Sql,
    /// Say nothing about success
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct Sql {
    /// One statement, or for `exec` several separated by `;` that run in one transaction; `-` reads
    /// standard input
    sql: String,
    /// The values of the parameters ?1, ?2 … of a single statement, as `penholder exec` reads them
    #[arg(allow_negative_numbers = true)]
    params: Vec<String>,
    /// The value of a parameter :NAME, @NAME or $NAME; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE")]
    param: Vec<String>,
}

#[derive(Debug, Args)]
struct QueryArguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    sql: Sql,
    /// Print one JSON array of objects
    #[arg(long, conflicts_with_all = ["csv", "table", "scalar"])]
    json: bool,
    /// Print CSV with a header (default on a pipe)
    #[arg(long, conflicts_with_all = ["table", "scalar"])]
    csv: bool,
    /// Print a table (default on a terminal)
    #[arg(long, conflicts_with = "scalar")]
    table: bool,
    /// Print one value by itself, for example to assign it in a script
    #[arg(long)]
    scalar: bool,
    /// Print CSV or a table without the names of the columns
    #[arg(long, conflicts_with_all = ["json", "scalar"])]
    no_header: bool,
    /// What any node knows, without asking the others; perhaps old
    #[arg(long)]
    stale: bool,
}

impl QueryArguments {
    fn format(&self) -> Format {
        let has_header = !self.no_header;
        if self.json {
            Format::Json
        } else if self.scalar {
            Format::Scalar
        } else if self.table || (!self.csv && io::stdout().is_terminal()) {
            Format::Table { has_header }
        } else {
            Format::Csv { has_header }
        }
    }
}

#[derive(Debug, Args)]
struct Import {
    #[command(flatten)]
    target: Target,
    /// The table to import into; it must exist
    table: String,
    /// The file to import
    file: PathBuf,
    /// Skip the first N rows of the file, to continue where an import stopped
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    #[command(flatten)]
    reading: Reading,
    /// No progress bar and no report
    #[arg(long, short)]
    quiet: bool,
}

/// How the file is read, as `penholder import --help` says it.
#[derive(Debug, Args)]
struct Reading {
    /// csv or jsonl
    #[arg(long)]
    format: Option<String>,
    /// Field delimiter of a CSV file
    #[arg(long, value_name = "CHAR", allow_hyphen_values = true)]
    delimiter: Option<String>,
    /// Quote character of a CSV file
    #[arg(long, value_name = "CHAR", allow_hyphen_values = true)]
    quote: Option<String>,
    /// Encoding of the file
    #[arg(long, value_name = "NAME")]
    encoding: Option<String>,
    /// Store an empty CSV field as NULL
    #[arg(long, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    empty_as_null: Option<String>,
    /// What an empty line is in a CSV file of one column
    #[arg(long)]
    empty_lines: Option<String>,
    /// What an unquoted CSV field like X'0A' is
    #[arg(long)]
    blobs: Option<String>,
    /// Accept CSV rows with fewer fields than the header
    #[arg(long)]
    ragged: bool,
    /// Leave out fields for which the table has no column
    #[arg(long)]
    ignore_unknown: bool,
    /// Store what SQLite makes of a number that loses digits
    #[arg(long)]
    lossy: bool,
}

impl Reading {
    /// Returns them as they stand on a command line.
    fn words(&self) -> Vec<String> {
        let values = [
            ("format", &self.format),
            ("delimiter", &self.delimiter),
            ("quote", &self.quote),
            ("encoding", &self.encoding),
            ("empty-as-null", &self.empty_as_null),
            ("empty-lines", &self.empty_lines),
            ("blobs", &self.blobs),
        ];
        let flags = [
            ("ragged", self.ragged),
            ("ignore-unknown", self.ignore_unknown),
            ("lossy", self.lossy),
        ];
        let values = values.into_iter().filter_map(|(name, value)| {
            let value = value.as_ref()?;
            Some(format!("--{name}={value}"))
        });
        let flags = flags.into_iter().filter(|(_, is_given)| *is_given);
        values
            .chain(flags.map(|(name, _)| format!("--{name}")))
            .collect()
    }
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
            if !failure.is_silent() {
                // Nobody may read it.
                let _ = writeln!(io::stderr(), "penholder: {failure}");
            }
            failure.code.into()
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Cluster { command } => cluster(command),
        Command::Doctor(doctor) => block_on(self::doctor(doctor)),
        Command::Serve(serve) => self::serve(&serve),
        Command::Exec(exec) => block_on(self::exec(exec)),
        Command::Query(query) => block_on(self::query(query)),
        Command::Import(import) => block_on(self::import(import)),
        Command::Status(status) => block_on(self::status(status)),
        Command::Stress(stress) => block_on(self::stress(stress)),
    }
}

fn cluster(command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Init(new) => begin(&new),
        ClusterCommand::Add(add) => self::add(&add),
        ClusterCommand::Remove(remove) => block_on(self::remove(remove)),
        ClusterCommand::Load(load) => block_on(self::load(load)),
        ClusterCommand::Dump(export) => {
            block_on(or_interrupted(self::export(export, Purpose::Dump)))
        }
        ClusterCommand::Backup(export) => {
            block_on(or_interrupted(self::export(export, Purpose::Backup)))
        }
        ClusterCommand::Restore(restore) => block_on(self::restore(restore)),
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

fn add(arguments: &Add) -> Result<(), Failure> {
    let place = Place {
        host: &arguments.host,
        port: arguments.port,
    };
    let file = added_node::add(&arguments.directory, &place)?;
    print(&format!(
        "made; start it, and it becomes a member:\n  penholder serve {}\nthe other files of the directory name it \
         too; clients that run learn of it from the other nodes\n",
        shell_path(&file)
    ))
}

async fn remove(arguments: Remove) -> Result<(), Failure> {
    let cluster = reach(&arguments.target).await?;
    cluster.remove(arguments.node).await?;
    print(&format!(
        "node {} is no member any more: end it, and remove its data directory and its node-{}.toml, because it \
         would become a member again\n",
        arguments.node, arguments.node
    ))
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
    let has_proxy = PROXIES.iter().any(|name| env::var_os(name).is_some());
    if wanted.iter().all(is_set) && !has_proxy {
        return Ok(());
    }
    let failed = |error: io::Error| Failure::new(format!("serve: start again: {error}"));
    let mut again = Process::new(env::current_exe().map_err(failed)?);
    again
        .args(env::args_os().skip(1))
        .envs(wanted)
        .env_remove("SSL_CERT_DIR");
    for name in PROXIES {
        again.env_remove(name);
    }
    Err(failed(std::os::unix::process::CommandExt::exec(&mut again)))
}

async fn exec(arguments: Exec) -> Result<(), Failure> {
    let queries = arguments.sql.queries("exec")?;
    if queries.is_empty() {
        return Err(Failure::new("exec: there is no statement: give one"));
    }
    let cluster = reach(&arguments.target).await?;
    let executed = cluster.batch(queries).await?;
    if !arguments.quiet {
        let changed = executed.iter().map(|executed| executed.rows_changed).sum();
        let changed = load::counted(changed, "row");
        let _ = writeln!(io::stderr(), "penholder: {changed} changed");
    }
    Ok(())
}

async fn query(arguments: QueryArguments) -> Result<(), Failure> {
    let queries = arguments.sql.queries("query")?;
    let Ok([query]) = <[Query; 1]>::try_from(queries) else {
        return Err(Failure::new(
            "query: a cluster answers one statement: give each by itself",
        ));
    };
    let mut cluster = reach(&arguments.target).await?;
    if arguments.stale {
        cluster = cluster.stale();
    }
    let (sql, values) = query.into_parts()?;
    let rows = cluster.query(sql, values).await?;
    rows_text::print(&rows, arguments.format()).or_else(|error| match error {
        PrintError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        PrintError::Io(error) => Err(Failure::new(format!("write to standard output: {error}"))),
        PrintError::NoScalar { rows, columns } => Err(Failure::new(format!(
            "query: --scalar prints one value, and the result has {} of {}",
            load::counted(rows as u64, "row"),
            load::counted(columns as u64, "column")
        ))),
    })
}

impl Sql {
    fn queries(&self, what: &str) -> Result<Vec<Query>, Failure> {
        let sql = script::read(what, &self.sql)?;
        Parameters::of(&self.params, &self.param)?.bind(what, &sql)
    }
}

async fn import(arguments: Import) -> Result<(), Failure> {
    let cluster = reach(&arguments.target).await?;
    let import = import::Import {
        table: &arguments.table,
        file: &arguments.file,
        skip: arguments.skip,
        options: arguments.reading.words(),
    };
    let staging = import::stage(&cluster, &import).await?;
    let progress = Progress::of_rows(staging.rows()?, arguments.quiet);
    let writing = staging.write(&cluster, &import, |rows| progress.set(rows));
    let rows = or_interrupted(writing).await?;
    drop(progress);
    if !arguments.quiet {
        let rows = load::counted(rows, "row");
        let _ = writeln!(
            io::stderr(),
            "penholder: {rows} imported into {}",
            import.table
        );
    }
    Ok(())
}

async fn status(arguments: Status) -> Result<(), Failure> {
    let cluster = reach(&arguments.target).await?;
    let statuses = cluster.statuses().await;
    let text = match arguments.json {
        true => status::json(&statuses),
        false => status::text(&statuses),
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

async fn doctor(arguments: Doctor) -> Result<(), Failure> {
    let cluster = reach(&arguments.target).await?;
    let findings = doctor::examine(cluster.address(), &cluster.statuses().await);
    let text = match arguments.json {
        true => serde_json::json!(findings).to_string() + "\n",
        false => doctor::text(&findings),
    };
    print(&text)?;
    let worst = findings.iter().map(|finding| finding.severity).max();
    match worst {
        Some(Severity::Error) => Err(Failure::silent(DOCTOR_ERROR)),
        Some(Severity::Warning) => Err(Failure::silent(DOCTOR_WARNING)),
        _ => Ok(()),
    }
}

async fn load(arguments: Load) -> Result<(), Failure> {
    let options = &arguments.options;
    let source = Source::copy_of(&arguments.file)?;
    let plan = planned(&source, &options.without).await?;
    print(&load::text(source.path(), &plan))?;
    let next = "correct a copy of the file, or leave out what is not needed with --without NAME";
    check_plan("load", &plan, next)?;
    let address = match (arguments.dry_run, arguments.address) {
        (false, Some(address)) => address,
        _ => return Ok(()),
    };
    let timeout = options.timeout;
    let target = Target { address, timeout };
    fill(&target, &source, &plan, options.quiet).await
}

async fn restore(arguments: Restore) -> Result<(), Failure> {
    let source = Source::copy_of(&arguments.backup)?;
    if !LoadPlan::is_backup(&source)? {
        return Err(Failure::new(format!(
            "restore: {}: it is no backup of a cluster: use `penholder cluster load`",
            shown_path(source.path())
        )));
    }
    let plan = planned(&source, &[]).await?;
    check_plan("restore", &plan, "use another backup")?;
    fill(&arguments.target, &source, &plan, arguments.quiet).await
}

/// Returns what a cluster takes over of a file, with all problems that are found on this machine.
async fn planned(source: &Source, without: &[String]) -> Result<LoadPlan, Failure> {
    let mut plan = LoadPlan::of(source, without)?;
    if plan.problems.is_empty() {
        plan.problems = load::rehearse(source, &plan).await?;
    }
    Ok(plan)
}

/// Refuses a file of which a cluster cannot take over everything.
fn check_plan(what: &str, plan: &LoadPlan, next: &str) -> Result<(), Failure> {
    if plan.problems.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{what}: a cluster cannot take over all of it; nothing was loaded:\n  {}\n  {next}",
        plan.problems.join("\n  ")
    )))
}

async fn fill(
    target: &Target,
    source: &Source,
    plan: &LoadPlan,
    is_quiet: bool,
) -> Result<(), Failure> {
    let cluster = reach(target).await?;
    let progress = Progress::of_rows(plan.rows(), is_quiet);
    let loading = load::load(&cluster, source, plan, |rows| progress.set(rows));
    or_interrupted(loading).await?;
    drop(progress);
    load::verify(&cluster, plan).await?;
    print(&format!(
        "loaded into {} and compared: {}\n",
        cluster.address(),
        load::counted(plan.rows(), "row")
    ))
}

async fn export(arguments: Export, purpose: Purpose) -> Result<(), Failure> {
    let cluster = reach(&arguments.target).await?;
    let progress = Progress::of_bytes(arguments.quiet);
    let set = |done, length| progress.set_of(done, length);
    let bytes = dump::write(&cluster, &arguments.file, purpose, set).await?;
    drop(progress);
    print(&format!(
        "{bytes} bytes in {}\n",
        shown_path(&arguments.file)
    ))
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

/// Ends work when the user or the system asks for that, so that temporary files are removed.
async fn or_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let failed = |error: io::Error| Failure::new(format!("wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let text = "interrupted: what was written to the cluster by then stays there";
    tokio::select! {
        done = work => done,
        _ = terminate.recv() => Err(Failure::with_code(text, 128 + 15)),
        _ = interrupt.recv() => Err(Failure::with_code(text, 128 + 2)),
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::with_code(error.to_string(), FAILED))?;
    runtime.block_on(work)
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
