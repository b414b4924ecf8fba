//! The interface: every command, option and default.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use penholder::lock::EventKind;
use penholder::{Options, Synchronous};

/// Many processes, one SQLite database, one pen.
///
/// penholder takes a lock file beside the database (db.lock) before it writes,
/// so that programs wait for one another instead of failing with "database is
/// locked", and a timeout says who is in the way.
#[derive(Debug, Parser)]
#[command(
    name = "penholder",
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
  penholder stress demo.db                     see it work: 8 processes at once
  penholder exec app.db 'INSERT INTO t VALUES (?1)' 42
  penholder query app.db 'SELECT * FROM t' --json
  penholder import app.db t rows.csv           others get their turn meanwhile
  penholder status app.db                      who holds the pen?
  penholder doctor app.db                      what is wrong, and what to do?
  penholder top app.db                         the same, live
  penholder run app.db -- ./nightly-import     hold the pen while a program runs

Exit codes:
  0    done
  1    SQL failed, a check failed, or a file cannot be used
  2    the command line was not understood
  3    an import stopped halfway: it says how many rows are in, how to go on;
       or the worst finding of doctor is a warning
  4    the worst finding of doctor is an error
  75   the write lock (or SQLite's own lock) was not free in time
  run  exits with the command's own code; 126 it cannot be started, 127 it is
       not found, 128+N it was ended by signal N";

fn version() -> String {
    let own = env!("CARGO_PKG_VERSION");
    format!("{own} (SQLite {})", penholder::sqlite_version())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write one database from many processes at once, and check the result
    Stress(Stress),
    #[command(hide = true)]
    StressWorker(StressWorker),
    /// Run SQL that writes, under the write lock; creates a missing database
    Exec(Exec),
    /// Run SQL that reads; never waits for the write lock
    Query(Query),
    /// Write the rows of a CSV or JSON lines file into a table, in short batches,
    /// between which others write
    Import(Import),
    /// Say who holds the write lock; only looks
    Status(Status),
    /// Say what is wrong with a database, or may go wrong, and what to do; only looks
    Doctor(Doctor),
    /// Say what was notable lately: timeouts, recoveries, long holds; only looks
    History(History),
    /// Watch who holds the write lock and who waits, live; only looks
    Top(Top),
    /// Hold the write lock while a command runs
    Run(Run),
    /// Move the log (-wal) into the database and empty it
    Checkpoint(Maintain),
    /// Copy the database as it is this moment; writers go on meanwhile
    Backup(Backup),
    /// Rebuild the database file without its free pages; everybody waits
    Vacuum(Maintain),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Which database, and how it is locked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// The database file
    #[arg(value_name = "DB")]
    pub(crate) db: PathBuf,
    /// Use this lock file instead of db.lock in the database's folder; everybody
    /// who writes the database must name the same
    #[arg(long, value_name = "FILE")]
    pub(crate) lock_file: Option<PathBuf>,
    /// Work on a network file system too: right only if no other machine writes
    #[arg(long)]
    pub(crate) allow_network_fs: bool,
}

impl Target {
    /// The library's options for this database.
    pub(crate) fn options(&self) -> Options {
        let options = Options::new().allow_network_fs(self.allow_network_fs);
        match &self.lock_file {
            Some(path) => options.lock_path(path),
            None => options,
        }
    }
}

/// How long to wait.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Timeout {
    /// How long to wait for everybody else, for example 500ms, 10s, 1.5m
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Stress {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How many processes write at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) processes: u32,
    /// How many rows each of them writes, each in a transaction of its own
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) writes: u32,
    /// What a commit waits for: with `full` it survives a power cut
    #[arg(long, value_enum, default_value = "normal")]
    pub(crate) sync: Sync,
    /// How long each write may wait, for example 10s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Write into a database that has other tables too
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StressWorker {
    #[command(flatten)]
    pub(crate) target: Target,
    #[arg(long)]
    pub(crate) run: i64,
    #[arg(long)]
    pub(crate) process: u32,
    #[arg(long)]
    pub(crate) writes: u32,
    #[arg(long, value_enum)]
    pub(crate) sync: Sync,
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Sync {
    /// Survives the death of every process
    Normal,
    /// Survives a power cut too
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
    /// One statement, or several separated by `;` (all or nothing); `-` reads
    /// them from standard input
    #[arg(value_name = "SQL")]
    pub(crate) sql: String,
    /// Values for ?1, ?2 … of a single statement
    #[arg(value_name = "PARAM", allow_negative_numbers = true)]
    pub(crate) params: Vec<String>,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    /// What this is for: shown to whoever waits
    #[arg(long)]
    pub(crate) label: Option<String>,
}

const PARAM_HELP: &str = "\
A PARAM that reads as an integer or a real number is bound as one; null: is
NULL; text:… is always text; anything else is text. Put -- before a PARAM that
begins with a dash.";

const EXEC_HELP: &str = "\
A database that is new, or was not yet in WAL mode, is waited for twice, each
time up to the timeout: to set that mode, and to write.

Statements run in one transaction, where SQLite ignores PRAGMA foreign_keys=…:
it is refused.";

#[derive(Debug, clap::Args)]
#[command(after_help = PARAM_HELP)]
pub(crate) struct Query {
    #[command(flatten)]
    pub(crate) target: Target,
    /// One statement
    #[arg(value_name = "SQL")]
    pub(crate) sql: String,
    /// Values for ?1, ?2 … of the statement
    #[arg(value_name = "PARAM", allow_negative_numbers = true)]
    pub(crate) params: Vec<String>,
    /// Print one JSON array of objects
    #[arg(long, group = "format")]
    pub(crate) json: bool,
    /// Print CSV with a header (the default on a pipe)
    #[arg(long, group = "format")]
    pub(crate) csv: bool,
    /// Print a table (the default on a terminal)
    #[arg(long, group = "format")]
    pub(crate) table: bool,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
}

#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_HELP)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The table; it must exist
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// The file; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// What is in the file, if its name does not end in .csv, .tsv, .jsonl,
    /// .ndjson or .json
    #[arg(long, value_enum)]
    pub(crate) format: Option<ImportFormat>,
    /// What stands between the fields of a CSV file: one ASCII character, or
    /// `tab` [default: a comma; a tab for .tsv]
    #[arg(long, value_name = "CHAR", value_parser = delimiter, allow_hyphen_values = true)]
    pub(crate) delimiter: Option<u8>,
    /// Store an empty CSV field as NULL, not as empty text
    #[arg(long)]
    pub(crate) empty_as_null: bool,
    /// Leave out the first N rows of the file: to go on where an import stopped
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) skip: u64,
    /// How long a batch writes at most before others get their turn; one row at
    /// least
    #[arg(long, value_name = "TIME", default_value = "2ms", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) hold: Duration,
    /// All rows in one transaction, or none: nobody else writes until all are in
    #[arg(long, conflicts_with = "hold")]
    pub(crate) atomic: bool,
    /// What a commit waits for: with `full` it survives a power cut
    #[arg(long, value_enum, default_value = "normal")]
    pub(crate) sync: Sync,
    /// How long each batch waits for everybody else, for example 500ms, 10s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
    /// What this is for: shown to whoever waits
    #[arg(long, default_value = "import")]
    pub(crate) label: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    /// Rows of fields, the first with the names of the columns
    Csv,
    /// One JSON object on each line
    Jsonl,
}

const IMPORT_HELP: &str = "\
The file is read twice (standard input is kept in a temporary file, in TMPDIR).
First every row is checked: UTF-8, columns that the table has, as many fields as
the header, one JSON object a line. A row that is malformed is reported with its
line, and nothing is imported. Empty lines are left out. Then the rows are
written. Columns that the file does not name, and keys that an object does not
have, get their default.

CSV values are text, which SQLite converts as the type of the column asks. JSON
numbers and text are stored as they are, null as NULL, true and false as 1 and
0, arrays and objects as JSON text.

At a row that the database refuses (a constraint, a trigger) the import stops:
the rows before it are in. So are those of finished batches after Ctrl-C, a
timeout or a kill. The message says how many, and the --skip to go on with. A
second Ctrl-C ends it at once, without a message.

Exit codes:
  0    all rows are in
  1    nothing was imported
  3    it stopped halfway; the rows before are in
  75   the lock was not free in time; the rows before are in
  130  it was interrupted (143: asked to end); the rows before are in";

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
Nothing is changed, and the write lock is not taken. Processes of other users are
seen by root only.

Exit codes:
  0  nothing is wrong
  1  there is no database to be examined
  3  the worst finding is a warning: it works, and may fail later, or for others
  4  the worst finding is an error: it does not work now")]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Read the whole content too, for corruption and unmet foreign keys
    #[arg(long)]
    pub(crate) integrity: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// The timeout that your programs write with; a longer hold is a warning
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
It stands in the queue's file (db.lockq), which keeps the last 64 events. It
ends with that file: when the machine starts anew, or when somebody deletes it.
An event is about a process if it did something, or something was done to it.")]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only events about this process
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
    /// Only events of this kind; may be given several times
    #[arg(long, value_enum)]
    pub(crate) kind: Vec<Kind>,
    /// Only what took at least so long, for example 500ms, 10s, 1.5m
    #[arg(long, value_name = "TIME", default_value = "0s", hide_default_value = true, value_parser = duration, allow_hyphen_values = true)]
    pub(crate) longer: Duration,
    /// Only the last so many
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the earliest first, and further ones as they come, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Keys:
  up, down     select a process
  d, Enter     show all that is known of it
  p, space     pause
  q, Esc       quit

It looks at the queue's file (db.lockq), which costs next to nothing and is in
nobody's way. So it does not see a holder that does not queue, like a plain
flock: 'penholder status' does.

On a pipe it prints one text, after one interval; with --interval one after
each, until Ctrl-C or nobody reads them.")]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How often it looks, for example 200ms, 5s; 1s if not said
    #[arg(short, long, value_name = "TIME", value_parser = interval, allow_hyphen_values = true)]
    pub(crate) interval: Option<Duration>,
    /// Print one text and end, on a terminal too
    #[arg(long)]
    pub(crate) once: bool,
}

/// What kind of event.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    /// The lock was held for longer than 500ms
    LongHold,
    /// Somebody gave up at its deadline
    Timeout,
    /// The lock was taken from a holder that had died
    Recovery,
    /// Somebody who does not queue held the lock
    Bypass,
    /// A waiter did not come when it was its turn
    PassedOver,
    /// A process did writes of others that waited
    Carried,
}

impl From<Kind> for EventKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::LongHold => Self::LongHold,
            Kind::Timeout => Self::Timeout,
            Kind::Recovery => Self::Recovery,
            Kind::Bypass => Self::Bypass,
            Kind::PassedOver => Self::PassedOver,
            Kind::Carried => Self::Carried,
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
penholder used inside CMD works under this hold: it does not wait for it, and
several inside exclude one another. Signals sent to penholder are passed on.")]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Wait at most this many seconds for the lock
    #[arg(short, long, value_name = "SECONDS", default_value = "10", value_parser = seconds, allow_hyphen_values = true, conflicts_with = "nonblock")]
    pub(crate) wait: Duration,
    /// Do not wait at all
    #[arg(short, long)]
    pub(crate) nonblock: bool,
    /// The exit code when the lock was not free in time
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = 75)]
    pub(crate) conflict_exit_code: u8,
    /// What this is for: shown to whoever waits
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Maintain {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
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
}

fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "give a number with a unit, like 500ms, 10s or 1.5m";
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    Duration::try_from(parsed).map_err(|_| "it cannot be negative".to_owned())
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [b'"' | b'\n' | b'\r'] => Err("it cannot be a quote or a line end".to_owned()),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("give one ASCII character, or tab".to_owned()),
    }
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

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "give a number of seconds, like 2 or 0.5")?;
    Duration::try_from_secs_f64(number)
        .map_err(|_| "it must be zero or more, and not absurd".to_owned())
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
    fn durations_need_a_unit_and_sense() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "10", "-1s", "soon", "99999999999999999999h", "1e9s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "x", "-1", "nan", "inf", "1e30"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
