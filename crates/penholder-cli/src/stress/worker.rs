//! One process of `penholder stress`.
//!
//! It opens the database and waits for the end of its standard input. Then it writes, and
//! reports each write as `sample.rs` describes.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use penholder::Database;

use super::{sample, table};
use crate::args::StressWorker;
use crate::failure::{Failure, say};

/// Samples are flushed this often.
const FLUSH_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn run(args: &StressWorker) -> Result<ExitCode, Failure> {
    let options = args
        .target
        .options()
        .timeout(args.timeout)
        .synchronous(args.sync.into())
        .label(format!("stress, process {}", args.process));
    let db = options.open(&args.target.db)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    out.write_all(&sample::READY.to_le_bytes())?;
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    write(args, &db, &mut out)?;
    Ok(ExitCode::SUCCESS)
}

fn write(args: &StressWorker, db: &Database, out: &mut impl Write) -> io::Result<()> {
    let mut flushed = Instant::now();
    let mut has_failed = false;
    for number in 0..args.writes {
        let begun = Instant::now();
        let sample = match table::insert(db, args.run, args.process, number) {
            Ok(()) => sample::acknowledged(begun.elapsed()),
            Err(error) => {
                // The others are probably the same.
                if !has_failed {
                    say(format!("process {}: {error}", args.process));
                }
                has_failed = true;
                sample::FAILED
            }
        };
        out.write_all(&sample.to_le_bytes())?;
        if flushed.elapsed() > FLUSH_EVERY {
            out.flush()?;
            flushed = Instant::now();
        }
    }
    out.flush()
}
