//! Taking and giving back the write lock.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::panic::Location;
use std::path::{self, Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::attachment::{self, Ended, Hold, Offer, Pen};
use crate::canceller::Canceller;
use crate::deadline::Deadline;
use crate::error::{Kind, LockError};
use crate::fair_queue::NoTurn;
use crate::guard::{Held, Owned};
use crate::mailbox::{Claim, Fate, Request};
use crate::queue_file::{self, BatchSize, Seat, header::PageHeader};
use crate::status::{Glance, Holder, Status};
use crate::sys::fork;
use crate::turnstile::{self, Policy};

/// How long an acquisition waits unless it is told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);

/// The name of the lock file in a database's folder.
pub const LOCK_FILE_NAME: &str = "db.lock";

/// A write lock between processes, and between the threads of each.
///
/// Cheap to keep and to share: a process has one descriptor for each lock file,
/// opened at the first acquisition, however many lockers there are. Nothing on
/// disk is touched before that.
///
/// ```
/// use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let locker = WriteLocker::new(folder.path())?;
/// {
///     let _guard = locker.acquire(DEFAULT_TIMEOUT)?;
///     // Nobody else on this machine writes now.
///     assert_eq!(locker.holder()?.unwrap().pid, Some(std::process::id()));
/// } // released here, also by a panic; by the kernel if the process dies
/// assert!(locker.holder()?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WriteLocker {
    pub(crate) request: Arc<attachment::Request>,
    generation: u64,
    pen: OnceLock<Arc<Pen>>,
    /// Of many tasks that find no attachment one makes it.
    #[cfg(feature = "tokio")]
    pub(crate) attaching: tokio::sync::Mutex<()>,
}

impl WriteLocker {
    /// A lock on the file [`LOCK_FILE_NAME`] in this folder.
    ///
    /// # Errors
    ///
    /// The folder does not exist or cannot be resolved.
    pub fn new(dir: impl AsRef<Path>) -> Result<Self, LockError> {
        let dir = dir.as_ref();
        if dir.as_os_str().is_empty() {
            return Err(no_file(dir));
        }
        Self::at(dir.join(LOCK_FILE_NAME))
    }

    /// A lock on this file, which is created if it is missing. The path is made
    /// absolute and links in its folder are resolved now, so that a later change
    /// of the working directory changes nothing.
    ///
    /// # Errors
    ///
    /// The path names no file, or its folder does not exist or cannot be
    /// resolved.
    pub fn at(path: impl AsRef<Path>) -> Result<Self, LockError> {
        let path = resolve(path.as_ref())?;
        attachment::watch_forks().map_err(|e| LockError::io(&path, "watch for forks", e))?;
        Ok(Self::of(Arc::new(attachment::Request {
            path,
            model: None,
            label: None,
            allow_network_fs: false,
            policy: Policy::default(),
            page: true,
            warn_hold: DEFAULT_TIMEOUT,
        })))
    }

    fn of(request: Arc<attachment::Request>) -> Self {
        Self {
            request,
            generation: fork::generation(),
            pen: OnceLock::new(),
            #[cfg(feature = "tokio")]
            attaching: tokio::sync::Mutex::default(),
        }
    }

    /// Says for what the lock is taken: shown to whoever waits for it. Control
    /// characters are escaped, and it is cut at 64 bytes.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.request).label = Some(label.into());
        self
    }

    /// If the lock file has to be created, it gets the permission bits and the
    /// group of `model` (the database), whatever the umask: whoever may write
    /// the one may then lock the other.
    #[must_use]
    pub fn permissions_like(mut self, model: impl Into<PathBuf>) -> Self {
        Arc::make_mut(&mut self.request).model = Some(model.into());
        self
    }

    /// Works on a network file system too, where this lock excludes only the
    /// processes of this machine, if any. Off by default.
    #[must_use]
    pub fn allow_network_fs(mut self, allow: bool) -> Self {
        Arc::make_mut(&mut self.request).allow_network_fs = allow;
        self
    }

    /// In which order waiting processes are served; [`Policy::Slices`] by default.
    /// It is for what happens when this process lets go: others may have another.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        Arc::make_mut(&mut self.request).policy = policy;
        self
    }

    /// Does not queue: the kernel's lock is polled, and whoever queues is served
    /// first as a rule. For a folder in which nothing but the lock file may be
    /// created; where that cannot be it happens by itself.
    #[must_use]
    pub fn no_page(mut self) -> Self {
        Arc::make_mut(&mut self.request).page = false;
        self
    }

    /// A hold of this length or longer is kept as an event of the page
    /// ([`EventKind::LongHold`](crate::EventKind::LongHold)); the default timeout
    /// ([`DEFAULT_TIMEOUT`]) unless it is set. Of holds that nobody waits for the
    /// length is known to within some milliseconds.
    #[must_use]
    pub fn warn_hold(mut self, longest: Duration) -> Self {
        Arc::make_mut(&mut self.request).warn_hold = longest;
        self
    }

    /// The lock file.
    #[must_use]
    pub fn lock_file(&self) -> &Path {
        &self.request.path
    }

    /// The path of the page that processes queue in.
    #[must_use]
    pub fn page_file(&self) -> PathBuf {
        queue_file::path_of(&self.request.path)
    }

    /// What the beginning of that page says, and why it is not used if it is not;
    /// `None` if there is none. Only looks.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn page_header(&self) -> Result<Option<PageHeader>, LockError> {
        let path = self.page_file();
        PageHeader::read(&path).map_err(|e| LockError::opening(&path, "read page", e))
    }

    /// Takes the lock, waiting up to `timeout` ([`Duration::ZERO`] tries once).
    ///
    /// The threads of this process are served in the order they came, and so are
    /// processes, as [`Policy`] says. Where they cannot queue, the kernel's lock is
    /// polled after 5, 10, 20, 40, 50, 50 … ms.
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](LockError::is_timeout): the text and
    ///   [`holder`](LockError::holder) say who held it.
    /// - [`is_nested`](LockError::is_nested): this thread holds it already.
    /// - [`is_network_file_system`](LockError::is_network_file_system).
    /// - anything else: the lock file cannot be opened or locked; the cause is
    ///   the error's source.
    pub fn acquire(&self, timeout: Duration) -> Result<WriteGuard, LockError> {
        let pen = self.pen()?;
        // Where nobody is in the way nothing has to know the time.
        if let Some(guard) = self.try_on(&pen, false)? {
            return Ok(guard);
        }
        self.acquire_on(pen, &Deadline::after(timeout))
    }

    /// Takes the lock, waiting up to a deadline that the caller shares with
    /// whatever else it waits for.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_by(&self, deadline: &Deadline) -> Result<WriteGuard, LockError> {
        let pen = self.pen()?;
        if let Some(guard) = self.try_on(&pen, false)? {
            return Ok(guard);
        }
        self.acquire_on(pen, deadline)
    }

    /// Takes the lock, waiting up to a deadline, and leaves a request meanwhile: a
    /// holder that understands it may carry it out in its own transaction and answer,
    /// and then this wait ends without the lock. See [`WriteGuard::requests`].
    ///
    /// Where there is no page, or others than this user may write it, or the request
    /// is longer than fits (about 3,900 bytes), nothing is left, and this waits as
    /// [`acquire`](Self::acquire) does. Whoever cancels a wait behind another thread of
    /// this process ends it only when that one lets go.
    pub fn acquire_with_request(
        &self,
        deadline: &Deadline,
        canceller: &Canceller,
        offer: Option<&Offer<'_>>,
    ) -> Waited {
        match self.pen() {
            Ok(pen) => self.wait_with(pen, deadline, Some(canceller), offer),
            Err(error) => Waited {
                lock: Err(error),
                fate: Fate::Untouched,
                commit: Duration::ZERO,
            },
        }
    }

    fn acquire_on(&self, pen: Arc<Pen>, deadline: &Deadline) -> Result<WriteGuard, LockError> {
        let guard = self.wait_with(pen, deadline, None, None).lock?;
        // Nobody cancelled it.
        guard.ok_or_else(|| timed_out(&self.request, deadline, 0, 0))
    }

    fn wait_with(
        &self,
        pen: Arc<Pen>,
        deadline: &Deadline,
        canceller: Option<&Canceller>,
        offer: Option<&Offer<'_>>,
    ) -> Waited {
        let file = match pen.turn.take(deadline) {
            Ok(file) => file,
            Err(no_turn) => {
                let lock = Err(match no_turn {
                    NoTurn::Nested => self.error(Kind::Nested),
                    NoTurn::Timeout { ahead } => timed_out(&self.request, deadline, ahead, 0),
                });
                return Waited {
                    lock,
                    fate: Fate::Untouched,
                    commit: Duration::ZERO,
                };
            }
        };
        let mut turn = Owned::new(pen, file);
        let (ended, fate) = turn
            .file()
            .wait_with(&self.request, deadline, canceller, offer);
        let commit = turn.file().seat().map_or(0, |seat| seat.pace().0);
        let commit = Duration::from_nanos(commit);
        let lock = match ended {
            Ok(Ended::Held(hold)) => Ok(Some(self.guard(turn, hold))),
            Ok(Ended::Cancelled) => Ok(None),
            Ok(Ended::TimedOut { ahead }) => {
                // Finding out who holds may take a while: not at others' cost.
                drop(turn);
                Err(timed_out(&self.request, deadline, 0, ahead))
            }
            Err(error) => Err(error),
        };
        Waited { lock, fate, commit }
    }

    /// Takes the lock if it is free this moment and nobody waits for it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), but for the timeout.
    pub fn try_acquire(&self) -> Result<Option<WriteGuard>, LockError> {
        self.try_on(&self.pen()?, true)
    }

    /// Takes the lock if it is to be had without waiting: what
    /// [`acquire`](Self::acquire) tries first. Unlike
    /// [`try_acquire`](Self::try_acquire) it may pass those whom [`Policy`] lets it
    /// pass. For whoever has something to prepare before it waits.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), but for the timeout.
    pub fn acquire_at_once(&self) -> Result<Option<WriteGuard>, LockError> {
        self.try_on(&self.pen()?, false)
    }

    /// Whether the calling thread holds the lock by a guard of this process: it
    /// would wait for itself.
    #[must_use]
    pub fn is_held_by_this_thread(&self) -> bool {
        let pen = self.attached();
        pen.is_some_and(|pen| pen.turn.is_mine())
    }

    /// The error of [`acquire`](Self::acquire) for whoever waited until its deadline
    /// behind so many others of this process, without asking for the lock itself: it
    /// names the holder.
    #[must_use]
    pub fn timeout_error(&self, deadline: &Deadline, ahead: usize) -> LockError {
        timed_out(&self.request, deadline, ahead, 0)
    }

    /// The error of [`acquire`](Self::acquire) for a thread that holds the lock.
    #[must_use]
    pub fn nested_error(&self) -> LockError {
        self.error(Kind::Nested)
    }

    fn try_on(&self, pen: &Arc<Pen>, polite: bool) -> Result<Option<WriteGuard>, LockError> {
        let file = match pen.turn.try_take() {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(_nested) => return Err(self.error(Kind::Nested)),
        };
        let mut turn = Owned::new(Arc::clone(pen), file);
        let hold = turn.file().try_take(&self.request, polite)?;
        Ok(hold.map(|hold| self.guard(turn, hold)))
    }

    fn guard(&self, turn: Owned, hold: Hold) -> WriteGuard {
        WriteGuard::new(Held::new(Arc::clone(&self.request), turn, hold))
    }

    /// Whether others use this lock too: threads of this process this moment, or
    /// processes that are attached to its queue, waiting or not. `true` where that
    /// is not known.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let Ok(pen) = self.pen() else {
            return true;
        };
        match pen.turn.try_take() {
            Ok(Some(file)) => Owned::new(pen, file).file().is_shared(),
            Ok(None) | Err(_) => true,
        }
    }

    /// Who holds the lock, if anybody does. Only looks: it creates, takes and
    /// probes nothing.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn holder(&self) -> Result<Option<Holder>, LockError> {
        Holder::of_lock(&self.request.path)
            .map_err(|e| LockError::opening(&self.request.path, "read lock file", e))
    }

    /// The lock seen from outside. Only looks.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn status(&self) -> Result<Status, LockError> {
        Status::of_lock(&self.request.path)
            .map_err(|e| LockError::opening(&self.request.path, "read lock file", e))
    }

    /// The lock as its page shows it. Only looks, and at less than
    /// [`status`](Self::status) does: fit for ten times a second.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn glance(&self) -> Result<Glance, LockError> {
        Glance::of_lock(&self.request.path)
            .map_err(|e| LockError::opening(&self.request.path, "read lock file", e))
    }

    /// The attachment of this process. A locker that a forked child inherited
    /// looks it up each time: what its parent kept here may have been in the
    /// middle of being written at the fork.
    fn pen(&self) -> Result<Arc<Pen>, LockError> {
        match self.attached() {
            Some(pen) => Ok(pen),
            None => Pen::attach(&self.request).map(|pen| self.attach(pen)),
        }
    }

    /// The attachment, if this locker knows it.
    pub(crate) fn attached(&self) -> Option<Arc<Pen>> {
        if self.generation != fork::generation() {
            return None;
        }
        self.pen.get().map(Arc::clone)
    }

    /// Keeps the attachment for the next time.
    pub(crate) fn attach(&self, pen: Arc<Pen>) -> Arc<Pen> {
        if self.generation != fork::generation() {
            return pen;
        }
        Arc::clone(self.pen.get_or_init(|| pen))
    }

    pub(crate) fn error(&self, kind: Kind) -> LockError {
        LockError::new(&self.request.path, kind)
    }
}

/// The error of whom the deadline overtook: behind so many threads and tasks of
/// this process, the holder included, or behind so many processes.
pub(crate) fn timed_out(
    request: &attachment::Request,
    deadline: &Deadline,
    threads: usize,
    processes: usize,
) -> LockError {
    let path = &request.path;
    let holder = match attachment::level(path) {
        Some(level) => Holder::of_byte(path, level.byte()),
        None => Holder::of_lock(path).unwrap_or(None),
    };
    LockError::new(
        path,
        Kind::Timeout {
            deadline: *deadline,
            holder,
            threads,
            processes,
        },
    )
}

/// A locker of the same file, for the process that clones it: a forked child
/// makes a fast one of its own from one that it inherited.
impl Clone for WriteLocker {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.request))
    }
}

/// How a wait ended in which a request was left.
#[derive(Debug)]
pub struct Waited {
    /// The lock; `None` if the wait was cancelled, or ended by an answer.
    ///
    /// # Errors
    ///
    /// As [`WriteLocker::acquire`].
    pub lock: Result<Option<WriteGuard>, LockError>,
    /// What became of the request.
    pub fate: Fate,
    /// How long commits take, as [`WriteGuard::pace`] knows it.
    pub commit: Duration,
}

/// The lock, held. Dropping it releases; so does the kernel when the process
/// dies, however it dies.
///
/// It stays with the thread that took it (it is not `Send`): that is how a
/// nested acquisition is recognised. In a forked child it is nobody's: dropping
/// it there does nothing, and the parent still holds.
///
/// ```compile_fail
/// # use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
/// let guard = WriteLocker::new(".").unwrap().acquire(DEFAULT_TIMEOUT).unwrap();
/// std::thread::spawn(move || drop(guard)); // does not compile
/// ```
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct WriteGuard {
    held: Held,
    stays_with_its_thread: PhantomData<*const ()>,
}

impl WriteGuard {
    /// Of a hold whose turn is this thread's.
    pub(crate) fn new(held: Held) -> Self {
        Self {
            held,
            stays_with_its_thread: PhantomData,
        }
    }

    /// Gives the lock back and says how that went. Dropping does the same and
    /// keeps silent.
    ///
    /// # Errors
    ///
    /// The record could not be blanked (the lock is free all the same), or the
    /// kernel refused to unlock, or this is a forked child
    /// ([`is_forked`](LockError::is_forked)), whose parent still holds.
    pub fn release(self) -> Result<(), LockError> {
        self.held.release()
    }

    /// The same, for whoever does not want the lock again at once: the first in
    /// line gets it now, also within the slice of this process.
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release).
    pub fn hand_over(self) -> Result<(), LockError> {
        self.held.hand_over()
    }

    /// Says what is run, for those who wait: shown by [`Status`] and in the error of
    /// a timeout, until the next one is noted or the lock is given back. The first
    /// 120 bytes are kept. Costs some nanoseconds, and does nothing without a page or
    /// under an ancestor's hold.
    pub fn note_statement(&self, statement: &str) {
        if let Some(seat) = self.held.seat() {
            seat.note_statement(statement);
        }
    }

    /// The same of work that is no statement: where the program asked for it.
    pub fn note_place(&self, place: &Location<'_>) {
        if let Some(seat) = self.held.seat() {
            seat.note_place(place);
        }
    }

    /// What was noted last, as it is shown; nothing for a place.
    #[must_use]
    pub fn noted_statement(&self) -> Option<String> {
        let noted = self.held.seat()?.noted()?;
        (!noted.is_place).then_some(noted.text)
    }

    /// Where the program asked for what was done, for the event of a long hold.
    pub fn note_call_site(&mut self, site: &'static Location<'static>) {
        self.held.note_call_site(site);
    }

    /// The process that had died with the lock, if this hold began by recovering it.
    #[must_use]
    pub fn recovered_from(&self) -> Option<u32> {
        self.held.recovered()
    }

    /// Whether another process waits in line this moment.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.held.is_awaited()
    }

    /// How many waiting processes have left a request, or so.
    #[must_use]
    pub fn count_requests(&self) -> usize {
        self.held.seat().map_or(0, Seat::count_requests)
    }

    /// How many processes wait, or so.
    #[must_use]
    pub fn count_waiting(&self) -> usize {
        let seat = self.held.seat();
        seat.map_or(0, |seat| turnstile::in_line(seat).count())
    }

    /// The requests of this kind that waiting processes have left, first come first.
    ///
    /// To carry one out: in a transaction that excludes every other holder (the lock
    /// may have been deleted under us), [`claim`](Self::claim) it, do it, leave the
    /// [`reply`](Self::reply), note in the same transaction that it was done, commit,
    /// and only then [`acknowledge`](Self::acknowledge). One that
    /// [was claimed](Request::claimed) before must be looked up first.
    #[must_use]
    pub fn requests(&self, kind: u64) -> Vec<Request> {
        let seat = self.held.seat();
        seat.map_or_else(Vec::new, |seat| seat.requests(kind))
    }

    /// Claims a request, unless its owner has taken it back.
    #[must_use]
    pub fn claim(&self, request: &Request, sequence: u64, batch: [u64; 2]) -> bool {
        let claim = Claim {
            sequence,
            batch,
            pid: std::process::id(),
        };
        let seat = self.held.seat();
        seat.is_some_and(|seat| seat.claim_request(request, claim))
    }

    /// Leaves the answer to a claimed request, to be believed once it is
    /// acknowledged; `false` if it is too long (over 4,096 bytes).
    #[must_use]
    pub fn reply(&self, request: &Request, reply: &[u8]) -> bool {
        let seat = self.held.seat();
        seat.is_some_and(|seat| seat.reply(request, reply))
    }

    /// Says that claimed requests were committed: their owners wake.
    pub fn acknowledge(&self, requests: &[Request]) {
        if let Some(seat) = self.held.seat() {
            seat.acknowledge(requests);
        }
    }

    /// Says that nobody will carry a request out: its owner waits for the lock.
    pub fn refuse(&self, request: &Request) {
        if let Some(seat) = self.held.seat() {
            seat.refuse(request);
        }
    }

    /// Random, and never returned twice; `None` without a page.
    #[must_use]
    pub fn unique(&self) -> Option<[u64; 2]> {
        self.held.seat().map(|seat| seat.unique().0)
    }

    /// What holders of this lock found last: a smoothed length of a commit, and how
    /// many shared one. A hint, and zero where nothing is known.
    #[must_use]
    pub fn pace(&self) -> (Duration, usize) {
        let (commit, company) = self.held.seat().map_or((0, 0), Seat::pace);
        let company = usize::try_from(company).unwrap_or(0);
        (Duration::from_nanos(commit), company)
    }

    /// Notes that a commit took so long, and how many shared it.
    pub fn note_pace(&self, commit: Duration, company: usize) {
        let Some(seat) = self.held.seat() else { return };
        let new = u64::try_from(commit.as_nanos()).unwrap_or(u64::MAX);
        let old = match seat.pace().0 {
            0 => new,
            // Garbage is forgotten.
            old => old.min(1_000_000_000),
        };
        // A holder that was kept from running in the middle tells nothing of the disk.
        let new = new.min(old.saturating_mul(2));
        seat.set_pace(old / 8 * 7 + new / 8, company as u64);
    }

    /// Counts a transaction that served several, for people.
    pub fn count_batch(&self, size: BatchSize) {
        if let Some(seat) = self.held.seat() {
            seat.count_batch(size);
        }
    }

    /// Keeps for people that this process did so many writes of others, the first of
    /// whom is `other`.
    pub fn tell_carried(&self, other: u32, writes: u64) {
        self.held.tell_carried(other, writes);
    }

    /// Lets a child process work under this hold: penholder used inside it joins
    /// instead of waiting for us. Several such children exclude one another.
    ///
    /// It does so by an environment variable, which names this process and is
    /// believed only while this process lives and holds the lock. Keep the guard
    /// until the child has ended.
    pub fn lend_to(&self, child: &mut Command) {
        self.held.lend_to(child);
    }
}

fn no_file(path: &Path) -> LockError {
    let empty = path.as_os_str().is_empty();
    let shown = if empty {
        Path::new("(empty path)")
    } else {
        path
    };
    let why = "it names no file".to_owned();
    let next = "give the path of a lock file, or of its folder";
    LockError::new(shown, Kind::Refused { why, next })
}

/// The absolute path, links in its folder resolved. Not in its last part: a
/// lock file is never a link, and `open` refuses one.
fn resolve(path: &Path) -> Result<PathBuf, LockError> {
    let failed = |e| LockError::io(path, "resolve lock file", e);
    let name = path.file_name().filter(|name| *name != OsStr::new(""));
    let Some(name) = name else {
        return Err(no_file(path));
    };
    let absolute = path::absolute(path).map_err(failed)?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let folder = fs::canonicalize(folder).map_err(failed)?;
    if !folder.is_dir() {
        return Err(failed(io::Error::new(
            io::ErrorKind::NotADirectory,
            "what should be its folder is a file",
        )));
    }
    Ok(folder.join(name))
}
