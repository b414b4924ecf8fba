//! The cost of watching: the CPU time that `penholder top` uses on a terminal while
//! other processes write.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use penholder_lock::WriteLocker;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::clock::{self, Nanos};
use crate::directory::Directory;
use crate::machine::Machine;
use crate::penholder_command::PenholderCommand;
use crate::process;

/// How long it takes until all processes write and the screen is drawn.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of processes that write
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    writers: u32,
    /// How long to measure, in seconds
    #[arg(long, default_value = "10", value_parser = clock::parse_seconds)]
    seconds: Duration,
    /// How often `top` updates
    #[arg(long, default_value = "100ms", value_parser = clock::parse)]
    interval: Duration,
    #[command(flatten)]
    penholder: PenholderCommand,
    #[command(flatten)]
    directory: Directory,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    process::raise_file_limit(args.writers)?;
    let directory = args.directory.temporary()?;
    let penholder = args.penholder.find()?;
    println!("{}", Machine::here(args.directory.path()).hardware);
    let _writers = KillOnDrop(start_writers(&penholder, args, directory.path())?);
    let locker = WriteLocker::new(directory.path())?;
    wait_for_writes(&locker)?;
    let terminal = Terminal::open()?;
    let top = start_top(&penholder, args, directory.path(), &terminal)?;
    let usage = measure(&mut KillOnDrop(top), &locker, args.seconds)?;
    println!(
        "top every {:?} with {} writers, which took the lock {} times in {:.1} s",
        args.interval,
        args.writers,
        usage.acquisitions,
        clock::micros(usage.elapsed) / 1e6
    );
    let percent = clock::micros(usage.cpu_time) / clock::micros(usage.elapsed) * 100.0;
    println!("it uses {percent:.2}% of one CPU (target 1%)");
    Ok(())
}

/// What happened while `top` was measured.
struct Usage {
    cpu_time: Nanos,
    elapsed: Nanos,
    acquisitions: u64,
}

fn measure(
    top: &mut KillOnDrop,
    locker: &WriteLocker,
    duration: Duration,
) -> Result<Usage, Box<dyn Error>> {
    thread::sleep(WARM_UP);
    let (before, began) = (cpu_time(top.0.id())?, clock::now());
    let earlier = locker.snapshot()?;
    thread::sleep(duration);
    let used = cpu_time(top.0.id())?.saturating_sub(before);
    let elapsed = clock::now() - began;
    let acquisitions = locker.snapshot()?.counted_since(&earlier).acquisitions;
    if let Some(status) = top.0.try_wait()? {
        return Err(format!("`penholder top` exited: {status}").into());
    }
    if acquisitions == 0 {
        return Err("no process wrote".into());
    }
    Ok(Usage {
        cpu_time: used,
        elapsed,
        acquisitions,
    })
}

fn wait_for_writes(locker: &WriteLocker) -> Result<(), Box<dyn Error>> {
    let deadline = clock::after(Duration::from_secs(20));
    while locker.snapshot()?.status.counters.contended == 0 {
        if clock::left(deadline).is_zero() {
            return Err("no process wrote within 20 s".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_writers(penholder: &Path, args: &Args, directory: &Path) -> Result<Child, Box<dyn Error>> {
    let child = Command::new(penholder)
        // Far more rows than they can write before the measurement ends.
        .args(["stress", "x.db", "--writes", "100000000", "--processes"])
        .arg(args.writers.to_string())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // At the end its processes complain that their directory is gone.
        .stderr(Stdio::null())
        .spawn()?;
    Ok(child)
}

fn start_top(
    penholder: &Path,
    args: &Args,
    directory: &Path,
    terminal: &Terminal,
) -> Result<Child, Box<dyn Error>> {
    let interval = format!("{}us", args.interval.as_micros());
    let child = Command::new(penholder)
        .args(["top", "x.db", "--interval", &interval])
        .current_dir(directory)
        .env("TERM", "xterm-256color")
        .stdin(terminal.other_end()?)
        .stdout(terminal.other_end()?)
        .spawn()?;
    Ok(child)
}

/// A pseudo-terminal whose screen is read all the time.
struct Terminal {
    name: PathBuf,
}

impl Terminal {
    fn open() -> Result<Self, Box<dyn Error>> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        fcntl_setfd(&controller, FdFlags::CLOEXEC)?;
        grantpt(&controller)?;
        unlockpt(&controller)?;
        let size = Winsize {
            ws_row: 40,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&controller, size)?;
        let name = ptsname(&controller, Vec::new())?;
        let name = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
        let mut screen = File::from(controller);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // Reading fails until the other end is open, and after it is closed.
            loop {
                if screen.read(&mut chunk).is_err() {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Ok(Self { name })
    }

    fn other_end(&self) -> Result<File, Box<dyn Error>> {
        Ok(File::options().read(true).write(true).open(&self.name)?)
    }
}

/// Returns the CPU time that a process has used. It is the sum of the kernel's
/// scheduler statistics of its threads, which are finer than the ticks in `stat`.
fn cpu_time(pid: u32) -> Result<Nanos, Box<dyn Error>> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let used = text.split(' ').next().unwrap_or_default();
        sum += used.parse::<Nanos>()?;
    }
    Ok(sum)
}
