//! One run of all processes: they start together, write, and their samples are collected.

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::samples::{Clock, Counted, Samples};
use super::workers::{self, Work, Workers};
use crate::failure::Failure;
use crate::progress::Progress;

/// A worker that reports nothing for longer than a write may take plus this time is
/// stuck. Its writes count as failed.
const SILENCE: Duration = Duration::from_secs(10);

/// Starts the processes, lets them write at the same time, and collects their samples.
pub(super) fn run(work: &Work<'_>) -> Result<Counted, Failure> {
    let args = work.args;
    let mut workers = Workers::start(work)?;
    let timeout = args.timeout.saturating_add(SILENCE);
    let outputs = workers.take_outputs().into_iter();
    let mut samples: Vec<_> = outputs
        .map(|output| Samples::new(output, timeout))
        .collect();
    samples.iter_mut().for_each(Samples::wait_until_ready);
    let writes = args.amount.writes;
    let all = writes.map(|writes| u64::from(args.processes) * u64::from(writes));
    let progress = Progress::of_writes(all);
    thread::scope(|scope| {
        // No process writes before all threads have started.
        let counting = Counting::start(scope, samples, &progress)?;
        let clock = Clock {
            begun: Instant::now(),
            window: match writes {
                Some(_) => None,
                None => Some(args.amount.time),
            },
        };
        workers.begin();
        let mut total = counting.finish(clock);
        total.elapsed = clock.elapsed();
        Ok(total)
    })
}

/// Threads that count the writes of one worker each, all at the same time.
struct Counting<'scope> {
    /// They begin when they are told the time.
    begin: Vec<Sender<Clock>>,
    threads: Vec<ScopedJoinHandle<'scope, Option<Counted>>>,
}

impl<'scope> Counting<'scope> {
    /// Starts the threads. If one cannot be started, the others end.
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        samples: Vec<Samples>,
        progress: &'env Progress,
    ) -> Result<Self, Failure> {
        let mut counting = Self {
            begin: Vec::new(),
            threads: Vec::new(),
        };
        for samples in samples {
            let (begin, begun) = channel();
            let count = move || Some(samples.count(begun.recv().ok()?, progress));
            let thread = thread::Builder::new()
                .stack_size(256 << 10)
                .spawn_scoped(scope, count)
                .map_err(|e| workers::failed("start a thread", &e))?;
            counting.begin.push(begin);
            counting.threads.push(thread);
        }
        Ok(counting)
    }

    /// Counts until the workers end, and adds up.
    fn finish(self, clock: Clock) -> Counted {
        for begin in self.begin {
            // Its thread waits for it.
            let _ = begin.send(clock);
        }
        let mut total = Counted::default();
        for thread in self.threads {
            if let Ok(Some(counted)) = thread.join() {
                total.add(&counted);
            }
        }
        total
    }
}
