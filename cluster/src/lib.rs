//! When one machine is too small: the same program on SQLite replicated by Raft.
//!
//! A program that uses [`penholder::Store`] changes its address, and runs on several machines: it
//! survives the loss of one of three, and each of them may write.
//!
//! ```no_run
//! use penholder::{Result, Store};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let address = std::env::var("DATABASE").unwrap_or("app.db".into());
//! let store = penholder_cluster::connect(&address).await?;
//! store.migrate(&["CREATE TABLE note(text)"]).await?;
//! store.execute("INSERT INTO note VALUES (?1)", ["hello"]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The engine is [hiqlite](https://docs.rs/hiqlite): each node has the whole database, and the log of
//! writes is agreed on by a majority. This crate adds what a program of `penholder` expects: writes that
//! are executed once although they are repeated, one deadline for a call, errors that say what was
//! tried and whether it was written, and one entry of the log for writes that wait at the same time.
//!
//! # The types to know
//!
//! | for | see |
//! | --- | --- |
//! | a file or a cluster, by its address | [`connect`], [`AnyDatabase`] |
//! | a cluster | [`Cluster`] |
//! | addresses | [`Address`] |
//! | the calls | [`penholder::Store`], [`penholder::StoreExt`] |
//!
//! # What is different from a file
//!
//! - A write is acknowledged when it is on the disks of a majority: some milliseconds.
//! - Statements whose value another node would not repeat (`random()`, `datetime('now')`,
//!   `CURRENT_TIMESTAMP`) are refused: bind the value as a parameter.
//! - A write returns no rows: no `RETURNING`.
//! - Pragmas, `ATTACH` and temporary tables are refused, and one call has 2 MiB at most.

mod added_node;
mod address;
mod announcement;
mod authority;
mod client_file;
mod cluster;
#[doc(hidden)]
pub mod command;
mod content;
mod database;
mod disk_watch;
mod doctor;
mod dump;
mod failure;
mod import;
mod init;
mod joining;
mod leadership;
mod load;
mod load_plan;
mod membership;
mod migration;
mod node;
mod node_file;
mod nodes;
mod progress;
mod proposals;
mod replica;
mod rows_text;
mod script;
mod session;
mod silence;
#[cfg(target_os = "linux")]
mod socket_limit;
mod source;
mod source_table;
mod statement_kind;
mod status;
mod stress;
mod transport;
mod wire;
mod write_table;

pub use address::Address;
pub use cluster::{Cluster, DEFAULT_TIMEOUT};
pub use database::{AnyDatabase, connect};
