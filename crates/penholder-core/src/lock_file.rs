//! The open lock file: the kernel's lock on it, its identity, the record in it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Kind, LockError};
use crate::hold_file::{self, HoldFile};
use crate::holder_record::{self, FileContent, RECORD_LEN, RecordWriter};
use crate::inherited_hold::{self, Ancestors, DEPTH_MAX, Level};
use crate::lender::Lender;
use crate::lineage::{Lineage, ProcessId};
use crate::lock_options::{LOCK_FILE_NAME, LockOptions};
use crate::queue_file::{OutsiderRecord, Slot, WRITE_LOCK};
use crate::sys::descriptor::Descriptor;
use crate::sys::file::{self, FileId};
use crate::sys::locks::{self, Seen, TableName};
use crate::sys::process::{self, Identity};
use crate::sys::{clock, filesystem};
use crate::turnstile::KernelLock;

/// How long a lock file may be used without checking that the path still names it, in
/// nanoseconds. A deleted file is noticed at every acquisition.
pub(crate) const PATH_RECHECK: u64 = 100_000_000;
/// The same while another process holds its lock.
const PATH_RECHECK_WAITING: u64 = 20_000_000;
/// How many replacements of the lock file one acquisition follows.
const REPLACEMENTS_MAX: u32 = 16;

/// How an acquired lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The kernel's lock on the file is ours.
    Flock,
    /// An ancestor has it; the byte of this level in the hold file is ours.
    Under(Level),
}

/// The identity of the file that a [`LockFile`] has open, shared with the registry of
/// attachments.
#[derive(Debug, Clone)]
pub(crate) struct SharedId(Arc<Mutex<FileId>>);

impl SharedId {
    fn new(id: FileId) -> Self {
        Self(Arc::new(Mutex::new(id)))
    }

    pub(crate) fn get(&self) -> FileId {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, id: FileId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }
}

/// The open file that carries the kernel's lock and the record.
#[derive(Debug)]
pub(crate) struct LockFile {
    descriptor: Descriptor,
    id: FileId,
    shared_id: SharedId,
    /// When a path was last seen to name this file, and which path: a file may have several
    /// names (hard links), and one of them may be replaced.
    checked: u64,
    checked_path: PathBuf,
    /// The offset of the wall clock from the monotonic one, as of the last check.
    wall_offset: u64,
    /// Whether the limit on the size of files leaves room for the record, as of the last check:
    /// asking costs as much as a write.
    has_room: bool,
    /// The name of the file in the kernel's tables.
    name: Option<TableName>,
    identity: Identity,
    record: RecordWriter,
    /// The holds of ancestors that this process inherited, of this and other lock files.
    inherited: Vec<Ancestors>,
    lineage: Lineage,
    /// Open once this process has worked under a hold.
    hold_file: Option<HoldFile>,
    lender: Lender,
}

impl LockFile {
    /// Opens the lock file, creating it if it is missing.
    pub(crate) fn open(options: &LockOptions) -> Result<Self, LockError> {
        let (descriptor, id) = open(options)?;
        let identity = Identity::of_this_process();
        Ok(Self {
            descriptor,
            id,
            shared_id: SharedId::new(id),
            checked: clock::monotonic(),
            checked_path: options.path.clone(),
            wall_offset: clock::wall_offset(),
            has_room: has_room(),
            name: locks::table_name(&options.path),
            record: record_for(&identity, options),
            identity,
            inherited: Ancestors::of_this_process(),
            lineage: Lineage::default(),
            hold_file: None,
            lender: Lender::default(),
        })
    }

    pub(crate) fn shared_id(&self) -> &SharedId {
        &self.shared_id
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether this process opened the file, not its parent.
    pub(crate) fn is_ours(&self) -> bool {
        self.descriptor.is_ours()
    }

    /// Returns the wall clock's time now, in nanoseconds since 1970.
    pub(crate) fn wall_now(&self) -> u64 {
        clock::monotonic().saturating_add(self.wall_offset)
    }

    /// Takes the `flock` on the file that the path names if it is free, and returns the
    /// length of the file.
    fn try_lock(&mut self, options: &LockOptions, now: u64) -> Result<Option<u64>, LockError> {
        let failed = |e| LockError::io(&options.path, "take write lock", e);
        for _ in 0..REPLACEMENTS_MAX {
            if !file::try_lock(&self.descriptor).map_err(failed)? {
                let is_current = self.is_current(&options.path, now, PATH_RECHECK_WAITING);
                if is_current.map_err(failed)? {
                    return Ok(None);
                }
            } else if let Some(length) = self.confirm(&options.path, now).map_err(failed)? {
                self.lender.lend_again(options);
                return Ok(Some(length));
            }
            match self.reopen(options) {
                // Another program has the new one and does not share it: as if it were held.
                Err(error) if error.is_in_use() => return Ok(None),
                reopened => reopened?,
            }
        }
        Err(failed(io::Error::other("it is replaced again and again")))
    }

    /// Returns the length of the file that was just locked if the path still names it.
    /// Otherwise, and on an error, unlocks it again.
    fn confirm(&mut self, path: &Path, now: u64) -> io::Result<Option<u64>> {
        let confirmed = file::facts(&self.descriptor).and_then(|facts| {
            let is_current = facts.links > 0 && self.is_current(path, now, PATH_RECHECK)?;
            Ok(is_current.then_some(facts.len))
        });
        if !matches!(confirmed, Ok(Some(_))) {
            file::unlock(&self.descriptor)?;
        }
        confirmed
    }

    /// Whether the path still names this file. The file system is asked only if it was last
    /// asked more than `age` nanoseconds ago.
    fn is_current(&mut self, path: &Path, now: u64, age: u64) -> io::Result<bool> {
        let is_same_path = self.checked_path.as_os_str() == path.as_os_str();
        if is_same_path && now.saturating_sub(self.checked) < age {
            return Ok(true);
        }
        match file::facts_of_path(path) {
            Ok(facts) if facts.id == self.id => {
                self.checked = now;
                self.wall_offset = clock::wall_offset();
                self.has_room = has_room();
                if !is_same_path {
                    path.clone_into(&mut self.checked_path);
                }
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens the file that the path names now.
    fn reopen(&mut self, options: &LockOptions) -> Result<(), LockError> {
        let (descriptor, id) = open(options)?;
        self.shared_id.set(id);
        self.descriptor = descriptor;
        self.id = id;
        self.checked = clock::monotonic();
        self.checked_path.clone_from(&options.path);
        self.name = locks::table_name(&options.path);
        Ok(())
    }

    /// Writes the record. A full disk keeps no process from the lock: the kernel holds it,
    /// and its tables name us. Only the record is missing then.
    pub(crate) fn publish(&mut self, options: &LockOptions, now: u64, length: u64) {
        if !self.record_fits(options) {
            self.record = record_for(&self.identity, options);
        }
        if !self.has_room {
            return;
        }
        let now = clock::wall(now, self.wall_offset);
        let _ = self.record.publish(&self.descriptor, now, length);
    }

    /// Whether the record that was last written is right for this hold, but for its time.
    pub(crate) fn record_fits(&self, options: &LockOptions) -> bool {
        self.record
            .fits(options.label.as_deref(), options.model.as_deref())
    }

    /// Blanks the record.
    fn clear_record(&self) -> io::Result<()> {
        if !self.has_room {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        holder_record::clear(&self.descriptor)
    }

    // ---- under an ancestor's hold ----------------------------------------------

    /// Returns the level at which this process works under an ancestor that holds this lock
    /// file, if it does.
    pub(crate) fn level(&self, path: &Path) -> Option<Level> {
        let name = self.name.as_ref()?;
        self.ancestors()?.level(path, name, &self.lineage)
    }

    fn ancestors(&self) -> Option<&Ancestors> {
        self.inherited.iter().find(|one| one.file == self.id)
    }

    /// Takes the byte of our level if it is free.
    pub(crate) fn try_lock_under(
        &mut self,
        options: &LockOptions,
        level: Level,
    ) -> Result<Option<Hold>, LockError> {
        if level.is_too_deep() {
            return Err(too_deep(&options.path));
        }
        let path = hold_file::path_of(&options.path);
        let failed = |e| LockError::io(&path, "take write lock under an ancestor's hold", e);
        let byte = level.byte();
        let opened = &mut self.hold_file;
        if !HoldFile::try_lock(opened, options, byte).map_err(failed)? {
            return Ok(None);
        }
        let Some(file) = &self.hold_file else {
            return Ok(None);
        };
        // The ancestor may have died in between; and the children of one that died may
        // still be at work below us.
        let is_same = self.level(&options.path) == Some(level);
        if is_same && !level.is_busy_below(file.file()).map_err(failed)? {
            self.lender.lend_again(options);
            return Ok(Some(Hold::Under(level)));
        }
        file.unlock(byte).map_err(failed)?;
        Ok(None)
    }

    pub(crate) fn unlock_under(
        &self,
        options: &LockOptions,
        level: Level,
    ) -> Result<(), LockError> {
        let failed = |e| {
            LockError::io(
                &options.path,
                "release write lock under an ancestor's hold",
                e,
            )
        };
        self.lender.end();
        let file = self.hold_file.as_ref();
        file.map_or(Ok(()), |file| file.unlock(level.byte()))
            .map_err(failed)
    }

    /// Lends the hold to a child of ours, and returns the value of its environment variable.
    pub(crate) fn lend(&self, options: &LockOptions, hold: Hold) -> String {
        self.lender.lend(options);
        let own = ProcessId::own();
        let chain = match (hold, self.ancestors()) {
            (Hold::Under(level), Some(ancestors)) => ancestors.chain_below(level, own),
            _ => vec![own],
        };
        inherited_hold::value(&self.inherited, self.id, &chain)
    }
}

/// Returns the level at which this process works under an ancestor that holds this lock
/// file, without opening the file.
pub(crate) fn level(path: &Path) -> Option<Level> {
    let inherited = Ancestors::of_this_process();
    let id = file::facts_of_path(path).ok()?.id;
    let ancestors = inherited.iter().find(|one| one.file == id)?;
    ancestors.level(path, &locks::table_name(path)?, &Lineage::default())
}

fn too_deep(path: &Path) -> LockError {
    let why = format!("{DEPTH_MAX} processes hold it, each started under the one before");
    let kind = Kind::Io {
        what: "take write lock under an ancestor's hold",
        next: "do this work in one of them".into(),
        source: io::Error::other(why),
    };
    LockError::new(path, kind)
}

/// The kernel's lock as one acquisition or release sees it.
pub(crate) struct KernelAttempt<'a> {
    file: &'a mut LockFile,
    options: &'a LockOptions,
    /// Length of the lock file, as of the last time that its lock was taken.
    pub(crate) length: u64,
    /// The pid of a holder that does not use the queue; zero if it is not known.
    pub(crate) unqueued_holder: Option<u64>,
    /// Where others learn of such a holder.
    slot: Option<&'a Slot>,
}

impl<'a> KernelAttempt<'a> {
    pub(crate) fn new(file: &'a mut LockFile, options: &'a LockOptions) -> Self {
        Self {
            file,
            options,
            length: 0,
            unqueued_holder: None,
            slot: None,
        }
    }

    /// Leaves word of a holder that does not use the queue in this slot's queue file.
    pub(crate) fn noting_in(self, slot: &'a Slot) -> Self {
        let slot = Some(slot);
        Self { slot, ..self }
    }
}

impl KernelLock for KernelAttempt<'_> {
    type Error = LockError;

    fn try_lock(&mut self, now: u64) -> Result<bool, LockError> {
        let length = self.file.try_lock(self.options, now)?;
        self.length = length.unwrap_or(0);
        Ok(length.is_some())
    }

    fn unlock(&mut self, at_rest: bool) -> Result<(), LockError> {
        let failed = |what| {
            let path = &self.options.path;
            move |error| LockError::io(path, what, error)
        };
        let file = &self.file.descriptor;
        // A waiting process overwrites the record as the next holder.
        let cleared = if at_rest {
            self.file.clear_record()
        } else {
            Ok(())
        };
        self.file.lender.end();
        // Also after an error: a record that is left does no harm, because the kernel is
        // asked who holds the lock.
        file::unlock(file).map_err(failed("release write lock"))?;
        cleared.map_err(failed("empty the record of the write lock"))
    }

    fn met_unqueued_holder(&mut self) {
        let name = self.file.name.as_ref();
        let pid = name.and_then(|name| match locks::flock_on(name) {
            Seen::Held { taker } => taker,
            Seen::HeldBySomebody | Seen::NotHeld | Seen::Unknown => None,
        });
        self.unqueued_holder = Some(pid.map_or(0, u64::from));
        if let (Some(slot), Some(pid)) = (self.slot, pid) {
            slot.note_outsider(&outsider(pid, WRITE_LOCK, self.file.identity.pidns));
        }
    }
}

fn record_for(identity: &Identity, options: &LockOptions) -> RecordWriter {
    let (label, database) = (options.label.as_deref(), options.model.as_deref());
    RecordWriter::new(identity, label, database, &options.path)
}

/// Describes a process in the way, of which this process knows the pid in its own namespace.
pub(crate) fn outsider(pid: u32, lock: u64, own_pidns: Option<u64>) -> OutsiderRecord {
    OutsiderRecord {
        at: clock::monotonic(),
        pid,
        start: process::start(pid),
        pidns: own_pidns,
        lock,
        cmd: process::cmd(pid).unwrap_or_default(),
    }
}

/// Whether this process may write a record: the limit on the size of files counts also where a
/// file is longer already, and a write at the limit ends the process with SIGXFSZ.
fn has_room() -> bool {
    file::size_limit().is_none_or(|limit| limit >= RECORD_LEN as u64)
}

/// Opens the lock file, if the path may be one.
fn open(options: &LockOptions) -> Result<(Descriptor, FileId), LockError> {
    let path = &options.path;
    refuse_network(options)?;
    let model = options.stand_in.as_deref().or(options.model.as_deref());
    let file = Descriptor::open(|| file::open_or_create(path, model))
        .map_err(|e| LockError::opening_for(options.model.as_deref(), path, "open lock file", e))?;
    let failed = |e| LockError::io(path, "open lock file", e);
    if !file.metadata().map_err(failed)?.is_file() {
        let why = "not a regular file".to_owned();
        let next = "remove it, or choose another lock path";
        return Err(LockError::new(path, Kind::Refused { why, next }));
    }
    // Any text in a file of this name is ours to overwrite.
    let is_called_lock = path.file_name().is_some_and(|name| name == LOCK_FILE_NAME);
    let why = match holder_record::found(&file).map_err(failed)? {
        FileContent::Record => None,
        FileContent::Database => Some("it is a database"),
        FileContent::Other if is_called_lock => None,
        FileContent::Other => Some("it holds something that is no lock record"),
    };
    if let Some(why) = why {
        let why = why.to_owned();
        let next = "choose another lock path, or remove what stands there";
        return Err(LockError::new(path, Kind::Refused { why, next }));
    }
    let id = file::facts(&file).map_err(failed)?.id;
    Ok((file, id))
}

fn refuse_network(options: &LockOptions) -> Result<(), LockError> {
    if options.allow_network_fs {
        return Ok(());
    }
    let path = &options.path;
    let directory = path.parent().unwrap_or(path);
    let found = filesystem::network(directory)
        .map_err(|e| LockError::io(path, "look at the directory of the lock file", e))?;
    match found {
        Some(file_system) => Err(LockError::new(path, Kind::Network { file_system })),
        None => Ok(()),
    }
}
