//! `penholder import` while others write, beside the `sqlite3` shell's `.import`
//! that has the database for itself.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hdrhistogram::Histogram;
use rusqlite::Connection;

use crate::clock;
use crate::fixed_rate::Writers;
use crate::machine::Machine;
use crate::matrix;
use crate::peer::writer;
use crate::worker::{self, Share};

const IMPORTED: &str = "CREATE TABLE imported(id INTEGER PRIMARY KEY, name TEXT, price REAL)";
/// Others have found their pace.
const WARM_UP: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many rows are imported
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// How many processes write meanwhile
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=1000))]
    writers: u32,
    /// Each of them writes one row in this time
    #[arg(long, default_value = "20ms", value_parser = clock::parse)]
    every: Duration,
    /// How often all is measured, in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// What `penholder import` gets as --hold; its own default otherwise
    #[arg(long)]
    hold: Option<String>,
    /// The command; the one beside this program otherwise
    #[arg(long)]
    penholder: Option<PathBuf>,
    /// Where the databases go
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    matrix::check_folder(&args.folder)?;
    let penholder = penholder(args)?;
    let has_shell = runs(Command::new("sqlite3").arg("--version"));
    println!("{}", Machine::here(&args.folder).hardware);
    println!(
        "{} rows are imported while {} processes write a row every {:?} each\n",
        args.rows, args.writers, args.every
    );
    if !has_shell {
        println!("SKIPPED: there is no sqlite3 shell here: its rate, and the ratio to it\n");
    }
    let folder = tempfile::tempdir_in(&args.folder)?;
    let file = folder.path().join("rows.csv");
    write_file(&file, args.rows)?;
    let (mut shell, mut own) = (Vec::new(), Vec::new());
    let mut shares = Vec::new();
    for run in 1..=args.runs {
        if has_shell {
            shell.push(by_shell(args, &file)?);
        }
        let (seconds, mut share) = by_penholder(args, &penholder, &file)?;
        own.push(seconds);
        print(
            &format!("run {run}"),
            args,
            &shell[shell.len().saturating_sub(1)..],
            &own[own.len() - 1..],
            &share,
        )?;
        shares.append(&mut share);
    }
    println!();
    print("all", args, &shell, &own, &shares)
}

fn penholder(args: &Args) -> Result<PathBuf, Box<dyn Error>> {
    let path = match &args.penholder {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("penholder"),
    };
    if runs(Command::new(&path).arg("--version")) {
        return Ok(path);
    }
    let path = path.display();
    Err(format!("{path} cannot be run: cargo build --release -p penholder-cli").into())
}

fn runs(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn write_file(path: &Path, rows: u32) -> std::io::Result<()> {
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

/// How many seconds the shell takes with nobody beside it.
fn by_shell(args: &Args, file: &Path) -> Result<f64, Box<dyn Error>> {
    let (folder, database) = database(args)?;
    let mut shell = Command::new("sqlite3");
    shell.arg("-batch").arg(&database);
    shell.arg("PRAGMA synchronous=NORMAL");
    shell.arg(format!(
        ".import --csv --skip 1 \"{}\" imported",
        file.display()
    ));
    let seconds = timed(&mut shell)?;
    check(&database, args.rows)?;
    drop(folder);
    Ok(seconds)
}

/// The same for penholder, and what others did meanwhile.
fn by_penholder(
    args: &Args,
    penholder: &Path,
    file: &Path,
) -> Result<(f64, Vec<Share>), Box<dyn Error>> {
    let (folder, database) = database(args)?;
    let mut writers = Writers::start(args.writers, args.every, &database)?;
    std::thread::sleep(WARM_UP);
    let mut import = Command::new(penholder);
    import
        .arg("import")
        .arg(&database)
        .arg("imported")
        .arg(file);
    if let Some(hold) = &args.hold {
        import.args(["--hold", hold]);
    }
    writers.count()?;
    let seconds = timed(&mut import)?;
    let shares = writers.stop()?;
    check(&database, args.rows)?;
    drop(folder);
    Ok((seconds, shares))
}

fn database(args: &Args) -> Result<(tempfile::TempDir, PathBuf), Box<dyn Error>> {
    let folder = tempfile::tempdir_in(&args.folder)?;
    let database = folder.path().join("bench.db");
    writer::create(&database)?;
    Connection::open(&database)?.execute_batch(IMPORTED)?;
    Ok((folder, database))
}

fn timed(command: &mut Command) -> Result<f64, Box<dyn Error>> {
    let begun = clock::now();
    let output = command.stdin(Stdio::null()).output()?;
    let seconds = clock::micros(clock::now() - begun) / 1e6;
    if output.status.success() {
        return Ok(seconds);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!(
        "{}: {}: {said}",
        command.get_program().display(),
        output.status
    )
    .into())
}

fn check(database: &Path, rows: u32) -> Result<(), Box<dyn Error>> {
    let connection = Connection::open(database)?;
    let found: u32 = connection.query_row("SELECT count(*) FROM imported", (), |row| row.get(0))?;
    if found == rows {
        return Ok(());
    }
    Err(format!("{found} rows of {rows} are there").into())
}

fn print(
    what: &str,
    args: &Args,
    shell: &[f64],
    own: &[f64],
    shares: &[Share],
) -> Result<(), Box<dyn Error>> {
    let rate = |seconds: &[f64]| f64::from(args.rows) / median(seconds);
    print!("{what}: import {:.0} rows a second", rate(own));
    if !shell.is_empty() {
        let (alone, ratio) = (rate(shell), rate(own) / rate(shell));
        print!(", {ratio:.2} of the shell's {alone:.0} (target 0.40)");
    }
    println!();
    if shares.is_empty() {
        return Ok(());
    }
    let waits = waits(shares)?;
    let ms = |nanos: u64| clock::micros(nanos) / 1e3;
    let longest = shares.iter().map(|share| share.longest).max();
    let failed: u64 = shares.iter().map(|share| share.failed).sum();
    println!(
        "{what}: {} writes beside it: wait p50 {:.2} ms, p99 {:.1} ms (target 50), longest {:.1} ms, \
         failed {failed} (target 0)",
        waits.len(),
        ms(waits.value_at_quantile(0.5)),
        ms(waits.value_at_quantile(0.99)),
        ms(longest.unwrap_or(0)),
    );
    Ok(())
}

fn waits(shares: &[Share]) -> Result<Histogram<u64>, Box<dyn Error>> {
    let mut waits = worker::histogram()?;
    for (nanos, times) in shares.iter().flat_map(|share| &share.latencies) {
        waits.saturating_record_n(*nanos, *times);
    }
    Ok(waits)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2);
    let lower = values.get(values.len().saturating_sub(1) / 2);
    f64::midpoint(*upper.unwrap_or(&f64::NAN), *lower.unwrap_or(&f64::NAN))
}
