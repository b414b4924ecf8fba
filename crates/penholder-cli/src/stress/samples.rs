//! Reads the samples of a worker.

use std::io::{BufReader, Read};
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::sample::{DONE, FAILED, READY};
use crate::progress::Progress;
use crate::sys::pipe;

/// The output of one worker.
pub(super) struct Samples {
    from: BufReader<ChildStdout>,
    /// A worker that reports nothing for longer is given up. It was stopped, for example.
    timeout: Duration,
}

/// The time that rates refer to.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) begun: Instant,
    /// How long the workers write. A write that was begun in this time and ends later
    /// counts, but not the time in which nothing else is written.
    pub(super) window: Option<Duration>,
}

impl Clock {
    pub(super) fn elapsed(&self) -> Duration {
        self.window.unwrap_or_else(|| self.begun.elapsed())
    }
}

/// What the workers did.
pub(super) struct Counted {
    /// Writes that were reported, acknowledged or not.
    pub(super) reported: u64,
    /// Acknowledged writes.
    pub(super) acknowledged: u64,
    /// Time of each acknowledged write, in microseconds.
    pub(super) times: Histogram<u64>,
    /// Writes per second of each process.
    pub(super) rates: Vec<f64>,
    /// Processes that ended early, or did not answer.
    pub(super) lost: u32,
    /// The time in which the processes wrote.
    pub(super) elapsed: Duration,
}

impl Default for Counted {
    #[expect(clippy::expect_used, reason = "three digits are in the crate's range")]
    fn default() -> Self {
        Self {
            reported: 0,
            acknowledged: 0,
            times: Histogram::new(3).expect("three significant digits are allowed"),
            rates: Vec::new(),
            lost: 0,
            elapsed: Duration::ZERO,
        }
    }
}

impl Counted {
    pub(super) fn add(&mut self, other: &Self) {
        self.reported += other.reported;
        self.acknowledged += other.acknowledged;
        // The histogram resizes itself, so every value fits.
        let _ = self.times.add(&other.times);
        self.rates.extend(&other.rates);
        self.lost += other.lost;
    }
}

impl Samples {
    pub(super) fn new(output: ChildStdout, timeout: Duration) -> Self {
        let from = BufReader::new(output);
        Self { from, timeout }
    }

    /// Waits until the worker has opened the database, or ended.
    pub(super) fn wait_until_ready(&mut self) {
        while self.next().is_some_and(|sample| sample != READY) {}
    }

    /// Counts the writes until the worker ends.
    pub(super) fn count(mut self, clock: Clock, progress: &Progress) -> Counted {
        // Until it says that it is done.
        let mut counted = Counted {
            lost: 1,
            ..Counted::default()
        };
        while let Some(sample) = self.next() {
            if sample == DONE {
                counted.lost = 0;
                break;
            }
            counted.reported += 1;
            if sample != FAILED {
                counted.acknowledged += 1;
                // The histogram resizes itself, so every value fits.
                let _ = counted.times.record(u64::from(sample));
            }
            progress.add(1);
        }
        counted.elapsed = clock.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
        let writes = counted.acknowledged as f64;
        counted.rates.push(writes / counted.elapsed.as_secs_f64());
        counted
    }

    fn next(&mut self) -> Option<u32> {
        let mut bytes = [0; 4];
        for index in 0..bytes.len() {
            self.wait()?;
            self.from.read_exact(&mut bytes[index..=index]).ok()?;
        }
        Some(u32::from_le_bytes(bytes))
    }

    /// Waits for something to read, or the end. Returns `None` if the time is up.
    fn wait(&mut self) -> Option<()> {
        if !self.from.buffer().is_empty() {
            return Some(());
        }
        let readable = pipe::is_readable_within(self.from.get_ref(), self.timeout);
        readable.ok()?.then_some(())
    }
}
