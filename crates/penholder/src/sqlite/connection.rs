//! Opening one SQLite connection with the settings that the single-writer pattern needs.

use std::ffi::CStr;
use std::path::{self, Path};
use std::thread;
use std::time::Duration;

use penholder_core::{Deadline, Shortage, SqliteAccess, SqliteHolder, shown_path};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Error, ErrorKind, Result, is_busy_code};
use crate::location::Location;
use crate::options::{ConnectionRole, OpenOptions};
use crate::permission;
use crate::sqlite::ffi;
use crate::sys;

/// How many prepared statements each connection caches.
const CACHED_STATEMENTS: usize = 64;

/// Returns the VFS that connections with these options are opened with; `None` for SQLite's
/// default.
pub(crate) fn vfs(options: &OpenOptions) -> Option<&'static CStr> {
    let is_wanted = options.lease && ffi::register_vfs().is_ok();
    is_wanted.then_some(penholder_vfs::NAME)
}

/// Opens a connection that may write. Closing it does not checkpoint.
///
/// # Errors
///
/// See [`explain`].
pub(crate) fn open_writer(
    location: &Location,
    options: &OpenOptions,
    deadline: &Deadline,
) -> Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if options.create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = open(location, flags, vfs(options), deadline)?;
    // Closing the last connection would checkpoint: see `Attachment`.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(|e| explain(location, deadline, e))?;
    let synchronous = options.synchronous.pragma();
    connection
        .pragma_update(None, "synchronous", synchronous)
        .map_err(|e| explain(location, deadline, e))?;
    Ok(connection)
}

/// Opens a connection that cannot write, whichever statement it is given, through this VFS, or
/// SQLite's default one.
///
/// # Errors
///
/// See [`explain`].
pub(crate) fn open_reader(
    location: &Location,
    vfs: Option<&CStr>,
    deadline: &Deadline,
) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(location, flags, vfs, deadline)?;
    permission::refuse_lock_out(location, || ffi::is_wal_by_header(&connection))?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(|e| explain(location, deadline, e))?;
    Ok(connection)
}

/// Returns whether the header of the database says that it is in WAL mode. Nothing is created.
pub(crate) fn is_wal_by_header(location: &Location) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = open(location, flags, None, &Deadline::after(Duration::ZERO));
    opened.is_ok_and(|connection| ffi::is_wal_by_header(&connection))
}

/// Opens a connection to a database that no process writes, without locks and without files next
/// to it: for a directory in which SQLite cannot create them.
///
/// # Errors
///
/// See [`explain`].
pub(crate) fn open_immutable(location: &Location, deadline: &Deadline) -> Result<Connection> {
    let name = format!("{}?immutable=1", uri_of(&location.path));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    open_named(Path::new(&name), location, flags, None, deadline)
}

/// Returns an absolute path as a URI of SQLite: `file:///srv/app.db`, `file:///C:/app.db`,
/// `file:////server/share/app.db`.
fn uri_of(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_separator = |byte: u8| path::is_separator(char::from(byte));
    let mut uri = "file://".to_owned();
    if !bytes.first().is_some_and(|&first| is_separator(first)) {
        uri.push('/');
    }
    for &byte in bytes {
        match byte {
            byte if is_separator(byte) => uri.push('/'),
            b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// Lets the program set up a connection that was just opened.
///
/// # Errors
///
/// A hook fails, or leaves a transaction open: what is written in it would be rolled back.
pub(crate) fn set_up_by_program(
    connection: &Connection,
    location: &Location,
    options: &OpenOptions,
    role: ConnectionRole,
) -> Result<()> {
    options
        .run_connection_hooks(connection, role)
        .map_err(|e| Error::sqlite("run the connection hook", &location.path, e))?;
    if connection.is_autocommit() {
        return Ok(());
    }
    Err(Error::misuse(
        "run the connection hook",
        format!(
            "it left a transaction open on {}",
            shown_path(&location.path)
        ),
        "let it COMMIT what it begins",
    ))
}

fn open(
    location: &Location,
    flags: OpenFlags,
    vfs: Option<&CStr>,
    deadline: &Deadline,
) -> Result<Connection> {
    open_named(&location.path, location, flags, vfs, deadline)
}

fn open_named(
    name: &Path,
    location: &Location,
    flags: OpenFlags,
    vfs: Option<&CStr>,
    deadline: &Deadline,
) -> Result<Connection> {
    let failed = |e| explain(location, deadline, e);
    ffi::replace_system_calls().map_err(|why| {
        let next = "use a 64-bit system and SQLite's own VFS";
        Error::refused("open database", &location.path, why, next)
    })?;
    // An earlier one says nothing about this call.
    let _ = ffi::take_open_error();
    let connection = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(name, flags, vfs),
        None => Connection::open_with_flags(name, flags),
    };
    let connection = connection.map_err(failed)?;
    // Before anything else, because every other statement may meet SQLite's locks.
    set_busy_timeout(&connection, deadline.remaining()).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    Ok(connection)
}

/// Sets the busy timeout, in whole milliseconds. It is rounded up, because zero would switch
/// waiting off.
pub(crate) fn set_busy_timeout(connection: &Connection, timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_millis(busy_ms(timeout)))
}

/// Converts a busy timeout to what SQLite takes: an `int` of milliseconds.
pub(crate) fn busy_ms(timeout: Duration) -> u64 {
    let ms = timeout.as_micros().div_ceil(1000);
    u64::try_from(ms).unwrap_or(u64::MAX).min(i32::MAX as u64)
}

/// Returns whether nothing can be written through the connection, because the program said so.
pub(crate) fn is_query_only(connection: &Connection) -> bool {
    let asked = connection.pragma_query_value(None, "query_only", |row| row.get(0));
    asked.unwrap_or(false)
}

/// Returns whether the connection keeps SQLite's locks when it does nothing.
pub(crate) fn keeps_locks(connection: &Connection) -> bool {
    let asked = connection.pragma_query_value(None, "locking_mode", |row| {
        Ok(row.get_ref(0)?.as_str()? == "exclusive")
    });
    asked.unwrap_or(false)
}

/// Returns whether the file is in WAL mode, which is read from the file each time.
pub(crate) fn is_wal(connection: &Connection, deadline: &Deadline) -> rusqlite::Result<bool> {
    set_busy_timeout(connection, deadline.remaining())?;
    // The pragma alone repeats what this connection last read.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    connection.pragma_query_value(None, "journal_mode", |row| {
        Ok(row.get::<_, String>(0)? == "wal")
    })
}

/// Switches the file to WAL mode; returns `false` if SQLite refuses. The caller holds the
/// write lock. Connections that only read can still be in the way, and are waited for until
/// the deadline.
pub(crate) fn switch_to_wal(
    connection: &Connection,
    deadline: &Deadline,
) -> rusqlite::Result<bool> {
    loop {
        set_busy_timeout(connection, deadline.remaining())?;
        let mode = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(true),
            Ok(_) if deadline.is_over() => return Ok(false),
            Err(error) if deadline.is_over() || !is_busy_code(&error) => return Err(error),
            _ => thread::sleep(Duration::from_millis(1).min(deadline.remaining())),
        }
    }
}

/// Explains an error of SQLite on opening or reading this file: what is in the way, and what
/// to do.
pub(crate) fn explain(location: &Location, deadline: &Deadline, error: rusqlite::Error) -> Error {
    explain_access(SqliteAccess::Read, None, location, deadline, error)
}

/// Does the same for a connection that wanted this access; `lock_file` tells who has the write
/// lock.
pub(crate) fn explain_access(
    access: SqliteAccess,
    lock_file: Option<&Path>,
    location: &Location,
    deadline: &Deadline,
    error: rusqlite::Error,
) -> Error {
    let path = &location.path;
    if is_busy_code(&error) {
        let holder = SqliteHolder::find(path, lock_file, access);
        return Error::busy(path, *deadline, holder, error);
    }
    let refused = |why, next| Error::refused("open database", path, why, next);
    let code = error.sqlite_error().map(|error| error.extended_code);
    if code == Some(rusqlite::ffi::SQLITE_READONLY_ROLLBACK) {
        return refused(
            "a transaction was interrupted, and SQLite has to roll it back (-journal) before reading",
            "open it once with a program that may write it",
        );
    }
    match error.sqlite_error_code() {
        // SQLite says `ReadOnly` if it cannot create the -wal and -shm files for reading.
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {}
        _ => return Error::sqlite("open database", path, error),
    }
    let error = failed("open database", path, error);
    if error.kind() == ErrorKind::Io {
        return error;
    }
    if !path.exists() {
        return refused(
            "there is no such file, or it cannot be created",
            "check the name and the permissions of its directory",
        );
    }
    // Opening the file would answer this too, but closing it would drop SQLite's locks.
    if !sys::may_read(path) {
        return refused(
            "this user may not read it",
            "give this user read permission on the file, and users who write it write permission",
        );
    }
    if !location.shm().exists() {
        return refused(
            "it can be read, but SQLite cannot create the -wal and -shm files that it needs next to it",
            "make the directory writable, or copy the database to a directory that is",
        );
    }
    error
}

/// Makes the error of an operation from that of SQLite. If SQLite could not open a file because
/// something ran out, such as descriptors, it is the error of the system.
pub(crate) fn failed(what: &'static str, path: &Path, error: rusqlite::Error) -> Error {
    let is_cannot_open = error.sqlite_error_code() == Some(ErrorCode::CannotOpen);
    let of_system = is_cannot_open.then(ffi::take_open_error).flatten();
    match of_system.filter(|error| Shortage::of(error).is_some()) {
        Some(of_system) => Error::io(what, path, of_system, "try again"),
        None => Error::sqlite(what, path, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_opened_by_its_uri() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a b%41#\u{e4}.db");
        let created = Connection::open(&path).unwrap();
        created.execute_batch("CREATE TABLE t(a)").unwrap();
        drop(created);
        let location = Location::of(&path, "open").unwrap();
        let deadline = Deadline::after(Duration::from_secs(10));
        let opened = open_immutable(&location, &deadline).unwrap();
        let count = "SELECT count(*) FROM sqlite_schema";
        let count: i64 = opened.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    #[cfg(unix)]
    fn a_path_is_a_uri() {
        assert_eq!(uri_of(Path::new("/a b/x?.db")), "file:///a%20b/x%3F.db");
        assert_eq!(uri_of(Path::new(r"/a\b.db")), "file:///a%5Cb.db");
    }

    #[test]
    #[cfg(windows)]
    fn a_path_is_a_uri() {
        assert_eq!(
            uri_of(Path::new(r"C:\a b\x%.db")),
            "file:///C%3A/a%20b/x%25.db"
        );
        assert_eq!(uri_of(Path::new(r"\\s\d\x.db")), "file:////s/d/x.db");
    }
}
