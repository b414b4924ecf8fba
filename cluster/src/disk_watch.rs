#![expect(
    unsafe_code,
    reason = "SQLite's log of errors is set once, before SQLite is used"
)]
//! Ends a node whose disk fails.
//!
//! Every node executes the entries of the log in the same order, and has the same database because each
//! entry has the same effect everywhere. If one cannot be executed here because the disk is full or
//! broken, this node would differ from the others from then on, and the engine would not tell. So
//! the process ends instead, before the entry counts as executed. When it is started again, the
//! engine finds that it did not end cleanly, and builds the database from its snapshot and the log.

use std::cell::Cell;
use std::ffi::c_int;
use std::fs::{self, File};
use std::io::Write;
use std::panic;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;

use hiqlite::rusqlite::{self, ffi};

use crate::failure::FAILED;

thread_local! {
    /// Whether this thread reads for a client: what fails then concerns that client only.
    static READS: Cell<bool> = const { Cell::new(false) };
}

/// Parts of the engine that write the log and the database, by their source files. If one of them
/// panics, as it does if its file cannot be written, the engine goes on as if nothing had
/// happened, and the node only seems to live.
const STORES: [&str; 3] = ["/hiqlite-wal-", "/openraft-", "/src/store/"];

/// What the system of one node is to blame for.
const OF_THE_SYSTEM: [c_int; 5] = [
    ffi::SQLITE_IOERR,
    ffi::SQLITE_CANTOPEN,
    ffi::SQLITE_NOMEM,
    ffi::SQLITE_READONLY,
    ffi::SQLITE_PROTOCOL,
];

/// Where the node has its data.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// What a function panics with that the engine has for those that would differ between nodes. It is an
/// error of the statement.
const FORBIDDEN: &str = "forbidden usage of";

/// Begins to watch. Is called before SQLite is used.
pub(crate) fn start(directory: &Path) -> rusqlite::Result<()> {
    let _ = DIRECTORY.set(directory.to_owned());
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        usual(info);
        let file = info.location().map_or("", panic::Location::file);
        let is_forbidden = info
            .payload_as_str()
            .is_some_and(|text| text.starts_with(FORBIDDEN));
        if !is_forbidden && STORES.iter().any(|store| file.contains(store)) {
            say("the engine panicked while it wrote its log or its database");
            process::exit(FAILED.into());
        }
    }));
    // SAFETY: no other thread of this process uses SQLite yet: the caller has not started the
    // engine.
    unsafe { rusqlite::trace::config_log(Some(note)) }
}

/// Runs work that only reads.
pub(crate) fn reading<T>(work: impl FnOnce() -> T) -> T {
    /// Also if the work panics: the engine uses the thread too.
    struct Reading;
    impl Drop for Reading {
        fn drop(&mut self) {
            READS.set(false);
        }
    }
    READS.set(true);
    let _reading = Reading;
    work()
}

fn note(code: c_int, message: &str) {
    let is_of_disk = match code {
        // The corruption of a virtual table is another code, and only its program is to blame.
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => true,
        // Also said of a table that has no rowid left, which is the same on every node.
        ffi::SQLITE_FULL => DIRECTORY.get().is_none_or(|directory| !has_room(directory)),
        code => OF_THE_SYSTEM.contains(&(code & 0xff)),
    };
    if is_of_disk && !READS.get() {
        say(message);
        process::exit(FAILED.into());
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last words of a program that runs for long"
)]
fn say(message: &str) {
    eprintln!(
        "penholder: serve: this node cannot write its data: {message}: it ends, so that it does not \
         differ from the others; make room or mend the disk, and start it again"
    );
}

/// Returns whether something can be written to a directory.
fn has_room(directory: &Path) -> bool {
    let path = directory.join("room");
    let file = File::create(&path);
    let written = file.and_then(|mut file| {
        file.write_all(&[0; 1 << 16])?;
        file.sync_all()
    });
    let _ = fs::remove_file(&path);
    written.is_ok()
}
