//! Opening a database: where it is, its lock, its journal mode.

use std::path::{Path, PathBuf};
use std::time::Instant;

use penholder_core::{Deadline, LOCK_FILE_NAME, Locker, SqliteAccess, shown_path};
use penholder_lock::WriteLocker;
use rusqlite::Connection;

use crate::attachment::Attachment;
use crate::attachments;
use crate::error::{self, Error, Result, is_busy_code};
use crate::former_users::{self, FilesAtPaths};
use crate::location::Location;
use crate::options::OpenOptions;
use crate::permission;
use crate::separate_files;
use crate::sqlite::busy_wait::{BusyWait, FIRST_LOOK};
use crate::sqlite::connection;
use crate::sqlite::open_files::OpenFiles;
use crate::sqlite::write_connection::WriteConnection;
use crate::sys;

/// Opens what a process needs of a database, and switches the database to WAL if it is not in
/// WAL mode.
pub(crate) fn open(
    location: &Location,
    options: &OpenOptions,
    deadline: &Deadline,
) -> Result<Attachment> {
    attachments::give_up_lost(location, deadline);
    let refuse_former_users = |locker: &Locker, files: &FilesAtPaths, look| {
        // Where nothing may be made, or not yet, those that come at the same time look too.
        let may_build = || !options.read_only && connection::is_wal_by_header(location);
        let examine = || match look {
            Look::BeforeOpening => former_users::refuse(location),
            Look::Again => former_users::refuse_others(location),
        };
        locker.examine_once(files.examined(location), deadline, may_build, examine)
    };
    open_unless(refuse_former_users, location, options, deadline)
}

/// When former users are looked for.
#[derive(Debug, Clone, Copy)]
enum Look {
    BeforeOpening,
    /// After SQLite has opened the files.
    Again,
}

fn open_unless(
    refuse_former_users: impl Fn(&Locker, &FilesAtPaths, Look) -> Result<()>,
    location: &Location,
    options: &OpenOptions,
    deadline: &Deadline,
) -> Result<Attachment> {
    if !location.exists && (options.read_only || !options.create) {
        return Err(Error::refused(
            "open database",
            &location.path,
            "there is no such database",
            "check the name",
        ));
    }
    refuse_network(location, options)?;
    let locker = own_locker(location, options)?;
    separate_files::refuse(location, options, "open database")?;
    let files = FilesAtPaths::of(location);
    refuse_former_users(&locker, &files, Look::BeforeOpening)?;
    penholder_core::failpoint!("former_users_looked_for");
    if !options.read_only {
        permission::refuse_non_writer(location)?;
    }
    // If SQLite made files: those before may have been deleted just before it opened them.
    let look_again = |locker: &Locker| {
        if files.are_unchanged(location) {
            return Ok(());
        }
        refuse_former_users(locker, &FilesAtPaths::of(location), Look::Again)
    };
    let attachment = Attachment::new(locker, location, options);
    if options.read_only {
        let reader = attachment.readers.take(location, options, deadline)?;
        connection::is_wal(&reader, deadline)
            .map_err(|e| connection::explain(location, deadline, e))?;
        look_again(attachment.locker())?;
        drop(reader);
    } else {
        let (connection, is_wal) = open_to_write(location, options, &attachment, deadline)?;
        if !is_wal {
            switch_to_wal(&connection, location, &attachment, deadline)?;
        }
        attachment.files().check_opened(&connection, deadline)?;
        look_again(attachment.locker())?;
        connection::set_busy_timeout(&connection, options.timeout)
            .map_err(|e| Error::sqlite("open database", &location.path, e))?;
        attachment.write.note_opened(&connection, options);
        attachment.write.keep_connection(Some(Box::new(connection)));
    }
    Ok(attachment)
}

/// Refuses a place in which a database is not to be created.
pub(crate) fn refuse_unsafe(location: &Location, options: &OpenOptions) -> Result<()> {
    refuse_network(location, options)?;
    separate_files::refuse(location, options, "open database")?;
    former_users::refuse(location).map(drop)
}

/// Opens what is at the path of a database now, after the files that were open there were replaced
/// or deleted. Never creates a database.
///
/// # Errors
///
/// There is no database, or opening it is not safe yet; those of [`open`].
pub(crate) fn reopen(
    former: &Location,
    options: &OpenOptions,
    lost: &OpenFiles,
    deadline: &Deadline,
) -> Result<Attachment> {
    let what = "open database";
    let location = Location::of(&former.path, what)?;
    let refused = |why: String, next| Err(Error::refused(what, &former.path, why, next));
    if location.path != former.path {
        let why = "it is a symbolic link now".to_owned();
        return refused(why, "restart the program to follow it");
    }
    if let Some(leftover) = lost.leftover() {
        let why = format!(
            "the database file was replaced or deleted, and {} belongs to a former file: SQLite \
             would apply it to what is there now",
            shown_path(leftover)
        );
        let next = "stop every program that uses the database, delete its -wal and -shm files, \
                    and start them again; the next time use `penholder restore`";
        return refused(why, next);
    }
    let options = options.clone().create(false);
    let refuse_former_users =
        |_: &Locker, _: &FilesAtPaths, _| former_users::refuse_others(&location).map(drop);
    open_unless(refuse_former_users, &location, &options, deadline)
}

/// Returns the path of the lock file of a database.
fn lock_file_of(location: &Location, options: &OpenOptions) -> Result<PathBuf> {
    let path = match &options.lock_file {
        Some(path) => path.clone(),
        None => location.directory().join(LOCK_FILE_NAME),
    };
    refuse_database_as_lock(location, &path)?;
    Ok(path)
}

/// Returns the write lock of a database, for this crate.
fn own_locker(location: &Location, options: &OpenOptions) -> Result<Locker> {
    let locker = Locker::at(&lock_file_of(location, options)?)?;
    refuse_database_as_lock(location, locker.lock_file())?;
    Ok(locker.with(|lock| {
        lock.model = Some(location.path.clone());
        lock.allow_network_fs = options.allow_network_fs;
        lock.policy = options.policy;
        lock.long_hold = options.long_hold_threshold;
        lock.use_queue = options.queue;
        lock.label.clone_from(&options.label);
    }))
}

/// Returns the same lock for users of the crate.
pub(crate) fn public_locker(location: &Location, options: &OpenOptions) -> Result<WriteLocker> {
    let locker = WriteLocker::at(lock_file_of(location, options)?)?;
    refuse_database_as_lock(location, locker.lock_file())?;
    let locker = locker
        .permissions_like(&location.path)
        .allow_network_fs(options.allow_network_fs)
        .policy(options.policy)
        .long_hold_threshold(options.long_hold_threshold)
        .queue(options.queue);
    Ok(match &options.label {
        Some(label) => locker.label(label),
        None => locker,
    })
}

/// The lock's record would overwrite the database, or SQLite's files next to it.
fn refuse_database_as_lock(location: &Location, lock_file: &Path) -> Result<()> {
    let file_id = |path: &Path| sys::file_id(path).ok();
    let lock_id = file_id(lock_file);
    let is_lock = |path: &Path| {
        sys::is_same_name(path, lock_file) || (lock_id.is_some() && file_id(path) == lock_id)
    };
    if !location.files().any(|file| is_lock(&file)) {
        return Ok(());
    }
    Err(Error::refused(
        "lock database",
        &location.path,
        format!(
            "its lock file would be {}, a file of the database itself",
            shown_path(lock_file)
        ),
        "choose another lock file, or another name for the database",
    ))
}

fn refuse_network(location: &Location, options: &OpenOptions) -> Result<()> {
    if options.allow_network_fs {
        return Ok(());
    }
    let found = penholder_lock::network_file_system(location.directory());
    let found = found.map_err(|e| {
        Error::io(
            "open database",
            &location.path,
            e,
            "check the permissions of its directory",
        )
    })?;
    match found {
        None => Ok(()),
        Some(name) => Err(Error::refused(
            "open database",
            &location.path,
            format!(
                "on a network file system ({name}), where SQLite's locks are not to be trusted"
            ),
            "move it to a local disk, or allow it if no other machine writes there (`allow_network_fs`, on the command line `--allow-network-fs`)",
        )),
    }
}

/// Opens a connection that may write; returns also whether the database is in WAL mode.
///
/// If another program keeps the database from being read, this waits under the write lock, as a
/// write would: so that those that wait too, and those that look, learn which program it is.
fn open_to_write(
    location: &Location,
    options: &OpenOptions,
    attachment: &Attachment,
    deadline: &Deadline,
) -> Result<(WriteConnection, bool)> {
    let open = |deadline: &Deadline| -> Result<(WriteConnection, bool)> {
        let connection = WriteConnection::open_for_program(location, options, deadline)?;
        let is_wal = connection::is_wal(&connection, deadline)
            .map_err(|e| connection::explain(location, deadline, e))?;
        Ok((connection, is_wal))
    };
    let first_look = FIRST_LOOK.min(deadline.remaining() / 2);
    match open(&Deadline::after(first_look)) {
        Err(error) if error.is_sqlite_busy() && !deadline.is_over() => {}
        done => return done.map_err(|error| error.until(deadline)),
    }
    let guard = match attachment.locker().acquire_until(deadline) {
        Ok(guard) => guard,
        Err(error) if error.is_timeout() => return Err(error.into()),
        // It is this thread's already, or not to be had by this user.
        Err(_) => return open(deadline),
    };
    let wait = BusyWait {
        guard: &guard,
        database: &location.path,
        lock_file: attachment.locker().lock_file(),
        access: SqliteAccess::Read,
        now: Instant::now(),
    };
    wait.run_until(deadline, open, Error::is_sqlite_busy)
        .map_err(|error| error.until(deadline))
}

/// Switches the database to WAL under the write lock. Where the lock file cannot be written the
/// database is left as it is: it can be read, and every write says why not.
fn switch_to_wal(
    connection: &Connection,
    location: &Location,
    attachment: &Attachment,
    deadline: &Deadline,
) -> Result<()> {
    let failed = |e| connection::explain(location, deadline, e);
    if connection.is_readonly("main").map_err(failed)? {
        return Ok(());
    }
    let guard = match attachment.locker().acquire_until(deadline) {
        Ok(guard) => guard,
        Err(error) if error.is_not_permitted() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let (access, lock_file) = (SqliteAccess::Alone, attachment.locker().lock_file());
    let wait = BusyWait {
        guard: &guard,
        database: &location.path,
        lock_file,
        access,
        now: Instant::now(),
    };
    let switch = |deadline: &Deadline| {
        // Another process may have switched it while we waited.
        if connection::is_wal(connection, deadline)? {
            return Ok(true);
        }
        match connection::switch_to_wal(connection, deadline)? {
            // Of some locks SQLite says nothing, and leaves the mode as it is.
            false if wait.find_holder().is_some() => Err(error::busy_code()),
            switched => Ok(switched),
        }
    };
    let switched = wait.run_until(deadline, switch, is_busy_code);
    let switched = switched.map_err(|e| {
        connection::explain_access(access, Some(lock_file), location, deadline, e)
            .under_write_lock()
    });
    drop(guard);
    if switched? {
        return Ok(());
    }
    Err(Error::refused(
        "open database",
        &location.path,
        "SQLite does not switch it to WAL",
        "check for a program that has it open in another mode",
    ))
}
