#![allow(
    unsafe_code,
    reason = "the table of SQLite's functions, and the open file of a connection"
)]
//! Connections with a lease, and a program without one that works on the same database.

use std::ffi::{CStr, OsString, c_char, c_int, c_void};
use std::io::BufRead;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, mem, ptr};

use penholder_vfs::{Api, DatabaseFile, HostApi, Vfs};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tempfile::TempDir;

use crate::peer::{self, Peer, Role};

/// Returns the functions of SQLite that the VFS of penholder calls.
pub fn api() -> Api {
    type Find = unsafe extern "C" fn(*const c_char) -> *mut ffi::sqlite3_vfs;
    type OurFind = unsafe extern "C" fn(*const c_char) -> *mut Vfs;
    type Register = unsafe extern "C" fn(*mut ffi::sqlite3_vfs, c_int) -> c_int;
    type OurRegister = unsafe extern "C" fn(*mut Vfs, c_int) -> c_int;
    // SAFETY: both types stand for `struct sqlite3_vfs`, behind a pointer.
    let vfs_find = unsafe { mem::transmute::<Find, OurFind>(ffi::sqlite3_vfs_find) };
    // SAFETY: as above.
    let vfs_register =
        unsafe { mem::transmute::<Register, OurRegister>(ffi::sqlite3_vfs_register) };
    Api {
        threadsafe: ffi::sqlite3_threadsafe,
        vfs_find,
        vfs_register,
        filename_database: ffi::sqlite3_filename_database,
    }
}

/// Registers the VFS of penholder over the VFS that is the default now.
pub fn register() {
    penholder_vfs::register(&api()).unwrap();
}

/// Registers it so that each connection takes penholder's write lock by itself. Once a process has
/// called this or [`register`], the other one changes nothing any more.
pub fn register_with_gates() {
    type TxnState = unsafe extern "C" fn(*mut ffi::sqlite3, *const c_char) -> c_int;
    type OurTxnState = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
    type Filename = unsafe extern "C" fn(*mut ffi::sqlite3, *const c_char) -> *const c_char;
    type OurFilename = unsafe extern "C" fn(*mut c_void, *const c_char) -> *const c_char;
    // SAFETY: both types stand for a pointer to `struct sqlite3`.
    let txn_state = unsafe { mem::transmute::<TxnState, OurTxnState>(ffi::sqlite3_txn_state) };
    // SAFETY: as above.
    let db_filename = unsafe { mem::transmute::<Filename, OurFilename>(ffi::sqlite3_db_filename) };
    let host = HostApi {
        uri_key: ffi::sqlite3_uri_key,
        uri_parameter: ffi::sqlite3_uri_parameter,
        txn_state,
        db_filename,
        log: ffi::sqlite3_log,
        has_wal_reset_bug: false,
    };
    penholder_vfs::register_with_gates(&api(), &host).unwrap();
}

/// Returns the file of an open database of a connection: of `main`, or of an attached one.
pub fn file_of(connection: &Connection, database: &CStr) -> Option<Arc<DatabaseFile>> {
    let mut file: *mut c_void = ptr::null_mut();
    // SAFETY: the handle is open and not closed here.
    let handle = unsafe { connection.handle() };
    let (name, question) = (database.as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER);
    // SAFETY: the handle is this thread's, the name is C text, and the answer is a pointer.
    unsafe { ffi::sqlite3_file_control(handle, name, question, (&raw mut file).cast()) };
    // SAFETY: null, or the open file of the connection, which is borrowed.
    unsafe { penholder_vfs::file_behind(file.cast()) }
}

/// A connection to a database in WAL mode, through the VFS of penholder. It joins frames.
#[derive(Debug)]
pub struct LeaseConnection {
    connection: Connection,
    file: Arc<DatabaseFile>,
}

impl LeaseConnection {
    /// Opens one, and switches the database to WAL mode.
    pub fn open(path: impl AsRef<Path>) -> Self {
        let connection = open_with(path, Some(penholder_vfs::NAME)).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
            .unwrap();
        Self::new(connection)
    }

    /// Takes an open connection.
    pub fn new(connection: Connection) -> Self {
        // Opens the WAL.
        connection
            .execute_batch("SELECT count(*) FROM sqlite_schema")
            .unwrap();
        let file = file_of(&connection, c"main").expect("a file of the VFS of penholder");
        file.join_frames();
        Self { connection, file }
    }

    /// Returns its database file.
    pub fn file(&self) -> &Arc<DatabaseFile> {
        &self.file
    }

    /// Begins a lease.
    #[track_caller]
    pub fn begin_lease(&self) {
        assert!(self.file.begin_lease());
    }

    /// Begins a lease and writes, so that WRITE and a read mark are parked.
    #[track_caller]
    pub fn begin_lease_and_write(&self) {
        self.begin_lease();
        self.write();
    }

    /// Writes a row.
    #[track_caller]
    pub fn write(&self) {
        self.run("INSERT INTO r VALUES (zeroblob(10))");
    }

    /// Runs statements.
    #[track_caller]
    pub fn run(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }

    /// Returns the one row of a query as text.
    #[track_caller]
    pub fn row(&self, sql: &str) -> String {
        row_of(&self.connection, sql).unwrap()
    }

    /// Closes the connection, whether its lease has ended or not.
    #[track_caller]
    pub fn close(self) {
        self.connection.close().unwrap();
    }
}

impl Deref for LeaseConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for LeaseConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Opens a connection that does not wait for locks, through this VFS or SQLite's default one. The
/// path may be a URI.
pub fn open_with(
    path: impl AsRef<Path>,
    vfs: Option<&'static CStr>,
) -> rusqlite::Result<Connection> {
    register();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    }?;
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

/// Runs a statement; returns the last row as text, with `|` between its columns, or `ok`.
pub fn row_of(connection: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let (mut rows, mut last) = (statement.query([])?, None);
    while let Some(row) = rows.next()? {
        let texts: Vec<_> = (0..columns)
            .map(|at| match row.get_ref_unwrap(at) {
                ValueRef::Null => "NULL".to_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Blob(blob) => format!("{} bytes", blob.len()),
            })
            .collect();
        last = Some(texts.join("|"));
    }
    Ok(last.unwrap_or_else(|| "ok".to_owned()))
}

/// Returns `busy` for an error that says so, the result otherwise.
#[track_caller]
pub fn or_busy(result: rusqlite::Result<String>) -> String {
    match result {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            "busy".to_owned()
        }
        result => result.unwrap(),
    }
}

/// The role of an [`Outsider`].
pub const OUTSIDER_ROLE: Role = ("outsider", outsider);

fn outsider(args: &[OsString]) {
    let connection = open_with(&args[0], None).unwrap();
    peer::send("open");
    for line in std::io::stdin().lock().lines() {
        let answer = match row_of(&connection, &line.unwrap()) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                "busy".to_owned()
            }
            Err(error) => error.to_string(),
            Ok(row) => row,
        };
        peer::send(&answer);
    }
}

/// Another process with a plain connection to the database, which does not wait for locks.
#[derive(Debug)]
pub struct Outsider(Peer);

impl Outsider {
    /// Starts one. The test file has [`OUTSIDER_ROLE`].
    pub fn start(path: &Path) -> Self {
        let peer = Peer::start(OUTSIDER_ROLE.0, [path]);
        peer.expect("open");
        Self(peer)
    }

    /// Runs a statement there: see [`row_of`] and [`or_busy`].
    #[track_caller]
    pub fn run(&mut self, sql: &str) -> String {
        self.0.send(sql);
        self.0.read_line()
    }

    /// Returns whether it can write now.
    #[track_caller]
    pub fn can_write(&mut self) -> bool {
        match self.run("BEGIN IMMEDIATE").as_str() {
            "ok" => {
                assert_eq!(self.run("ROLLBACK"), "ok");
                true
            }
            "busy" => false,
            other => panic!("{other}"),
        }
    }
}

/// A directory with a database in WAL mode, with the table `r` of blobs.
#[derive(Debug)]
pub struct LeaseFixture {
    directory: TempDir,
}

impl LeaseFixture {
    /// Makes one, with this page size.
    pub fn with_page_size(size: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fixture = Self { directory };
        let connection = open_with(fixture.path(), None).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {size}; PRAGMA journal_mode = WAL;
                 CREATE TABLE r (x); CREATE TABLE big (x)",
            ))
            .unwrap();
        connection.close().unwrap();
        fixture
    }

    /// Makes one.
    pub fn new() -> Self {
        Self::with_page_size(4096)
    }

    /// Returns the path of the database.
    pub fn path(&self) -> PathBuf {
        self.other_path("lease.db")
    }

    /// Returns a path next to the database.
    pub fn other_path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Opens a connection that can have a lease.
    pub fn open(&self) -> LeaseConnection {
        LeaseConnection::open(self.path())
    }

    /// Opens a plain connection in this process.
    pub fn open_plain(&self) -> Connection {
        open_with(self.path(), None).unwrap()
    }

    /// Starts another process with a plain connection.
    pub fn outsider(&self) -> Outsider {
        Outsider::start(&self.path())
    }

    /// Asserts that plain SQLite finds the database whole, and that all of it would be there if
    /// every process died now: it copies the database and its WAL, without the index of the WAL.
    #[track_caller]
    pub fn check(&self) {
        const SUMS: &str = "SELECT (SELECT count(*) || ' ' || total(length(x)) FROM r)
            || ' ' || (SELECT count(*) || ' ' || total(length(x)) FROM big)";
        let mut outsider = self.outsider();
        assert_eq!(outsider.run("PRAGMA integrity_check"), "ok");
        let one_line = SUMS.replace('\n', " ");
        let sums = outsider.run(&one_line);
        let copy = tempfile::tempdir().unwrap();
        let target = copy.path().join("copy.db");
        fs::copy(self.path(), &target).unwrap();
        let wal = self.other_path("lease.db-wal");
        if wal.exists() {
            fs::copy(wal, copy.path().join("copy.db-wal")).unwrap();
        }
        let recovered = open_with(&target, None).unwrap();
        let verdict = row_of(&recovered, "PRAGMA integrity_check").unwrap();
        assert_eq!(verdict, "ok", "after recovery");
        let recovered_sums = row_of(&recovered, SUMS).unwrap();
        assert_eq!(recovered_sums, sums, "after recovery");
    }
}

impl Default for LeaseFixture {
    fn default() -> Self {
        Self::new()
    }
}
