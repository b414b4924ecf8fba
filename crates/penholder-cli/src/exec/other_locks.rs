//! The write locks of databases that a script attaches.
//!
//! Two scripts that attach each other's database must not wait for one another. So all locks are
//! taken in the order of the paths of their lock files: some before that of the database itself,
//! and the rest after it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use penholder::lock::{Deadline, WriteGuard, WriteLocker};
use penholder_core::{one_line, shell_path};

use super::plan::{Action, Plan, refused};
use crate::args::Exec;
use crate::failure::Failure;
use crate::sys::{open_file, permission};
use penholder::sql_script::ScriptStatement;

/// The write locks of the databases that a script attaches, but for that of its own database.
#[derive(Debug)]
pub(super) struct OtherLocks<'a> {
    /// In the order in which they are taken.
    wanted: Vec<Wanted<'a>>,
    /// One for all of them.
    deadline: Deadline,
    held: RefCell<Vec<WriteGuard>>,
}

#[derive(Debug)]
struct Wanted<'a> {
    locker: WriteLocker,
    statement: ScriptStatement<'a>,
    file: String,
    is_first: bool,
}

impl<'a> OtherLocks<'a> {
    /// Finds the locks that a script needs, and takes none.
    pub(super) fn of(plan: &Plan<'a>, args: &Exec) -> Result<Self, Failure> {
        let mut wanted: Vec<Wanted<'a>> = Vec::new();
        if plan.attaches() {
            let own = args.target.options().locker(&args.target.db)?;
            for step in &plan.steps {
                if let Action::Attach(file) = &step.action {
                    wanted.extend(lock_of(&step.statement, file, args, own.lock_file())?);
                }
            }
        }
        let path = |one: &Wanted<'_>| -> PathBuf { one.locker.lock_file().to_owned() };
        wanted.sort_by_key(path);
        wanted.dedup_by_key(|one| path(one));
        Ok(Self {
            wanted,
            deadline: Deadline::after(args.timeout.timeout),
            held: RefCell::default(),
        })
    }

    /// Takes the locks that come before that of the database itself.
    pub(super) fn take_first(&self) -> Result<(), Failure> {
        self.take(true)
    }

    /// Takes the other locks, with that of the database itself held.
    pub(super) fn take_rest(&self) -> Result<(), Failure> {
        self.take(false)
    }

    fn take(&self, first: bool) -> Result<(), Failure> {
        for one in self.wanted.iter().filter(|one| one.is_first == first) {
            let guard = one.locker.acquire_until(&self.deadline).map_err(|error| {
                let (place, file) = (one.statement.place(), one_line(&one.file));
                Failure::from(error).at(&format!("{place}: ATTACH {file}"))
            })?;
            guard.note_statement(one.statement.sql);
            self.held.borrow_mut().push(guard);
        }
        Ok(())
    }
}

/// The lock of an attached database; `None` if it has none, or that of the main one.
fn lock_of<'a>(
    statement: &ScriptStatement<'a>,
    file: &str,
    args: &Exec,
    own: &Path,
) -> Result<Option<Wanted<'a>>, Failure> {
    // SQLite keeps these to the connection.
    if file.is_empty() || file == ":memory:" {
        return Ok(None);
    }
    let path = Path::new(file);
    if !path.exists() && file.to_ascii_lowercase().starts_with("file:") {
        let why = format!(
            "ATTACH {file}: names that are URIs are not read, and there is no file of this name: \
             nothing was written: write the path of the database"
        );
        return Err(refused(statement, &why));
    }
    if open_file::is_same(path, &args.target.db) {
        let why = format!(
            "ATTACH {file}: it is the database of this exec, which cannot write it through two \
             connections: nothing was written: leave ATTACH out: its tables are those of main"
        );
        return Err(refused(statement, &why));
    }
    if !path.exists() {
        let (file, word) = (one_line(file), shell_path(path));
        let why = format!(
            "ATTACH {file}: there is no such database, and a failed script would leave an empty \
             one: nothing was written: check the name, or create it first: penholder exec {word} ''"
        );
        return Err(refused(statement, &why));
    }
    // SQLite opens it for reading only, and a read needs no lock.
    if !permission::may_write(path) {
        return Ok(None);
    }
    let mut target = args.target.clone();
    target.lock_file = None;
    let locker = target
        .options()
        .locker(path)
        .map_err(|error| Failure::from(error).at(&statement.place()))?;
    if locker.lock_file() == own {
        return Ok(None);
    }
    let locker = match &args.label {
        Some(label) => locker.label(label),
        None => locker,
    };
    Ok(Some(Wanted {
        is_first: locker.lock_file() < own,
        locker,
        statement: *statement,
        file: file.to_owned(),
    }))
}
