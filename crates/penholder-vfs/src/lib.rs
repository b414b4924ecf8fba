//! The VFS of [penholder](https://docs.rs/penholder): SQLite's locks are kept between the
//! transactions of a time slice.
//!
//! In WAL mode, SQLite locks and unlocks in six calls in each transaction that writes, and writes
//! each frame in two calls. A process that has penholder's write lock for a while may keep these locks until
//! the while is over: that is a *lease*. The frames of a transaction are written to the WAL in one
//! call.
//!
//! This crate links no SQLite: [`Api`] is the table of the functions that it calls. [`register`]
//! makes the VFS known under [`NAME`]; [`file_behind`] finds the file of a connection that was
//! opened with it, and [`DatabaseFile`] begins and ends its lease.
//!
//! | module, from the top | what it does |
//! | --- | --- |
//! | `vfs` | the VFS, over SQLite's default one |
//! | `shim` | the files as SQLite sees them |
//! | `gate`, `thread_hold` | a connection's way to penholder's write lock; the lock for all that a thread does |
//! | `fork` | a forked child forgets its parent's files |
//! | `process_lock` | penholder's write lock as the connections of this process share it |
//! | `background` | what a fork waits for: penholder's own threads, inside SQLite |
//! | `connection_lease` | a connection's lease, along with penholder's write lock |
//! | `open_files` | which database files this process has open |
//! | `database_file` | one connection's database file: its locks, and its lease |
//! | `gap` | when the write lock of SQLite is left alone, for outsiders |
//! | `mirror` | what the processes leave for each other in shared words |
//! | `locks` | the rules: which lock is passed on, and which is answered from memory |
//! | `join` | frames that are written together |
//! | `wal_index`, `real_file`, `api` | the beginning of the WAL index; a file of the VFS below; SQLite's types |
//! | `locker_options`, `host`, `last_error` | what the parameters of a URI ask for; the SQLite of the program; why the last call failed |
//! | `version` | versions of SQLite, and which of them have the WAL-reset bug |
//! | `sys` | the platform |

mod api;
mod background;
mod connection_lease;
mod database_file;
mod fork;
mod gap;
mod gate;
mod host;
mod join;
mod last_error;
mod locker_options;
mod locks;
mod mirror;
mod open_files;
mod process_lock;
mod real_file;
mod shim;
mod sys;
mod thread_hold;
mod version;
mod vfs;
mod wal_index;

pub use api::{Api, File, HostApi, IoMethods, Symbol, SystemCall, Vfs};
pub use background::in_background;
pub use connection_lease::{ConnectionLease, database_words};
pub use database_file::{DatabaseFile, WalFrames};
pub use gap::Gap;
pub use gate::Gate;
pub use last_error::last_error;
pub use locker_options::LockerOptions;
pub use mirror::{MIRROR_WORDS, Mirror};
pub use open_files::set_mirror;
pub use shim::{file_behind, gate_behind};
pub use sys::path_of;
pub use thread_hold::{ThreadHold, ThreadWait};
pub use version::{OLDEST_WITH_WAL, Version};
pub use vfs::{NAME, RegisterError, make_default, register, register_with_gates};
