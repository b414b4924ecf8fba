//! Measures operations of one process in rounds. The machine is shared and noisy,
//! so each round runs every operation briefly, every second round in reverse order,
//! and the median of many rounds counts.

use std::error::Error;
use std::time::{Duration, Instant};

use crate::directory::Directory;
use crate::turns;

/// How much to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of rounds; the median is reported
    #[arg(long, default_value_t = 101)]
    pub(crate) rounds: usize,
    /// Number of calls of each operation in a round
    #[arg(long, default_value_t = 1_000)]
    pub(crate) count: u32,
    #[command(flatten)]
    pub(crate) directory: Directory,
}

/// One of the operations that are compared.
pub(crate) struct Operation<'a> {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn FnMut() -> Result<(), Box<dyn Error>> + 'a>,
}

impl<'a> Operation<'a> {
    pub(crate) fn new(
        name: &'static str,
        run: impl FnMut() -> Result<(), Box<dyn Error>> + 'a,
    ) -> Self {
        let run = Box::new(run);
        Self { name, run }
    }
}

/// Returns the median time of one call of each operation, in the order given.
pub(crate) fn measure(
    args: &Args,
    operations: &mut [Operation<'_>],
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut times = vec![Vec::new(); operations.len()];
    // The first round warms up and does not count.
    for round in 0..=args.rounds {
        for number in turns::order(operations.len(), round) {
            let begun = Instant::now();
            for _ in 0..args.count {
                (operations[number].run)()?;
            }
            if round > 0 {
                times[number].push(begun.elapsed() / args.count);
            }
        }
    }
    Ok(times.into_iter().map(median).collect())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Prints a line for each operation, with its time as a multiple of the first's.
pub(crate) fn print(operations: &[Operation<'_>], times: &[Duration]) {
    let first = times.first().map_or(1.0, Duration::as_secs_f64);
    println!(
        "{:<34} {:>12} {:>10} {:>10}",
        "", "ns each", "times", "rate"
    );
    for (operation, time) in operations.iter().zip(times) {
        let ratio = time.as_secs_f64() / first;
        let nanos = time.as_nanos();
        println!(
            "{:<34} {nanos:>12} {ratio:>10.2} {:>10.2}",
            operation.name,
            1.0 / ratio
        );
    }
}
