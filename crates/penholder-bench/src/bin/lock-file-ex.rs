//! Compares the write lock with a bare pair of `LockFileEx` and `UnlockFileEx` on Windows: how long an
//! uncontended lock takes, and how long it takes from a release, or from the end of a holder that is
//! killed, to the process that waits. The last one with the bare lock is how long the system keeps the
//! locks of a dead process.
//!
//! It is a program of its own because the other benchmarks need Unix.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]
#![cfg_attr(
    windows,
    allow(unsafe_code, reason = "the bare calls that are compared")
)]

use std::process::ExitCode;

#[cfg(not(windows))]
fn main() -> ExitCode {
    eprintln!("lock-file-ex: this compares with a lock of Windows, and runs only there");
    ExitCode::FAILURE
}

#[cfg(windows)]
fn main() -> ExitCode {
    match comparison::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lock-file-ex: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(windows)]
mod comparison {
    use std::error::Error;
    use std::fs::File;
    use std::io::{self, BufRead, BufReader, Write};
    use std::os::windows::io::AsRawHandle;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use penholder_lock::WriteLocker;
    use windows_sys::Win32::Storage::FileSystem::{
        LOCKFILE_EXCLUSIVE_LOCK, LockFileEx, UnlockFileEx,
    };
    use windows_sys::Win32::System::IO::OVERLAPPED;
    use windows_sys::Win32::System::Performance::{
        QueryPerformanceCounter, QueryPerformanceFrequency,
    };

    type Result<T> = std::result::Result<T, Box<dyn Error>>;

    /// How often the two alternate, and how many pairs an uncontended round has.
    const ROUNDS: usize = 15;
    const PAIRS: u32 = 1000;
    /// How many hand-offs a round has.
    const HANDOFFS: usize = 20;
    /// How many holders are killed in a round.
    const KILLS: usize = 3;
    /// Until the other process waits in any case.
    const PAUSE: Duration = Duration::from_millis(5);
    const TIMEOUT: Duration = Duration::from_secs(30);
    /// The byte that the bare lock uses.
    const BYTE: u32 = 1;

    /// What is compared.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Bare,
        Penholder,
    }

    impl Kind {
        const BOTH: [Self; 2] = [Self::Bare, Self::Penholder];

        fn name(self) -> &'static str {
            match self {
                Self::Bare => "bare",
                Self::Penholder => "penholder",
            }
        }
    }

    /// A lock of either kind in a directory.
    enum Lock {
        Bare(File),
        Penholder(WriteLocker),
    }

    impl Lock {
        fn open(kind: Kind, directory: &Path) -> Result<Self> {
            Ok(match kind {
                Kind::Bare => {
                    let path = directory.join("bare.lock");
                    let mut options = File::options();
                    let options = options.read(true).write(true).create(true).truncate(false);
                    Self::Bare(options.open(path)?)
                }
                Kind::Penholder => Self::Penholder(WriteLocker::new(directory)?),
            })
        }

        /// Holds the lock while `body` runs.
        fn with<T>(&self, body: impl FnOnce() -> T) -> Result<T> {
            match self {
                Self::Bare(file) => {
                    lock(file)?;
                    let result = body();
                    unlock(file)?;
                    Ok(result)
                }
                Self::Penholder(locker) => {
                    let guard = locker.acquire(TIMEOUT)?;
                    let result = body();
                    guard.release()?;
                    Ok(result)
                }
            }
        }
    }

    /// Waits for the lock in the kernel.
    fn lock(file: &File) -> io::Result<()> {
        let mut at = overlapped();
        // SAFETY: the handle is open, and the call has ended with `at` when it returns.
        match unsafe {
            LockFileEx(
                file.as_raw_handle(),
                LOCKFILE_EXCLUSIVE_LOCK,
                0,
                1,
                0,
                &raw mut at,
            )
        } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn unlock(file: &File) -> io::Result<()> {
        let mut at = overlapped();
        // SAFETY: as in `lock`.
        match unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut at) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn overlapped() -> OVERLAPPED {
        let mut at = OVERLAPPED::default();
        at.Anonymous.Anonymous.Offset = BYTE;
        at
    }

    /// Reads the clock that all processes share, in microseconds.
    fn now() -> f64 {
        let (mut ticks, mut frequency) = (0, 1);
        // SAFETY: the result is ours.
        unsafe { QueryPerformanceCounter(&raw mut ticks) };
        // SAFETY: as above.
        unsafe { QueryPerformanceFrequency(&raw mut frequency) };
        #[expect(clippy::cast_precision_loss, reason = "53 bits are enough for this")]
        let (ticks, frequency) = (ticks as f64, frequency as f64);
        ticks * 1e6 / frequency
    }

    pub(super) fn run() -> Result<()> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => compare(),
            ["wait", kind, directory] => wait(kind, Path::new(directory)),
            ["hold", kind, directory] => hold(kind, Path::new(directory)),
            _ => Err("usage: lock-file-ex".into()),
        }
    }

    fn compare() -> Result<()> {
        let directory = tempfile::tempdir()?;
        print_row("uncontended", |kind| uncontended(kind, directory.path()))?;
        print_row("hand-off", |kind| handoff(kind, directory.path()))?;
        print_row("after a kill", |kind| after_kill(kind, directory.path()))
    }

    /// Prints the medians of both kinds, which alternate, and their ratio.
    fn print_row(what: &str, measure: impl Fn(Kind) -> Result<f64>) -> Result<()> {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (kind, times) in Kind::BOTH.into_iter().zip(&mut times) {
                times.push(measure(kind)?);
            }
        }
        let [bare, penholder] = times.map(median);
        println!(
            "{what}: bare {bare:.1} µs, penholder {penholder:.1} µs, ratio {:.2}",
            penholder / bare
        );
        Ok(())
    }

    fn uncontended(kind: Kind, directory: &Path) -> Result<f64> {
        let lock = Lock::open(kind, directory)?;
        lock.with(|| ())?;
        let begun = Instant::now();
        for _ in 0..PAIRS {
            lock.with(|| ())?;
        }
        Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(PAIRS))
    }

    /// Returns the median time from a release to the process that waits.
    fn handoff(kind: Kind, directory: &Path) -> Result<f64> {
        let lock = Lock::open(kind, directory)?;
        let mut waiter = Peer::start("wait", kind, directory)?;
        let mut times = Vec::new();
        for _ in 0..HANDOFFS {
            lock.with(|| waiter.ask(PAUSE))??;
            let released = now();
            times.push(waiter.answer()? - released);
        }
        waiter.end()?;
        Ok(median(times))
    }

    /// Returns the median time from the call that kills a holder to the process that waits.
    fn after_kill(kind: Kind, directory: &Path) -> Result<f64> {
        let mut waiter = Peer::start("wait", kind, directory)?;
        let mut times = Vec::new();
        for _ in 0..KILLS {
            let mut holder = Peer::start("hold", kind, directory)?;
            holder.answer()?;
            waiter.ask(PAUSE)?;
            let killed = now();
            holder.child.kill()?;
            times.push(waiter.answer()? - killed);
            holder.end()?;
        }
        waiter.end()?;
        Ok(median(times))
    }

    /// A process that waits or holds.
    struct Peer {
        child: Child,
        answers: BufReader<std::process::ChildStdout>,
    }

    impl Peer {
        fn start(role: &str, kind: Kind, directory: &Path) -> Result<Self> {
            let mut child = Command::new(std::env::current_exe()?)
                .args([role, kind.name()])
                .arg(directory)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let stdout = child.stdout.take().ok_or("the process has no output")?;
            let answers = BufReader::new(stdout);
            Ok(Self { child, answers })
        }

        /// Has it wait for the lock.
        fn ask(&mut self, pause: Duration) -> Result<()> {
            let input = self
                .child
                .stdin
                .as_mut()
                .ok_or("the process has no input")?;
            writeln!(input, "go")?;
            thread::sleep(pause);
            Ok(())
        }

        /// Returns when it had the lock.
        fn answer(&mut self) -> Result<f64> {
            let mut line = String::new();
            self.answers.read_line(&mut line)?;
            Ok(line.trim().parse()?)
        }

        fn end(mut self) -> Result<()> {
            drop(self.child.stdin.take());
            self.child.wait()?;
            Ok(())
        }
    }

    /// Takes the lock for each line, and says when it had it.
    fn wait(kind: &str, directory: &Path) -> Result<()> {
        let lock = Lock::open(kind_named(kind)?, directory)?;
        for line in io::stdin().lines() {
            line?;
            println!("{}", lock.with(now)?);
        }
        Ok(())
    }

    /// Takes the lock, says so, and holds it until it is killed.
    fn hold(kind: &str, directory: &Path) -> Result<()> {
        let lock = Lock::open(kind_named(kind)?, directory)?;
        lock.with(|| {
            println!("{}", now());
            io::stdin().read_line(&mut String::new()).map(drop)
        })??;
        Ok(())
    }

    fn kind_named(name: &str) -> Result<Kind> {
        let kind = Kind::BOTH.into_iter().find(|one| one.name() == name);
        kind.ok_or_else(|| "no such lock".into())
    }

    fn median(mut times: Vec<f64>) -> f64 {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}
