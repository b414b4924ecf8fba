//! The interface: every subcommand, option and default.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValue, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use encoding_rs::Encoding;
use penholder::lock::{EventKind, WriteLocker};
use penholder::{CommitToken, OpenOptions, Synchronous};
use penholder_core::shown_path;

use crate::failure::{FAILED, Failure, USAGE, say};
use crate::output;

/// Many processes, one SQLite database, one pen.
///
/// penholder locks a file next to the database (db.lock) before it writes.
/// Programs wait for one another instead of failing with "database is locked",
/// and a timeout names the process that is in the way.
#[derive(Debug, Parser)]
#[command(
    name = "penholder",
    bin_name = "penholder",
    version = version(),
    arg_required_else_help = true,
    propagate_version = false,
    after_help = AFTER_HELP
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  penholder stress demo.db                     try it: 8 processes write at once
  penholder stress demo.db --beside sqlite     compared with SQLite alone
  penholder exec app.db 'INSERT INTO t VALUES (?1)' 42
  penholder query app.db 'SELECT * FROM t' --json
  penholder import app.db t rows.csv           others write in between
  penholder status app.db                      who holds the pen?
  penholder top app.db                         the same, live
  penholder doctor app.db                      what is wrong, and what to do?
  penholder run app.db ./nightly-import        hold the pen while a program runs
  penholder wait app.db --exec ./work          run a program after each commit

Exit codes:
  0    success
  1    SQL failed, a check failed, or a file cannot be used
  2    the command line is invalid
  3    import: stopped halfway; the message says how to continue
       doctor: the worst finding is a warning
  4    doctor: the worst finding is an error
  75   the write lock, or SQLite's own lock, was not free in time; wait: there
       was no commit in time
  128+N  signal N ended it: 130 after Ctrl-C, 143 after kill
  run exits with the code of its command, with 126 if it cannot be started, with
  127 if it is not found, and with 128+N if signal N ended it";

fn version() -> String {
    let own = env!("CARGO_PKG_VERSION");
    format!("{own} (SQLite {})", penholder::sqlite_version())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write to one database from many processes at once, and check the result
    Stress(Stress),
    #[command(hide = true)]
    StressWorker(StressWorker),
    /// Run SQL that writes, under the write lock; a missing database is created
    Exec(Exec),
    /// Run SQL that reads; never waits for the write lock
    Query(Query),
    /// Import rows from a CSV or JSON file, in short batches between which others
    /// write
    Import(Import),
    /// Show who holds the write lock and who waits; changes nothing
    Status(Status),
    /// Find problems with a database, and say what to do; changes nothing
    Doctor(Doctor),
    /// Show recent events, such as timeouts, recoveries and long holds; changes nothing
    History(History),
    /// Show who holds the write lock and who waits, live; changes nothing
    Top(Top),
    /// Hold the write lock while a command runs
    Run(Run),
    /// Wait until a process has committed to the database, and print a token
    Wait(Wait),
    /// Move the WAL into the database and truncate it
    Checkpoint(Maintain),
    /// Copy the database in its current state; others may write meanwhile
    Backup(Backup),
    /// Put the content of a backup into the database; programs that use it go on
    Restore(Restore),
    /// Rebuild the database file without free pages; others wait meanwhile
    Vacuum(Maintain),
    /// Make a cluster of several machines, by the program penholder-cluster
    #[command(disable_help_flag = true)]
    Cluster(OfCluster),
    /// Run one node of a cluster, by the program penholder-cluster
    #[command(disable_help_flag = true)]
    Serve(OfCluster),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages, one for each command
    #[command(hide = true)]
    Man {
        /// The directory to write them into; it is created if it is missing
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

/// The words of a command line that penholder-cluster reads.
#[derive(Debug, clap::Args)]
pub(crate) struct OfCluster {
    /// As in `penholder cluster --help`, if that program is installed
    #[arg(
        value_name = "WORD",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    _words: Vec<OsString>,
}

/// The database, and how it is locked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// The database file
    #[arg(value_name = "DB")]
    pub(crate) db: PathBuf,
    /// Use this lock file instead of db.lock in the directory of the database; the
    /// programs that write to the database must all use the same one
    #[arg(long, value_name = "FILE")]
    pub(crate) lock_file: Option<PathBuf>,
    /// Allow a network file system; safe only if no other machine writes
    #[arg(long)]
    pub(crate) allow_network_fs: bool,
    /// Allow a database that is mounted as a single file; safe only if no other
    /// process opens it
    #[arg(long)]
    pub(crate) allow_file_mount: bool,
}

impl Target {
    /// The options to open this database with.
    pub(crate) fn options(&self) -> OpenOptions {
        let options = OpenOptions::new()
            .allow_network_fs(self.allow_network_fs)
            .allow_file_mount(self.allow_file_mount);
        match &self.lock_file {
            Some(path) => options.lock_file(path),
            None => options,
        }
    }

    /// The lock of an existing database, for a subcommand that changes nothing.
    pub(crate) fn existing_locker(&self, command: &str) -> Result<WriteLocker, Failure> {
        let locker = self.options().locker(&self.db)?;
        if self.db.exists() || is_about_to_create(&locker) {
            return Ok(locker);
        }
        Err(self.missing(command, "check the name"))
    }

    /// Says that there is no such database.
    pub(crate) fn missing(&self, command: &str, next: &str) -> Failure {
        let db = shown_path(&self.db);
        let message = format!("{command}: {db}: there is no such database: {next}");
        Failure::new(message, FAILED)
    }
}

/// Whether a process holds the lock to create the database of this locker.
fn is_about_to_create(locker: &WriteLocker) -> bool {
    let status = locker.status();
    status.is_ok_and(|status| {
        let holder = status.holder.as_ref();
        holder.is_some_and(|holder| holder.database.is_some()) && !status.has_other_database
    })
}

/// How long to wait.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Timeout {
    /// How long to wait for other processes, for example 500ms, 10s, 1.5m; a plain
    /// number means seconds
    #[arg(long, value_name = "TIME", default_value = "500ms", env = TIMEOUT, hide_env_values = true, value_parser = timeout_or(SHORT_TIMEOUT), allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
}

/// What a command says when it succeeds.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Quiet {
    /// Say nothing about success; warnings and errors are still printed
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl Quiet {
    /// Prints a message about success on standard error.
    pub(crate) fn say(&self, message: impl Display) {
        if !self.quiet {
            say(message);
        }
    }

    /// Prints a report about success on standard output.
    pub(crate) fn print(&self, report: &str) -> Result<ExitCode, Failure> {
        if self.quiet {
            return Ok(ExitCode::SUCCESS);
        }
        output::print_text(report)
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = STRESS_HELP)]
pub(crate) struct Stress {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Number of processes that write at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) processes: u32,
    #[command(flatten)]
    pub(crate) amount: Amount,
    /// What a commit survives
    #[arg(long, value_enum, default_value = "normal")]
    pub(crate) sync: Sync,
    /// How long each write waits, for example 10s
    #[arg(long, value_name = "TIME", default_value = "10s", env = TIMEOUT, hide_env_values = true, value_parser = timeout_or(LONG_TIMEOUT), allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
    /// Do the same work first without penholder, in the new file DB-plain, which is
    /// removed afterwards
    #[arg(long, value_enum, value_name = "PEER")]
    pub(crate) beside: Option<Peer>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Print no report if every write was acknowledged and found
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Use a database that has other tables too
    #[arg(long)]
    pub(crate) force: bool,
}

/// How much each process writes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Amount {
    /// How long each process writes rows, each in its own transaction
    #[arg(long = "for", value_name = "TIME", default_value = "2s", value_parser = time_to_write, allow_hyphen_values = true)]
    pub(crate) time: Duration,
    /// Number of rows that each process writes, however long it takes
    #[arg(long, value_name = "N", conflicts_with = "time", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) writes: Option<u32>,
}

/// What writes without penholder.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Peer {
    /// SQLite alone: WAL, BEGIN IMMEDIATE, prepared statements, and --timeout as the
    /// busy timeout
    Sqlite,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StressWorker {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Write without penholder.
    #[arg(long, value_enum)]
    pub(crate) peer: Option<Peer>,
    #[arg(long)]
    pub(crate) run: i64,
    #[arg(long)]
    pub(crate) process: u32,
    #[command(flatten)]
    pub(crate) amount: Amount,
    #[arg(long, value_enum)]
    pub(crate) sync: Sync,
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Sync {
    /// The death of any process
    Normal,
    /// A power cut too
    Full,
}

impl From<Sync> for Synchronous {
    fn from(sync: Sync) -> Self {
        match sync {
            Sync::Normal => Self::Normal,
            Sync::Full => Self::Full,
        }
    }
}

impl Sync {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = format!("{PARAM_HELP}\n\n{EXEC_HELP}"))]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) target: Target,
    /// One statement, or several separated by `;` that run in one transaction; `-`
    /// reads standard input
    #[arg(value_name = "SQL")]
    pub(crate) sql: String,
    /// Values for ?1, ?2 … of a single statement
    #[arg(value_name = "PARAM", allow_negative_numbers = true)]
    pub(crate) params: Vec<String>,
    /// The value of a parameter :NAME, @NAME or $NAME of any statement; may be given
    /// several times
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    pub(crate) named: Vec<String>,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) quiet: Quiet,
    /// Purpose of this hold, shown to processes that wait
    #[arg(long)]
    pub(crate) label: Option<String>,
}

const STRESS_HELP: &str = "\
The exit code is 0 if every write was acknowledged, every row was found and the
database is sound. It does not depend on the result of --beside.

The report with --json has processes, processes_lost (ended early or did not
answer), writes_expected, rows_found, failed (not acknowledged), elapsed_s,
writes_per_s, wait_us (of acknowledged writes in microseconds: p50, p90, p99,
p999, max), per_process (writes per second of the slowest and the fastest
process: min, max), jain (1 is perfectly fair) and integrity. With --beside it
has two such objects: sqlite and penholder.";

const PARAM_HELP: &str = "\
A PARAM is text, and a column converts it as its type says. It is a number only
if it is written as SQLite prints one: 42, -7 and 1.5 are, 007, +49, 1.10 and
1e5 are not. `null:` is NULL, `text:42` the text 42. Put -- before a PARAM that
begins with a dash.";

const EXEC_HELP: &str = "\
A database that is not yet in WAL mode needs two waits, each up to the timeout:
one to set WAL mode, and one to write.

The statements run in one transaction; BEGIN and COMMIT may wrap them all, as in
a dump. Pragmas that SQLite ignores in a transaction, such as foreign_keys, work
in front of the other statements. A pragma without effect is an error.

If the statements fail, a missing database is not created.";

#[derive(Debug, clap::Args)]
#[command(after_help = PARAM_HELP)]
pub(crate) struct Query {
    #[command(flatten)]
    pub(crate) target: Target,
    /// One statement, or several separated by `;`, which see the same state; `-`
    /// reads standard input
    #[arg(value_name = "SQL")]
    pub(crate) sql: String,
    /// Values for ?1, ?2 … of the statement
    #[arg(value_name = "PARAM", allow_negative_numbers = true)]
    pub(crate) params: Vec<String>,
    /// The value of a parameter :NAME, @NAME or $NAME; may be given several times
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    pub(crate) named: Vec<String>,
    /// Print one JSON array of objects
    #[arg(long, group = "format")]
    pub(crate) json: bool,
    /// Print CSV with a header (default on a pipe)
    #[arg(long, group = "format")]
    pub(crate) csv: bool,
    /// Print a table (default on a terminal)
    #[arg(long, group = "format")]
    pub(crate) table: bool,
    /// Print one value by itself, for example to assign it in a script
    #[arg(long, group = "format")]
    pub(crate) scalar: bool,
    /// Print CSV or a table without the names of the columns
    #[arg(long, conflicts_with_all = ["json", "scalar"])]
    pub(crate) no_header: bool,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
}

#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_HELP)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The table to import into; it must exist
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// The file to import; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Format of the file [default: by its extension: .csv, .tsv, .jsonl, .ndjson
    /// or .json]
    #[arg(long, value_enum)]
    pub(crate) format: Option<ImportFormat>,
    /// Field delimiter of a CSV file: one ASCII character, or `tab` [default: a
    /// comma; a tab for .tsv]
    #[arg(long, value_name = "CHAR", value_parser = delimiter, allow_hyphen_values = true)]
    pub(crate) delimiter: Option<u8>,
    /// Quote character of a CSV file: one ASCII character, or `none` if quotes are
    /// ordinary characters [default: "; none for .tsv]
    #[arg(long, value_name = "CHAR", value_parser = quote, allow_hyphen_values = true)]
    pub(crate) quote: Option<Quote>,
    /// Encoding of the file, like windows-1252 or utf-16le [default: UTF-8, or UTF-16
    /// if the file begins with a byte order mark]
    #[arg(long, value_name = "NAME", value_parser = encoding)]
    pub(crate) encoding: Option<&'static Encoding>,
    /// Store an empty CSV field as NULL instead of empty text; `unquoted` keeps empty
    /// text in quotes [default without a value: all]
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "all", hide_possible_values = true)]
    pub(crate) empty_as_null: Option<EmptyFields>,
    /// What an empty line is in a CSV file of one column [default: an error; with more
    /// columns it is skipped]
    #[arg(long, value_enum)]
    pub(crate) empty_lines: Option<EmptyLines>,
    /// What an unquoted CSV field like X'0A' is [default: a blob in a BLOB column,
    /// elsewhere an error]
    #[arg(long, value_enum)]
    pub(crate) blobs: Option<Blobs>,
    /// Accept CSV rows with fewer fields than the header, and with more if they are
    /// empty
    #[arg(long)]
    pub(crate) ragged: bool,
    /// Leave out fields for which the table has no column
    #[arg(long)]
    pub(crate) ignore_unknown: bool,
    /// Store what SQLite makes of a number that loses digits or leading zeros,
    /// instead of refusing it
    #[arg(long)]
    pub(crate) lossy: bool,
    /// Skip the first N rows of the file, to continue where an import stopped
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) skip: u64,
    /// How long a batch may write before others get their turn; it has at least
    /// one row
    #[arg(long, value_name = "TIME", default_value = "2ms", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) hold: Duration,
    /// Import all rows in one transaction; others wait until it ends
    #[arg(long, conflicts_with = "hold")]
    pub(crate) atomic: bool,
    /// What a commit survives
    #[arg(long, value_enum, default_value = "normal")]
    pub(crate) sync: Sync,
    /// How long each batch waits for other processes, for example 500ms, 10s
    #[arg(long, value_name = "TIME", default_value = "10s", env = TIMEOUT, hide_env_values = true, value_parser = timeout_or(LONG_TIMEOUT), allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) quiet: Quiet,
    /// Purpose of this hold, shown to processes that wait
    #[arg(long, default_value = "import")]
    pub(crate) label: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    /// Rows of fields; the first row has the names of the columns
    Csv,
    /// JSON objects: one on each line, or in an array, or otherwise
    #[value(alias = "json", alias = "ndjson")]
    Jsonl,
}

/// The quote character; `None` if there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quote(pub(crate) Option<u8>);

/// Which empty fields are NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmptyFields {
    All,
    Unquoted,
}

/// What an empty line is where a row has one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmptyLines {
    /// A row with an empty field
    Row,
    /// Nothing
    Skip,
}

/// What an unquoted blob literal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Blobs {
    /// A blob
    Literal,
    /// A text
    Text,
}

const IMPORT_HELP: &str = "\
The file is read twice; standard input, and a file that is not UTF-8, is copied
to a temporary file in TMPDIR for that. First, every row is checked. If one is
malformed, or a value would be changed, the message names its line, and nothing
is imported. Empty lines are skipped, unless the file has one column: then
--empty-lines says what they are. Then the rows are written. A column without
a value gets its default. A column rowid is the key of the row.

CSV values are text, which SQLite converts to the type of the column. A number
that would lose digits or leading zeros, such as 007 or 1e400 in a column of
numbers, is refused; a TEXT column takes everything. JSON numbers and strings
are stored as they are, in a TEXT column with their exact text; null is NULL,
true and false are 1 and 0, arrays and objects their JSON text, and an object
like {\"$base64\": true, \"encoded\": \"AP8=\"} is a blob. What `query --json`
prints is read back to the same content.

If the database refuses a row, for example because of a constraint, the import
stops and keeps the rows before it. After Ctrl-C, a timeout or a kill it keeps
the finished batches. The message says how many rows were imported, and which
--skip continues the import. Ctrl-C ends a wait at once, and otherwise lets the
batch that is being written finish; a second Ctrl-C does not wait for that.

Exit codes:
  0    all rows were imported
  1    nothing was imported
  3    stopped halfway; earlier rows stay
  75   the lock was not free in time; earlier rows stay
  130  interrupted (143: terminated, 129: hung up); earlier rows stay";

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
doctor does not take the write lock. Only root sees the processes of other users.

Exit codes:
  0  nothing is wrong
  1  there is no database to examine
  3  the worst finding is a warning: it works now, but may fail later or for others
  4  the worst finding is an error: it does not work now")]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Also read the whole database, to find corruption and foreign key violations
    #[arg(long)]
    pub(crate) integrity: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// The timeout of your programs; a longer hold is a warning
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The events come from the queue file (db.lockq), which keeps the last 64. They
are lost when the machine reboots, or when the file is deleted. An event is
about a process if the process caused it or was affected by it.")]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Show only events about this process
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
    /// Show only events of this kind; may be given several times
    #[arg(long, value_enum)]
    pub(crate) kind: Vec<Kind>,
    /// Show only events that took at least this long, for example 500ms, 10s, 1.5m
    #[arg(long, value_name = "TIME", default_value = "0s", hide_default_value = true, value_parser = duration, allow_hyphen_values = true)]
    pub(crate) longer: Duration,
    /// Show only the last N events
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the oldest event first, and new ones as they happen, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Keys:
  up, down     select a process
  d, Enter     show all details of the process
  t, c, K      send it TERM, CONT or KILL, after a question
  p, space     pause
  ?            show all keys
  q, Esc       quit

top reads the queue file (db.lockq), which costs almost nothing and does not
disturb other processes. It does not see a holder that does not queue, such as
plain flock; 'penholder status' does.

On a pipe, top prints one report after one interval. With --interval it prints
one after each interval, until Ctrl-C or until its reader is gone.")]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Time between two updates, for example 200ms, 5s [default: 1s]
    #[arg(short, long, value_name = "TIME", value_parser = interval, allow_hyphen_values = true)]
    pub(crate) interval: Option<Duration>,
    /// Print one report and exit, on a terminal too
    #[arg(long)]
    pub(crate) once: bool,
}

/// A kind of event, as a value of `history --kind`.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) event: EventKind,
    name: &'static str,
    help: &'static str,
}

const KINDS: [Kind; 8] = [
    Kind {
        event: EventKind::LongHold,
        name: "long-hold",
        help: "A process held the lock for longer than 500ms",
    },
    Kind {
        event: EventKind::Timeout,
        name: "timeout",
        help: "A process gave up at its deadline",
    },
    Kind {
        event: EventKind::Recovery,
        name: "recovery",
        help: "The lock was taken over from a holder that had died",
    },
    Kind {
        event: EventKind::UnqueuedHolder,
        name: "unqueued-holder",
        help: "A process that does not queue held the lock",
    },
    Kind {
        event: EventKind::PassedOver,
        name: "passed-over",
        help: "A waiter did not take the lock when it was its turn",
    },
    Kind {
        event: EventKind::Combined,
        name: "combined",
        help: "A process did the writes of waiting processes",
    },
    Kind {
        event: EventKind::SqliteBusy,
        name: "sqlite-busy",
        help: "A process wrote without the write lock",
    },
    Kind {
        event: EventKind::OutsiderWrote,
        name: "outsider-wrote",
        help: "The same, in a gap that was left for it",
    },
];

impl ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        &KINDS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.help))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Programs inside CMD that use penholder work under this hold: they do not wait
for it, and exclude one another. Signals to penholder are forwarded to CMD.")]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How long to wait for the lock: a number of seconds, or for example 500ms
    /// [default: 10s, or `PENHOLDER_TIMEOUT`]
    #[arg(short, long, visible_alias = "timeout", value_name = "TIME", value_parser = duration, allow_hyphen_values = true, conflicts_with = "nonblock")]
    pub(crate) wait: Option<Duration>,
    /// Fail at once if the lock is not free, and say nothing
    #[arg(short, long)]
    pub(crate) nonblock: bool,
    /// Exit code if the lock was not free in time
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = 75)]
    pub(crate) conflict_exit_code: u8,
    #[command(flatten)]
    pub(crate) quiet: Quiet,
    /// Purpose of this hold, shown to processes that wait
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Allow a database that does not exist yet, for a command that creates it
    #[arg(long)]
    pub(crate) create: bool,
    /// Run this command line with the shell
    #[arg(short = 'c', long = "command", value_name = "LINE")]
    pub(crate) line: Option<OsString>,
    /// The command and its arguments
    #[arg(
        value_name = "CMD",
        required_unless_present = "line",
        conflicts_with = "line",
        trailing_var_arg = true
    )]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = WAIT_HELP)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Wait for a commit after this token was printed; at once, if there was one, or if
    /// that cannot be told
    #[arg(long, value_name = "TOKEN")]
    pub(crate) since: Option<CommitToken>,
    /// Print the token of this moment, and do not wait
    #[arg(long, conflicts_with_all = ["since", "timeout", "exec"])]
    pub(crate) now: bool,
    /// How long to wait, with --exec for each commit, for example 500ms, 10s, 1.5m; a
    /// plain number means seconds [default: without end]
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// Run this command line with the shell after each commit, until it fails; the
    /// token is in `PENHOLDER_COMMIT`
    #[arg(long, value_name = "LINE")]
    pub(crate) exec: Option<OsString>,
    /// Say nothing if there was no commit in time
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

const WAIT_HELP: &str = "\
A commit through penholder ends the wait at once, one of any other program
within 50 ms. Several commits may end it once, and it may end without a commit,
for example after a checkpoint that truncates the WAL. So look into the database
for what is new.

With --exec, a commit while the command line runs makes it run again. Ctrl-C
lets it finish; a second one does not wait for that.

It needs write permission on the queue file (db.lockq), as a writer does.

Exit codes:
  0    there was a commit
  75   there was none in time
  130  interrupted (143: terminated)
  with --exec: that of the command line, as soon as that fails";

#[derive(Debug, clap::Args)]
pub(crate) struct Maintain {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) quiet: Quiet,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The file to write; it must not exist
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) quiet: Quiet,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Before anything changes, the backup is copied to a temporary file in TMPDIR,
with what its own -wal has, and checked. Then its content replaces that of the
database in one transaction: whatever ends the command early leaves the old
content or the new. A missing database is created.")]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The backup; it is only read
    #[arg(value_name = "BACKUP")]
    pub(crate) backup: PathBuf,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) quiet: Quiet,
}

/// What to do about a text that is no time.
const NOT_A_TIME: &str = "give a time like 500ms, 10s or 1.5m; a plain number means seconds";

/// Reads a time. A plain number means seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if is_number && let Ok(seconds) = text.parse() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| "it is too long".to_owned());
    }
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| NOT_A_TIME.to_owned())?;
    Duration::try_from(parsed).map_err(|_| "it cannot be negative".to_owned())
}

/// The environment variable for how long commands wait.
pub(crate) const TIMEOUT: &str = "PENHOLDER_TIMEOUT";
/// How long commands wait that say `default_value = "500ms"`.
const SHORT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long commands wait that say `default_value = "10s"`.
const LONG_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the timeout of a command that waits for this long by default.
fn timeout_or(default: Duration) -> impl TypedValueParser<Value = Duration> {
    OsStringValueParser::new().try_map(move |text| timeout(&text, default))
}

/// Reads a timeout, which may come from the environment. If it is empty there, it is as if it was
/// not set.
fn timeout(text: &OsStr, default: Duration) -> Result<Duration, String> {
    let is_in_environment = env::var_os(TIMEOUT).is_some_and(|value| value == text);
    if is_in_environment && text.is_empty() {
        return Ok(default);
    }
    let read = text.to_str().map_or(Err(NOT_A_TIME.to_owned()), duration);
    read.map_err(|why| match is_in_environment {
        true => format!("{why} (it comes from {TIMEOUT})"),
        false => why,
    })
}

/// The timeout that the environment has.
///
/// # Errors
///
/// It is no time.
pub(crate) fn timeout_in_environment() -> Result<Option<Duration>, Failure> {
    let Some(text) = env::var_os(TIMEOUT).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let read = text.to_str().map_or(Err(NOT_A_TIME.to_owned()), duration);
    read.map(Some)
        .map_err(|why| Failure::new(format!("{TIMEOUT}: {why}"), USAGE))
}

fn time_to_write(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("give more than 0s, for example 2s".to_owned()),
        time => Ok(time),
    }
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [b'"' | b'\n' | b'\r'] => Err("it cannot be a quote or a line end".to_owned()),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("give one ASCII character, or tab".to_owned()),
    }
}

fn quote(text: &str) -> Result<Quote, String> {
    match text.as_bytes() {
        b"none" => Ok(Quote(None)),
        [b'\n' | b'\r'] => Err("it cannot be a line end".to_owned()),
        [byte] if byte.is_ascii() => Ok(Quote(Some(*byte))),
        _ => Err("give one ASCII character, or none".to_owned()),
    }
}

fn encoding(text: &str) -> Result<&'static Encoding, String> {
    let next = "give a name like utf-8, windows-1252, iso-8859-1 or utf-16le";
    Encoding::for_label(text.as_bytes()).ok_or_else(|| format!("it is unknown: {next}"))
}

fn interval(text: &str) -> Result<Duration, String> {
    const LIMITS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
    let interval = duration(text)?;
    if LIMITS.contains(&interval) {
        Ok(interval)
    } else {
        Err("give a time between 50ms and 1h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_interface_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration(".5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1e2"), Ok(Duration::from_secs(100)));
        for text in [
            "",
            ".",
            "1.2.3",
            "-1",
            "-1s",
            "soon",
            "nan",
            "inf",
            "1e30",
            "1e9s",
            "99999999999999999999",
            "99999999999999999999h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
