//! One process of `penholder stress`.
//!
//! It opens the database and waits for the end of its standard input. Then it writes, and
//! reports each write as `sample.rs` describes.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::sample;
use super::writer::Writer;
use crate::args::{Amount, Peer, StressWorker};
use crate::failure::{Failure, say};
use crate::sys::process;

/// Samples are flushed this often.
const FLUSH_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn run(args: &StressWorker) -> Result<ExitCode, Failure> {
    process::end_with_parent()?;
    let writer = Writer::open(args)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    out.write_all(&sample::READY.to_le_bytes())?;
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    write(args, &writer, &mut out)?;
    out.write_all(&sample::DONE.to_le_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn write(args: &StressWorker, writer: &Writer, out: &mut impl Write) -> io::Result<()> {
    let started = Instant::now();
    let mut flushed = started;
    let mut has_failed = false;
    for number in 0..u32::MAX {
        if is_enough(&args.amount, number, started) {
            break;
        }
        let begun = Instant::now();
        let sample = match writer.insert(args.run, args.process, number) {
            Ok(()) => sample::acknowledged(begun.elapsed()),
            Err(error) => {
                // The others are probably the same.
                if !has_failed {
                    say(format!("{}: {error}", name(args)));
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
    Ok(())
}

/// A write that was begun in time is finished, however long it waits.
fn is_enough(amount: &Amount, written: u32, started: Instant) -> bool {
    match amount.writes {
        Some(writes) => written >= writes,
        None => started.elapsed() >= amount.time,
    }
}

fn name(args: &StressWorker) -> String {
    let process = args.process;
    match args.peer {
        None => format!("process {process}"),
        Some(Peer::Sqlite) => format!("plain SQLite, process {process}"),
    }
}
