//! `penholder import` while other processes write, compared with the `.import` of
//! the `sqlite3` shell, which has the database to itself.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::directory::Directory;
use crate::fixed_rate::Writers;
use crate::machine::Machine;
use crate::penholder_command::{self, PenholderCommand};
use crate::share::{self, Share};
use crate::workload::Workload;
use crate::{clock, statistics};

const IMPORTED: &str = "CREATE TABLE imported(id INTEGER PRIMARY KEY, name TEXT, price REAL)";
/// How long the other processes write before the import starts.
const WARM_UP: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of rows to import
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Number of processes that write during the import
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=1000))]
    writers: u32,
    /// Interval at which each of them writes one row
    #[arg(long, default_value = "20ms", value_parser = clock::parse)]
    every: Duration,
    /// How often everything is measured; medians are reported
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Value of --hold for `penholder import` [default: its own]
    #[arg(long)]
    hold: Option<String>,
    #[command(flatten)]
    penholder: PenholderCommand,
    #[command(flatten)]
    directory: Directory,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let penholder = args.penholder.find()?;
    let has_shell = penholder_command::runs("sqlite3");
    println!("{}", Machine::here(args.directory.path()).hardware);
    println!(
        "{} rows are imported while {} processes write a row every {:?} each\n",
        args.rows, args.writers, args.every
    );
    if !has_shell {
        println!("SKIPPED: there is no sqlite3 shell: no ratio to its rate\n");
    }
    let directory = args.directory.temporary()?;
    let csv = directory.path().join("rows.csv");
    write_csv(&csv, args.rows)?;
    let mut all = Figures::default();
    for run in 1..=args.runs {
        let mut figures = Figures::default();
        if has_shell {
            figures.shell.push(by_shell(args, &csv)?);
        }
        let (seconds, shares) = by_penholder(args, &penholder, &csv)?;
        figures.own.push(seconds);
        figures.shares = shares;
        figures.print(&format!("run {run}"), args.rows)?;
        all.append(figures);
    }
    println!();
    all.print("all", args.rows)
}

fn write_csv(path: &Path, rows: u32) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "id,name,price")?;
    for id in 1..=rows {
        writeln!(
            file,
            "{id},the name of row {id},{}.{:02}",
            id / 100,
            id % 100
        )?;
    }
    file.flush()
}

/// Returns how many seconds the shell takes if no other process writes.
fn by_shell(args: &Args, csv: &Path) -> Result<f64, Box<dyn Error>> {
    let (directory, database) = create(args)?;
    let mut shell = Command::new("sqlite3");
    shell.arg("-batch").arg(&database);
    shell.arg("PRAGMA synchronous=NORMAL");
    shell.arg(format!(
        ".import --csv --skip 1 \"{}\" imported",
        csv.display()
    ));
    let seconds = timed(&mut shell)?;
    check(&database, args.rows)?;
    drop(directory);
    Ok(seconds)
}

/// Returns how many seconds penholder takes, and what the other processes wrote
/// meanwhile.
fn by_penholder(
    args: &Args,
    penholder: &Path,
    csv: &Path,
) -> Result<(f64, Vec<Share>), Box<dyn Error>> {
    let (directory, database) = create(args)?;
    let mut writers = Writers::start(args.writers, args.every, &database)?;
    std::thread::sleep(WARM_UP);
    let mut import = Command::new(penholder);
    import.arg("import").arg(&database).arg("imported").arg(csv);
    if let Some(hold) = &args.hold {
        import.args(["--hold", hold]);
    }
    writers.count()?;
    let seconds = timed(&mut import)?;
    let shares = writers.stop()?;
    check(&database, args.rows)?;
    drop(directory);
    Ok((seconds, shares))
}

fn create(args: &Args) -> Result<(TempDir, PathBuf), Box<dyn Error>> {
    let directory = args.directory.temporary()?;
    let database = directory.path().join("bench.db");
    Workload::Insert.create(&database)?;
    Connection::open(&database)?.execute_batch(IMPORTED)?;
    Ok((directory, database))
}

fn timed(command: &mut Command) -> Result<f64, Box<dyn Error>> {
    let begun = clock::now();
    let output = command.stdin(Stdio::null()).output()?;
    let seconds = clock::micros(clock::now() - begun) / 1e6;
    if output.status.success() {
        return Ok(seconds);
    }
    let program = command.get_program().display();
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("run {program}: {}: {stderr}", output.status).into())
}

fn check(database: &Path, rows: u32) -> Result<(), Box<dyn Error>> {
    let connection = Connection::open(database)?;
    let found: u32 = connection.query_row("SELECT count(*) FROM imported", (), |row| row.get(0))?;
    if found == rows {
        return Ok(());
    }
    Err(format!("the table has {found} of {rows} rows").into())
}

/// The figures of one run or of several.
#[derive(Default)]
struct Figures {
    /// Seconds that the shell took; empty if there is none.
    shell: Vec<f64>,
    /// Seconds that penholder took.
    own: Vec<f64>,
    /// What the other processes wrote during penholder's imports.
    shares: Vec<Share>,
}

impl Figures {
    fn append(&mut self, other: Self) {
        self.shell.extend(other.shell);
        self.own.extend(other.own);
        self.shares.extend(other.shares);
    }

    fn print(&self, title: &str, rows: u32) -> Result<(), Box<dyn Error>> {
        let rate = |seconds: &[f64]| f64::from(rows) / statistics::median(seconds.to_vec());
        let own = rate(&self.own);
        print!("{title}: import {own:.0} rows per second");
        if !self.shell.is_empty() {
            let shell = rate(&self.shell);
            let ratio = own / shell;
            print!(", {ratio:.2} of the shell's {shell:.0} (target 0.40)");
        }
        println!();
        if self.shares.is_empty() {
            return Ok(());
        }
        let waits = share::merged_latencies(&self.shares)?;
        let ms = |nanos: u64| clock::micros(nanos) / 1e3;
        println!(
            "{title}: {} concurrent writes: wait p50 {:.2} ms, p99 {:.1} ms (target 50), \
             longest {:.1} ms, failed {} (target 0)",
            waits.len(),
            ms(waits.value_at_quantile(0.5)),
            ms(waits.value_at_quantile(0.99)),
            ms(share::longest(&self.shares)),
            share::failed(&self.shares),
        );
        Ok(())
    }
}
