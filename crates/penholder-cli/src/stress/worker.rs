//! One process of `penholder stress`.
//!
//! It says on standard output, as 32-bit little-endian numbers: [`READY`] once
//! the database is open; then, after its standard input has ended, for each
//! write the microseconds from asking to acknowledgement, or [`FAILED`].

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::args::StressWorker;
use crate::failure::{Failure, say};
use crate::stress::table;

/// The database is open.
pub(super) const READY: u32 = u32::MAX - 1;
/// A write was not acknowledged.
pub(super) const FAILED: u32 = u32::MAX;
/// The longest time that can be said.
const LONGEST: u32 = u32::MAX - 2;
/// How often the numbers are passed on.
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
    out.write_all(&READY.to_le_bytes())?;
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let mut flushed = Instant::now();
    let mut said = false;
    for number in 0..args.writes {
        let begun = Instant::now();
        let result = table::insert(&db, args.run, args.process, number);
        let sample = match &result {
            Ok(()) => u32::try_from(begun.elapsed().as_micros())
                .unwrap_or(LONGEST)
                .min(LONGEST),
            Err(_) => FAILED,
        };
        if let Err(error) = result
            && !said
        {
            // The first says it all.
            say(format!("process {}: {error}", args.process));
            said = true;
        }
        out.write_all(&sample.to_le_bytes())?;
        if flushed.elapsed() > FLUSH_EVERY {
            out.flush()?;
            flushed = Instant::now();
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
