//! This process's one attachment to a lock file: its descriptor, and whose turn
//! it is among the threads.
//!
//! | state | turn | `flock` or byte lock | record |
//! | --- | --- | --- | --- |
//! | at rest | free | not ours | blank, or somebody else's |
//! | probing | owned by the asking thread | not ours | whoever holds |
//! | owned | owned | ours, on the file that the path names | ours |
//! | owned under an ancestor | owned | the byte of our level is ours | the ancestor's |
//! | releasing | owned | ours, then not | blank |
//!
//! A process has one `Pen` for each lock file (device and inode), so two
//! lockers of one file share a descriptor and see each other's turns.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::backoff::Backoff;
use crate::deadline::Deadline;
use crate::error::{Kind, LockError};
use crate::inherited::{self, Ancestors, Level, ProcessId};
use crate::record::{self, RecordWriter};
use crate::sys::file::{self, FileId};
use crate::sys::filesystem;
use crate::sys::fork;
use crate::sys::locks::{self, TableName};
use crate::sys::process::Identity;
use crate::turn::Turn;

/// How long a lock file may be used without looking whether the path still
/// names it. A deleted one is noticed at every acquisition.
const RECHECK: Duration = Duration::from_millis(100);
/// How many replacements of the lock file one acquisition follows.
const REPLACEMENTS_MAX: u32 = 16;

/// What a locker asks for; it is the same at every acquisition.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Absolute, links resolved.
    pub(crate) path: PathBuf,
    pub(crate) model: Option<PathBuf>,
    pub(crate) label: Option<String>,
    pub(crate) allow_network_fs: bool,
}

/// How an acquired lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The kernel's lock on the file is ours.
    Flock,
    /// An ancestor has it; ours is the byte of this level.
    Under(Level),
}

/// One process's attachment to one lock file.
#[derive(Debug)]
pub(crate) struct Pen {
    generation: u64,
    /// The path that it was attached by.
    path: PathBuf,
    pub(crate) turn: Turn,
    file: Mutex<LockFile>,
}

/// The open lock file; touched by the owner of the turn only.
#[derive(Debug)]
struct LockFile {
    descriptor: Descriptor,
    /// When a path was last seen to name this file, and which: a file may have
    /// several names (hard links), one of them replaced.
    checked: SystemTime,
    checked_path: PathBuf,
    /// The file's name in the kernel's tables.
    name: Option<TableName>,
    identity: Identity,
    record: RecordWriter,
    /// What this process inherited, of this and other lock files.
    inherited: Vec<Ancestors>,
}

/// What this process has attached to. Both mutexes are held across a fork, so
/// that the child finds them whole; they are never held while waiting for
/// anybody. Locked in this order.
static PENS: Mutex<Vec<Attached>> = Mutex::new(Vec::new());
/// Every descriptor of a lock file that this process has open: a forked child
/// closes them.
static DESCRIPTORS: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// An attachment, found by its file or by its path.
#[derive(Debug)]
struct Attached {
    /// The file that its descriptor is open on, always: an identity that lags
    /// behind could be another lock file's by now.
    id: FileId,
    path: PathBuf,
    pen: Weak<Pen>,
}

impl Pen {
    /// The process's attachment to the file of the request, opened (and created)
    /// if this is the first.
    pub(crate) fn attach(request: &Request) -> Result<Arc<Self>, LockError> {
        let path = &request.path;
        let mut pens = lock(&PENS);
        pens.retain(|one| one.pen.strong_count() > 0);
        let id = file::facts_of_path(path).ok().map(|facts| facts.id);
        let find = |pens: &[Attached], id| {
            let same = |one: &&Attached| one.path == *path || Some(one.id) == id;
            pens.iter().find(same).and_then(|one| one.pen.upgrade())
        };
        if let Some(pen) = find(&pens, id) {
            return Ok(pen);
        }
        let descriptor = Descriptor::open(request)?;
        let id = descriptor.id;
        // Somebody may have put another file there since we looked.
        if let Some(pen) = find(&pens, Some(id)) {
            return Ok(pen);
        }
        let pen = Arc::new(Self {
            generation: fork::generation(),
            path: path.clone(),
            turn: Turn::default(),
            file: Mutex::new(LockFile::new(descriptor, request)),
        });
        pens.push(Attached {
            id,
            path: path.clone(),
            pen: Arc::downgrade(&pen),
        });
        Ok(pen)
    }

    /// The path that it was attached by: where a guard's errors say they happened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this attachment was made by this process, not by a parent of it.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    /// Takes the kernel's lock if it is free. Only with the turn.
    pub(crate) fn probe(&self, request: &Request) -> Result<Option<Hold>, LockError> {
        lock(&self.file).probe(request)
    }

    /// Probes until the lock is ours (or the deadline is over: `None`), with the
    /// back-off. Only with the turn.
    pub(crate) fn poll(
        &self,
        request: &Request,
        deadline: &Deadline,
    ) -> Result<Option<Hold>, LockError> {
        let mut backoff = Backoff::new();
        loop {
            if let Some(hold) = self.probe(request)? {
                return Ok(Some(hold));
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Ok(None);
            }
            thread::sleep(backoff.pause(remaining));
        }
    }

    /// Blanks the record and gives the kernel's lock back. Only with the turn,
    /// which the caller gives on afterwards.
    pub(crate) fn release(&self, hold: Hold) -> Result<(), LockError> {
        lock(&self.file).release(&self.path, hold)
    }

    /// At which level this process works under an ancestor, if it does.
    pub(crate) fn level(&self, request: &Request) -> Option<Level> {
        lock(&self.file).level(&request.path)
    }

    /// The value of the environment variable for a child of ours.
    pub(crate) fn inheritance(&self, hold: Hold) -> String {
        let file = lock(&self.file);
        let own = ProcessId {
            pid: file.identity.pid,
            // Without `/proc` a child cannot check it and will not believe it.
            start: file.identity.start.unwrap_or(0),
        };
        let id = file.descriptor.id;
        let chain = match (hold, file.ancestors()) {
            (Hold::Under(level), Some(ancestors)) => ancestors.chain_below(level, own),
            _ => vec![own],
        };
        inherited::value(&file.inherited, id, &chain)
    }
}

impl LockFile {
    fn new(descriptor: Descriptor, request: &Request) -> Self {
        let identity = Identity::of_this_process();
        Self {
            descriptor,
            checked: SystemTime::now(),
            checked_path: request.path.clone(),
            name: locks::table_name(&request.path),
            record: RecordWriter::new(&identity, request.label.as_deref()),
            identity,
            inherited: Ancestors::of_this_process(),
        }
    }

    fn probe(&mut self, request: &Request) -> Result<Option<Hold>, LockError> {
        let failed = |e| LockError::io(&request.path, "take write lock", e);
        for _ in 0..REPLACEMENTS_MAX {
            // For the record, and for the age of the last look at the path.
            let now = SystemTime::now();
            if let Some(level) = self.level(&request.path) {
                return self.probe_under(request, level);
            }
            if !file::try_lock(&self.descriptor.file).map_err(failed)? {
                if self
                    .is_current(&request.path, now, Duration::ZERO)
                    .map_err(failed)?
                {
                    return Ok(None);
                }
            } else if let Some(len) = self.confirm(&request.path, now).map_err(failed)? {
                self.publish(request, now, len);
                return Ok(Some(Hold::Flock));
            }
            self.reopen(request)?;
        }
        Err(failed(io::Error::other("it is replaced again and again")))
    }

    /// The length of the file that was just locked if the path still names it;
    /// otherwise, and on an error, it is unlocked again.
    fn confirm(&mut self, path: &Path, now: SystemTime) -> io::Result<Option<u64>> {
        let confirmed = file::facts(&self.descriptor.file).and_then(|facts| {
            let current = facts.links > 0 && self.is_current(path, now, RECHECK)?;
            Ok(current.then_some(facts.len))
        });
        if !matches!(confirmed, Ok(Some(_))) {
            file::unlock(&self.descriptor.file)?;
        }
        confirmed
    }

    /// Follows the path to the file that it names now.
    fn reopen(&mut self, request: &Request) -> Result<(), LockError> {
        let old = self.descriptor.id;
        let descriptor = Descriptor::open(request)?;
        for one in lock(&PENS).iter_mut().filter(|one| one.id == old) {
            one.id = descriptor.id;
        }
        self.descriptor = descriptor;
        self.checked = SystemTime::now();
        self.checked_path.clone_from(&request.path);
        self.name = locks::table_name(&request.path);
        Ok(())
    }

    fn probe_under(&self, request: &Request, level: Level) -> Result<Option<Hold>, LockError> {
        let failed = |e| LockError::io(&request.path, "take write lock under an ancestor's", e);
        let file = &self.descriptor.file;
        if !file::try_lock_byte(file, level.byte()).map_err(failed)? {
            return Ok(None);
        }
        // The ancestor may have died between the two; and the children of one
        // that died in between may still be at work below us.
        if self.level(&request.path) == Some(level) && !level.is_busy_below(file).map_err(failed)? {
            return Ok(Some(Hold::Under(level)));
        }
        file::unlock_byte(file, level.byte()).map_err(failed)?;
        Ok(None)
    }

    /// Whether the path still names this file, looked at if the last look is
    /// older than `age`.
    fn is_current(&mut self, path: &Path, now: SystemTime, age: Duration) -> io::Result<bool> {
        let same_path = self.checked_path.as_os_str() == path.as_os_str();
        // A clock that was set back tells nothing.
        let fresh = now
            .duration_since(self.checked)
            .is_ok_and(|since| since < age);
        if same_path && fresh {
            return Ok(true);
        }
        match file::facts_of_path(path) {
            Ok(facts) if facts.id == self.descriptor.id => {
                self.checked = now;
                if !same_path {
                    path.clone_into(&mut self.checked_path);
                }
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes the record. A full disk does not keep anybody from the lock: the
    /// kernel holds it, and its tables name us; only the record is missing.
    fn publish(&mut self, request: &Request, now: SystemTime, len: u64) {
        let label = request.label.as_deref();
        if !self.record.carries(label) {
            self.record = RecordWriter::new(&self.identity, label);
        }
        let _ = self.record.publish(&self.descriptor.file, now, len);
    }

    fn release(&mut self, path: &Path, hold: Hold) -> Result<(), LockError> {
        let file = &self.descriptor.file;
        let failed = |what| move |e| LockError::io(path, what, e);
        match hold {
            Hold::Under(level) => file::unlock_byte(file, level.byte())
                .map_err(failed("release write lock under an ancestor's")),
            Hold::Flock => {
                let cleared = record::clear(file);
                // First of all the lock; a record left standing harms nobody,
                // because the kernel is asked who holds.
                file::unlock(file).map_err(failed("release write lock"))?;
                cleared.map_err(failed("empty the record of the write lock"))
            }
        }
    }

    fn ancestors(&self) -> Option<&Ancestors> {
        self.inherited
            .iter()
            .find(|one| one.file == self.descriptor.id)
    }

    fn level(&self, path: &Path) -> Option<Level> {
        self.ancestors()?.level(path, self.name.as_ref()?)
    }
}

/// An open lock file that a forked child closes without unlocking.
#[derive(Debug)]
struct Descriptor {
    file: mem::ManuallyDrop<File>,
    id: FileId,
    generation: u64,
}

impl Descriptor {
    fn open(request: &Request) -> Result<Self, LockError> {
        let path = &request.path;
        if !request.allow_network_fs {
            let folder = path.parent().unwrap_or(path);
            let found = filesystem::network(folder);
            if let Some(file_system) =
                found.map_err(|e| LockError::io(path, "look at the lock file's folder", e))?
            {
                return Err(LockError::new(path, Kind::Network { file_system }));
            }
        }
        // Held while opening, so that no fork falls between the two.
        let mut descriptors = lock(&DESCRIPTORS);
        let file = file::open_or_create(path, request.model.as_deref())
            .map_err(|e| LockError::opening(path, "open lock file", e))?;
        let failed = |e| LockError::io(path, "open lock file", e);
        if !file.metadata().map_err(failed)?.is_file() {
            let why = "not a regular file".to_owned();
            let next = "remove it, or choose another lock path";
            return Err(LockError::new(path, Kind::Refused { why, next }));
        }
        // Whatever stands in a file that is called a lock is ours to overwrite.
        let is_called_lock = path
            .extension()
            .is_some_and(|extension| extension == "lock");
        if !is_called_lock && record::holds_something_else(&file).map_err(failed)? {
            let why = "it holds something that is no lock record".to_owned();
            let next = "choose another lock path (one that ends in .lock may hold anything)";
            return Err(LockError::new(path, Kind::Refused { why, next }));
        }
        let id = file::facts(&file).map_err(failed)?.id;
        descriptors.push(file.as_raw_fd());
        Ok(Self {
            file: mem::ManuallyDrop::new(file),
            id,
            generation: fork::generation(),
        })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // In a forked child the number was closed and may be anybody's by now.
        if self.generation != fork::generation() {
            return;
        }
        let mut descriptors = lock(&DESCRIPTORS);
        let number = self.file.as_raw_fd();
        descriptors.retain(|&one| one != number);
        file::close(&mut self.file);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics with one of these held, so what they guard is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- fork ----------------------------------------------------------------

/// Sees to it that forked children are told from their parents from now on.
pub(crate) fn watch_forks() -> io::Result<()> {
    fork::install(HANDLERS)
}

const HANDLERS: fork::Handlers = fork::Handlers {
    before: before_fork,
    in_parent: after_fork,
    in_child,
};

type Held = (
    MutexGuard<'static, Vec<Attached>>,
    MutexGuard<'static, Vec<RawFd>>,
);

thread_local! {
    /// What the forking thread holds across the fork.
    static ACROSS_FORK: RefCell<Option<Held>> = const { RefCell::new(None) };
}

fn before_fork() {
    // A thread that is past its thread-locals cannot fork cleanly; its child
    // then keeps the descriptors, and nothing worse.
    let _ = ACROSS_FORK.try_with(|held| {
        *held.borrow_mut() = Some((lock(&PENS), lock(&DESCRIPTORS)));
    });
}

fn after_fork() {
    let _ = ACROSS_FORK.try_with(|held| held.borrow_mut().take());
}

/// The child does not hold what its parent holds: it closes the descriptors,
/// never unlocking, and forgets the attachments; it attaches anew on first use.
fn in_child() {
    let _ = ACROSS_FORK.try_with(|held| {
        if let Some((mut pens, mut descriptors)) = held.borrow_mut().take() {
            for number in descriptors.drain(..) {
                file::close_inherited(number);
            }
            // Not dropped: freeing memory is not for a fork handler.
            mem::forget(mem::take(&mut *pens));
        }
    });
}
