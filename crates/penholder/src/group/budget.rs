//! How far one batch may grow.

use std::time::Instant;

use super::work::Work;
use crate::options::GroupLimits;

/// What is left of the limits of one batch. It bounds the number of statements, their bytes,
/// and the time since the batch began.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: GroupLimits,
    begun: Instant,
    statements: usize,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(limits: GroupLimits) -> Self {
        Self {
            limits,
            begun: Instant::now(),
            statements: 0,
            bytes: 0,
        }
    }

    /// Takes work into the batch if it fits; the first always does.
    pub(crate) fn take(&mut self, work: &Work) -> bool {
        self.take_size(work.statements().len().max(1), work.bytes())
    }

    pub(crate) fn take_size(&mut self, statements: usize, bytes: usize) -> bool {
        let fits = self.statements == 0
            || self.statements + statements <= self.limits.max_statements
                && self.bytes + bytes <= self.limits.max_bytes
                && self.begun.elapsed() < self.limits.max_latency;
        if fits {
            self.statements += statements;
            self.bytes += bytes;
        }
        fits
    }
}
