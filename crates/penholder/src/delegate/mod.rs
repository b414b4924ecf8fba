//! Group commit across processes: the holder of the lock executes what waiting processes
//! offer, in a transaction of its own, and commits once for all. (The technique is called flat
//! combining.)
//!
//! A waiting process offers its statements as a *remote request* in its slot of the queue
//! file. The holder that executes requests is the *combiner*.
//!
//! The queue file only carries requests: whether one is still wanted, and whether one may still be
//! executed, are locks of the kernel, and whether one was executed is a row of the table. So an
//! older queue file that is written over the live one makes nothing happen twice.
//!
//! | step of the combiner | what holds if it dies then | who finds out |
//! | --- | --- | --- |
//! | `BEGIN IMMEDIATE` | nothing | – |
//! | looks a request up: if an earlier batch executed it, acknowledges it. Otherwise claims it, and asks the kernel whether its owner waits for it | nothing new | – |
//! | executes it, leaves the reply | rolled back; the claim says in which batch | the next combiner, or the owner with the lock held: not in the table, so it is executed again |
//! | records the batch and its requests in the table, in the same transaction | as above | as above |
//! | `COMMIT` | all of it is committed | as above: it is in the table, so the reply is valid |
//! | acknowledges | all of it | the owner, by the acknowledgement, or as above |
//!
//! Requests are claimed and looked up only inside `BEGIN IMMEDIATE`: SQLite's own write lock is
//! the fence, whatever became of `db.lock`. See `docs/design.md`.
//!
//! | file | what |
//! | --- | --- |
//! | `wire` | writes and replies as bytes |
//! | `connection` | the connection that executes requests: what may run on it |
//! | `execution` | one write in a transaction that it shares with others |
//! | `batch_table` | the table that records which requests were executed |
//! | `state` | what a process keeps for both sides; when its own writes may be delegated |
//! | `policy` | when combining pays |
//! | `requester` | the waiting side: offers writes as a request, and finds out what became of it |
//! | `direct` | the short way of a single write of plain data |
//! | `combiner` | the holder's side: one transaction for its own and others' writes |
//! | `lead` | what the leader of a group does: take the lead, wait for the lock, serve, finish |

pub(crate) mod batch_table;
mod combiner;
mod connection;
mod direct;
mod execution;
mod lead;
mod policy;
mod requester;
mod state;
mod wire;

pub(crate) use batch_table::carry_over;
#[cfg(feature = "failpoints")]
pub(crate) use connection::{DelegateConnection, Delegated};
pub(crate) use direct::{PlainData, WaitingWrite};
#[cfg(feature = "failpoints")]
pub(crate) use execution::{ExecutedWrite, execute_write};
pub(crate) use lead::Entered;
pub(crate) use state::{Delegate, DelegateContext};
#[cfg(feature = "failpoints")]
pub(crate) use wire::LAYOUT;
#[cfg(any(feature = "failpoints", fuzzing))]
pub(crate) use wire::Reply;
#[cfg(fuzzing)]
pub(crate) use wire::{Encoder, RemoteWrite, remote_writes, replies};
