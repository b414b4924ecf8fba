//! What several test files have their peers do: an actor that takes the lock
//! and gives it back on command, and a critical section that is counted.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate of its own and uses a part of it"
)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use penholder_lock::{LockError, Policy, WriteGuard, WriteLocker};
use rustix::fs::Mode;

use super::peer::{self, Peer, Role};

/// For acquisitions that must not fail.
pub const LONG: Duration = Duration::from_secs(60);

/// What is said of a holder that was not found.
const UNNAMED: &str = "  holder: a process that left no record";

/// Takes the lock and gives it back on command: see [`Actor`].
pub const OBEY: Role = ("obey", obey);
/// Counts in the folder so many times, under the lock: see [`Counter`].
pub const COUNT: Role = ("count", count);

/// The lock file of a folder.
pub fn lock_file(folder: &Path) -> PathBuf {
    folder.join(penholder_lock::LOCK_FILE_NAME)
}

/// Another process with a locker, which does what it is told.
pub struct Actor {
    pub peer: Peer,
}

impl Actor {
    /// With a locker of this lock file.
    pub fn start(lock_file: &Path) -> Self {
        Self::spawn(Self::command(lock_file, &[]))
    }

    /// One that holds the lock.
    pub fn holding(lock_file: &Path) -> Self {
        let mut actor = Self::start(lock_file);
        actor.takes();
        actor
    }

    /// The command of [`start`](Self::start); the options are `label=…`,
    /// `model=…` (a path), `umask=…` (octal), `policy=fifo` and `page=no`.
    pub fn command(lock_file: &Path, options: &[&str]) -> Command {
        let options = options.iter().map(OsStr::new);
        Peer::command(OBEY.0, [lock_file.as_os_str()].into_iter().chain(options))
    }

    /// Starts what [`command`](Self::command) gave, perhaps changed.
    pub fn spawn(command: Command) -> Self {
        let peer = Peer::spawn(command);
        peer.expect("ready");
        Self { peer }
    }

    pub fn pid(&self) -> u32 {
        self.peer.pid()
    }

    /// Tells it something and waits for the answer.
    pub fn ask(&mut self, what: &str) -> String {
        self.peer.tell(what);
        self.peer.line()
    }

    /// It must get the lock.
    pub fn takes(&mut self) {
        assert_eq!(self.take(LONG), "held");
    }

    /// `held`, or the text of the error, `|` between its lines.
    pub fn take(&mut self, timeout: Duration) -> String {
        self.ask(&format!("take {}", timeout.as_millis()))
    }

    /// It must be kept out, and told by whom.
    pub fn is_kept_out_by(&mut self, holder: u32) {
        let told = until_named(|| {
            let told = self.take(Duration::from_millis(200));
            (!told.contains(UNNAMED), told)
        });
        let named = format!("write lock timeout after 200ms|  holder: pid:{holder} ");
        assert!(told.starts_with(&named), "{told}");
    }

    /// Has it wait for the lock, and returns when it stands in line.
    pub fn queues(&mut self, lock_file: &Path, timeout: Duration) {
        self.peer.tell(&format!("take {}", timeout.as_millis()));
        let pid = self.pid();
        let locker = WriteLocker::at(lock_file).unwrap();
        peer::until("it stands in line", || {
            let queue = locker.status().unwrap().queue;
            queue.iter().any(|waiter| waiter.pid == pid)
        });
    }

    /// Whether it gets the lock at once without passing anybody.
    pub fn tries(&mut self) -> bool {
        self.ask("try") == "held"
    }

    pub fn releases(&mut self) {
        assert_eq!(self.ask("release"), "released");
    }

    /// What it sees: `Free`, or `Held`, pid, state and whether there is a record.
    pub fn looks(&mut self) -> String {
        self.ask("look")
    }
}

/// Repeats what gives whether a holder was named, and something. Who left no
/// record is searched for among all processes, for 40 ms at most: on a busy
/// machine that may be too short now and then, but not every time.
pub fn until_named<T>(mut time_out: impl FnMut() -> (bool, T)) -> T {
    for _ in 0..10 {
        if let (true, value) = time_out() {
            return value;
        }
    }
    time_out().1
}

fn obey(args: &[OsString]) {
    let locker = locker(args);
    peer::say("ready");
    let mut guard = None;
    // The end of the pipe ends the process: no peer outlives its test.
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("take", timeout) => take(&locker, timeout, &mut guard),
            ("try", _) => {
                guard = locker.try_acquire().unwrap();
                if guard.is_some() { "held" } else { "busy" }.to_owned()
            }
            ("release", _) => match guard.take().unwrap().release() {
                Ok(()) => "released".to_owned(),
                Err(error) => on_one_line(&error),
            },
            ("look", _) => look(&locker),
            ("lend", _) => lent(guard.as_ref().unwrap()),
            _ => panic!("told {line:?}"),
        };
        peer::say(&answer);
    }
}

fn locker(args: &[OsString]) -> WriteLocker {
    let mut locker = WriteLocker::at(&args[0]).unwrap();
    for option in &args[1..] {
        locker = match option.to_str().unwrap().split_once('=').unwrap() {
            ("label", label) => locker.label(label),
            ("policy", "fifo") => locker.policy(Policy::Fifo),
            ("page", "no") => locker.no_page(),
            ("model", model) => locker.permissions_like(model),
            ("umask", bits) => {
                let bits = u32::from_str_radix(bits, 8).unwrap();
                rustix::process::umask(Mode::from_bits_truncate(bits));
                locker
            }
            _ => panic!("option {}", option.display()),
        };
    }
    locker
}

fn take(locker: &WriteLocker, timeout: &str, guard: &mut Option<WriteGuard>) -> String {
    match locker.acquire(Duration::from_millis(timeout.parse().unwrap())) {
        Ok(taken) => {
            *guard = Some(taken);
            "held".to_owned()
        }
        Err(error) => on_one_line(&error),
    }
}

fn look(locker: &WriteLocker) -> String {
    match locker.status() {
        Ok(status) => match status.holder {
            Some(holder) => format!(
                "{:?} pid:{} {:?} recorded:{}",
                status.state,
                holder.pid.unwrap_or(0),
                holder.state,
                holder.recorded
            ),
            None => format!("{:?}", status.state),
        },
        Err(error) => on_one_line(&error),
    }
}

/// What `lend_to` gives a child.
fn lent(guard: &WriteGuard) -> String {
    let mut child = Command::new("true");
    guard.lend_to(&mut child);
    let (name, value) = child.get_envs().next().unwrap();
    let (name, value) = (name.to_str().unwrap(), value.unwrap().to_str().unwrap());
    format!("{name} {value}")
}

fn on_one_line(error: &LockError) -> String {
    error.to_string().replace('\n', "|")
}

/// A number in a file, which comes out wrong if two add to it at once: it is
/// read and written in separate steps.
pub struct Counter {
    path: PathBuf,
}

impl Counter {
    /// Starts at zero.
    pub fn new(folder: &Path) -> Self {
        let counter = Self::of(folder);
        fs::write(&counter.path, "0\n").unwrap();
        counter
    }

    /// The one that stands in the folder.
    pub fn of(folder: &Path) -> Self {
        Self {
            path: folder.join("counter"),
        }
    }

    pub fn read(&self) -> u64 {
        let text = fs::read_to_string(&self.path).unwrap();
        // Empty while somebody else writes: then two are inside at once.
        text.trim().parse().expect("nobody else is inside")
    }

    pub fn add_one(&self) {
        let count = self.read();
        thread::yield_now();
        fs::write(&self.path, format!("{}\n", count + 1)).unwrap();
    }
}

fn count(args: &[OsString]) {
    let folder = Path::new(&args[0]);
    let times: u32 = args[1].to_str().unwrap().parse().unwrap();
    let locker = WriteLocker::new(folder).unwrap();
    let counter = Counter::of(folder);
    peer::say("ready");
    peer::hear("go");
    for _ in 0..times {
        let guard = locker.acquire(LONG).unwrap();
        counter.add_one();
        guard.release().unwrap();
        // Others are to get in between.
        thread::yield_now();
    }
    peer::say("done");
}

/// Starts them all at once and waits until all are done.
pub fn race(peers: &mut [Peer]) {
    for peer in &mut *peers {
        peer.expect("ready");
    }
    for peer in &mut *peers {
        peer.tell("go");
    }
    for peer in peers {
        peer.expect("done");
    }
}

/// The same command, run by `wrapper`, a program with arguments that runs what
/// follows them.
pub fn under(wrapper: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(wrapper[0]);
    wrapped
        .args(&wrapper[1..])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    wrapped
}

/// Whether we may do everything; says aloud if not, for tests that then skip.
pub fn are_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        peer::skip("to be run by root");
    }
    root
}

/// Whether this process works in the first pid namespace; says aloud if not.
pub fn is_first_pid_namespace() -> bool {
    // `PROC_PID_INIT_INO` of the kernel.
    let first = fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == 0xEFFF_FFFC);
    if !first {
        peer::skip("the first pid namespace");
    }
    first
}
