//! Processes that take the lock on command, and a counter that shows whether two
//! processes were in the critical section at once.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use penholder_lock::{LockError, QueuePolicy, WriteGuard, WriteLocker};

use crate::peer::{self, Peer, Role};
use crate::{requirement, wait};

/// A timeout for acquisitions that must not fail.
pub const LONG_TIMEOUT: Duration = Duration::from_secs(60);

/// The line of a timeout's text if no holder was found.
const UNNAMED_HOLDER: &str = "  holder: a process that left no record";

/// The role of a [`LockPeer`]. A test file that starts one has it in its list.
pub const LOCK_PEER_ROLE: Role = ("lock-peer", run_lock_peer);
/// The role that increments the [`Counter`] of a directory under the lock.
///
/// Its arguments are the directory and how often it increments. See [`run_together`].
pub const COUNT_ROLE: Role = ("count", count);

/// Returns the path of the lock file of a directory.
pub fn lock_file(directory: &Path) -> PathBuf {
    directory.join(penholder_lock::LOCK_FILE_NAME)
}

/// Returns the text of the holder record in a lock file, empty if there is no file.
pub fn record_text(lock_file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(lock_file).unwrap_or_default()).into_owned()
}

/// Another process with a locker, which acquires and releases on command.
#[derive(Debug)]
pub struct LockPeer {
    /// The process itself.
    pub peer: Peer,
}

impl LockPeer {
    /// Starts a process with a locker of this lock file.
    pub fn start(lock_file: &Path) -> Self {
        Self::spawn(Self::command(lock_file, &[]))
    }

    /// Starts a process that holds the lock.
    pub fn holding(lock_file: &Path) -> Self {
        let mut peer = Self::start(lock_file);
        peer.acquire();
        peer
    }

    /// Returns the command that [`start`](Self::start) runs.
    ///
    /// The options are `label=…`, `model=…` (a path), `umask=…` (octal), `policy=fifo`
    /// and `queue-file=no`.
    pub fn command(lock_file: &Path, options: &[&str]) -> Command {
        let options = options.iter().map(OsStr::new);
        let args = [lock_file.as_os_str()].into_iter().chain(options);
        Peer::command(LOCK_PEER_ROLE.0, args)
    }

    /// Starts what [`command`](Self::command) returned and the test may have changed.
    #[track_caller]
    pub fn spawn(command: Command) -> Self {
        let peer = Peer::spawn(command);
        peer.expect("ready");
        Self { peer }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.peer.pid()
    }

    /// Starts a child of this process, which holds the lock and lends it to the child.
    #[track_caller]
    pub fn lend(&mut self) -> Self {
        self.start_below("child")
    }

    /// Does the same with a shell between the two processes, which waits for the child.
    #[track_caller]
    pub fn lend_below_shell(&mut self) -> Self {
        self.start_below("grandchild")
    }

    fn start_below(&mut self, how: &str) -> Self {
        let peer = Peer::started_by(|input, output| {
            let pid = self.ask(&format!("start-{how} {input} {output}"));
            pid.parse().unwrap()
        });
        let peer = Self { peer };
        peer.peer.expect("ready");
        peer
    }

    /// Sends a command and waits for the answer.
    ///
    /// The commands are `acquire MILLISECONDS`, `try`, `release`, `status` and `lend`.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.peer.send(command);
        self.peer.read_line()
    }

    /// Acquires the lock, which must succeed.
    #[track_caller]
    pub fn acquire(&mut self) {
        assert_eq!(self.acquire_within(LONG_TIMEOUT), "held");
    }

    /// Tries to acquire the lock within this time.
    ///
    /// Returns `held`, or the text of the error with `|` between its lines.
    #[track_caller]
    pub fn acquire_within(&mut self, timeout: Duration) -> String {
        self.start_acquire(timeout);
        self.peer.read_line()
    }

    /// Sends the command to acquire and does not wait for the answer.
    pub fn start_acquire(&mut self, timeout: Duration) {
        self.peer.send(&format!("acquire {}", timeout.as_millis()));
    }

    /// Asserts that the lock is held by the process `holder`, and that the error names it.
    #[track_caller]
    pub fn assert_blocked_by(&mut self, holder: u32) {
        let text = until_named(|| {
            let text = self.acquire_within(Duration::from_millis(200));
            (!text.contains(UNNAMED_HOLDER), text)
        });
        let start = format!("write lock timeout after 200ms|  holder: pid:{holder} ");
        let may_be_unnamed = !requirement::NAMES_HOLDERS && text.contains(UNNAMED_HOLDER);
        assert!(may_be_unnamed || text.starts_with(&start), "{text}");
    }

    /// Starts to acquire the lock, and returns when the process is in the queue.
    #[track_caller]
    pub fn enqueue(&mut self, lock_file: &Path, timeout: Duration) {
        self.start_acquire(timeout);
        let pid = self.pid();
        let locker = WriteLocker::at(lock_file).unwrap();
        wait::until("the process is in the queue", || {
            let queue = locker.status().unwrap().queue;
            queue.iter().any(|waiter| waiter.pid == pid)
        });
    }

    /// Returns whether it gets the lock at once without overtaking a waiter.
    #[track_caller]
    pub fn try_acquire(&mut self) -> bool {
        self.ask("try") == "held"
    }

    /// Waits until one of these processes, each of which acquires the lock, holds it, and returns its
    /// index. Where a process that is woken may not run soon, the next one is served before it.
    #[track_caller]
    pub fn first_to_hold(peers: &[Self]) -> usize {
        let mut first = None;
        wait::until("one of the processes holds the lock", || {
            first = peers.iter().position(|one| {
                let line = one.peer.read_line_within(Duration::from_millis(1));
                line.inspect(|line| assert_eq!(line, "held")).is_some()
            });
            first.is_some()
        });
        first.unwrap()
    }

    /// Releases the lock, which must succeed.
    #[track_caller]
    pub fn release(&mut self) {
        assert_eq!(self.ask("release"), "released");
    }

    /// Returns the status as this process sees it: `Free`, or `Held`, the pid, its state
    /// and whether there is a record.
    #[track_caller]
    pub fn status(&mut self) -> String {
        self.ask("status")
    }
}

/// Repeats an attempt until it names the holder, ten times at most.
///
/// The attempt returns whether it named the holder, and a value. A holder without a
/// record is searched for among all processes for at most 40 ms. On a busy machine that
/// is sometimes too short, but not every time.
pub fn until_named<T>(mut attempt: impl FnMut() -> (bool, T)) -> T {
    for _ in 0..10 {
        if let (true, value) = attempt() {
            return value;
        }
    }
    attempt().1
}

fn run_lock_peer(args: &[OsString]) {
    let locker = locker(args);
    peer::send("ready");
    let mut guard = None;
    // The loop ends with the pipe, so that no peer outlives its test.
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("acquire", timeout) => acquire(&locker, timeout, &mut guard),
            ("try", _) => {
                guard = locker.try_acquire().unwrap();
                if guard.is_some() { "held" } else { "busy" }.to_owned()
            }
            ("release", _) => match guard.take().unwrap().release() {
                Ok(()) => "released".to_owned(),
                Err(error) => on_one_line(&error),
            },
            ("status", _) => status(&locker),
            ("lend", _) => lend(guard.as_ref().unwrap()),
            ("start-child", files) => start_below(args, guard.as_ref().unwrap(), &[], files),
            ("start-grandchild", files) => {
                let shell = ["sh", "-c", BELOW];
                start_below(args, guard.as_ref().unwrap(), &shell, files)
            }
            _ => panic!("unknown command {line:?}"),
        };
        peer::send(&answer);
    }
}

fn locker(args: &[OsString]) -> WriteLocker {
    let mut locker = WriteLocker::at(&args[0]).unwrap();
    for option in &args[1..] {
        locker = match option.to_str().unwrap().split_once('=').unwrap() {
            ("label", label) => locker.label(label),
            ("policy", "fifo") => locker.policy(QueuePolicy::Fifo),
            ("queue-file", "no") => locker.queue(false),
            ("model", model) => locker.permissions_like(model),
            ("umask", bits) => {
                let bits = u32::from_str_radix(bits, 8).unwrap();
                set_umask(bits);
                locker
            }
            _ => panic!("unknown option {}", option.display()),
        };
    }
    locker
}

#[cfg(unix)]
fn set_umask(bits: u32) {
    let bits = rustix::fs::RawMode::try_from(bits).unwrap();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(bits));
}

#[cfg(windows)]
fn set_umask(_bits: u32) {
    panic!("Windows has no umask");
}

fn acquire(locker: &WriteLocker, timeout: &str, guard: &mut Option<WriteGuard>) -> String {
    match locker.acquire(Duration::from_millis(timeout.parse().unwrap())) {
        Ok(acquired) => {
            *guard = Some(acquired);
            "held".to_owned()
        }
        Err(error) => on_one_line(&error),
    }
}

fn status(locker: &WriteLocker) -> String {
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

/// Returns the variable that `lend_to` sets for a child, name and value.
fn lend(guard: &WriteGuard) -> String {
    let mut child = Command::new("true");
    guard.lend_to(&mut child);
    let (name, value) = child.get_envs().next().unwrap();
    let (name, value) = (name.to_str().unwrap(), value.unwrap().to_str().unwrap());
    format!("{name} {value}")
}

/// Starts a command in the background with the standard input of the shell, says its pid, and
/// waits for it.
const BELOW: &str = "exec 3<&0; \"$0\" \"$@\" <&3 3<&- 2>/dev/null & echo $! >&2; exec 3<&-; wait";

/// Starts a lock peer with these files as its standard input and output, and lends it the
/// lock. Returns its pid.
#[expect(
    clippy::zombie_processes,
    reason = "it may outlive this peer, and is reaped after it"
)]
fn start_below(args: &[OsString], guard: &WriteGuard, wrapper: &[&str], files: &str) -> String {
    let (input, output) = files.split_once(' ').unwrap();
    let mut command = LockPeer::command(Path::new(&args[0]), &[]);
    if !wrapper.is_empty() {
        command = peer::wrapped(wrapper, &command);
    }
    guard.lend_to(&mut command);
    command
        .stdin(File::open(input).unwrap())
        .stdout(File::options().write(true).open(output).unwrap());
    if wrapper.is_empty() {
        return command.spawn().unwrap().id().to_string();
    }
    // The shell says which process it has started.
    let mut shell = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut pid = String::new();
    let said = BufReader::new(shell.stderr.take().unwrap()).read_line(&mut pid);
    said.unwrap();
    pid.trim().to_owned()
}

fn on_one_line(error: &LockError) -> String {
    error.to_string().replace('\n', "|")
}

/// A number in a file that becomes wrong if two processes increment it at once.
///
/// It is read and written in separate steps.
#[derive(Debug)]
pub struct Counter {
    path: PathBuf,
}

impl Counter {
    /// Creates the counter of a directory, at zero.
    pub fn new(directory: &Path) -> Self {
        let counter = Self::open(directory);
        fs::write(&counter.path, "0\n").unwrap();
        counter
    }

    /// Opens the counter that a directory has.
    pub fn open(directory: &Path) -> Self {
        Self {
            path: directory.join("counter"),
        }
    }

    /// Returns the number.
    ///
    /// # Panics
    ///
    /// Fails the test if another process writes at the same moment.
    #[track_caller]
    pub fn read(&self) -> u64 {
        let text = fs::read_to_string(&self.path).unwrap();
        // The file is empty for a moment while another process writes it.
        let count = text.trim().parse();
        count.expect("no other process is in the critical section")
    }

    /// Adds one.
    #[track_caller]
    pub fn increment(&self) {
        let count = self.read();
        thread::yield_now();
        fs::write(&self.path, format!("{}\n", count + 1)).unwrap();
    }
}

fn count(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let times: u32 = args[1].to_str().unwrap().parse().unwrap();
    let locker = WriteLocker::new(directory).unwrap();
    let counter = Counter::open(directory);
    peer::send("ready");
    peer::expect("go");
    for _ in 0..times {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        counter.increment();
        guard.release().unwrap();
        // Gives the others a chance to come in between.
        thread::yield_now();
    }
    peer::send("done");
}

/// Starts all peers at the same moment and waits until all are done.
///
/// Each peer sends `ready`, waits for `go` and sends `done`, as [`COUNT_ROLE`] does.
#[track_caller]
pub fn run_together(peers: &mut [Peer]) {
    for peer in &mut *peers {
        peer.expect("ready");
    }
    for peer in &mut *peers {
        peer.send("go");
    }
    for peer in peers {
        peer.expect("done");
    }
}
