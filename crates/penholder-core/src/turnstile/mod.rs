//! The turnstile: which process is served next, decided in shared memory.
//!
//! The kernel's lock is the truth. The turnstile only decides which process tries to
//! take it, and when. Nothing in it grants the lock. If all of it is garbage, order and
//! latency suffer, but neither exclusion nor progress.
//!
//! | file | what |
//! | --- | --- |
//! | `memory` | what the turnstile needs: the shared words, the clock, the kernel's lock |
//! | `word` | the word that says who has the lock or may take it; its state table |
//! | `queue` | the waiting processes and their order |
//! | `policy` | how long anything lasts: slices, barging, spinning, probes |
//! | `participant` | one process: taking, waiting, releasing |
//! | `model` | all of it under thousands of chosen schedules |
//!
//! # The queue
//!
//! A process waits in a slot of its own; its threads queue inside the process first. It
//! draws a ticket and sets its bit, and from then on it is in the queue. The queue is the
//! set of bits; the first waiter is the one with the lowest ticket. Only its occupant sets
//! a bit. A process that passes a slot over, because its occupant is dead or stopped or
//! gave up, clears the bit. If the occupant lives, it sets the bit again when it wakes,
//! with the ticket that it had. So nothing has to be repaired after a crash.
//!
//! | a waiter | sleeps at most | then |
//! | --- | --- | --- |
//! | first in the queue | `PROBE`, longer when nothing changes, up to `PROBE_MAX` | if nothing changed: tries the kernel's lock |
//! | first in the queue, sees `Kept` | `KEPT_PAUSE` | the same |
//! | further back | `BACK_PAUSE` and more, by its place | the same: the processes before it are dead or stopped |
//! | further back, with a request | `REQUEST_PAUSE` and more, by the number of waiters, up to `REQUEST_PAUSE_MAX` | the same; or it is the first by now |
//!
//! A waiter sleeps on a futex word of its own slot. A process that leaves the front of the
//! queue wakes the next one, so that one waiter always probes. Only a holder that executes the
//! requests of waiters, and takes them out of the queue, does not wake the next one if that has
//! left a request too: it will be served itself, or find out after its pause.

mod memory;
#[cfg(test)]
mod model;
mod participant;
mod policy;
mod queue;
mod word;

pub(crate) use memory::{KernelLock, Memory, SLOTS, SlotIndex, Word};
pub(crate) use participant::{Participant, Taken, WaitEnd, WaitLimits};
pub use policy::QueuePolicy;
pub(crate) use queue::{count_waiters, is_empty, waiters, wake_first_unless};
pub(crate) use word::{TurnState, TurnWord};
