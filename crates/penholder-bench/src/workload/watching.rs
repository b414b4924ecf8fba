//! What watching costs: `penholder top` on a terminal, ten times a second, while
//! processes write, and the processor time that it uses meanwhile.

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
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::clock::{self, Nanos};
use crate::machine::Machine;
use crate::{matrix, process};

/// Until all write and the screen is drawn.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many processes write
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    writers: u32,
    /// How long, in seconds
    #[arg(long, default_value = "10", value_parser = clock::parse_seconds)]
    seconds: Duration,
    /// How often `top` looks
    #[arg(long, default_value = "100ms", value_parser = clock::parse)]
    interval: Duration,
    /// The command `penholder`; the one beside this program if not said
    #[arg(long)]
    penholder: Option<PathBuf>,
    /// Where the database goes
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    matrix::check_folder(&args.folder)?;
    process::make_room(args.writers)?;
    let folder = tempfile::tempdir_in(&args.folder)?;
    let penholder = command(args)?;
    println!("{}", Machine::here(&args.folder).hardware);
    let _writers = Ended(writers(&penholder, args, folder.path())?);
    let locker = WriteLocker::new(folder.path())?;
    wait_for_writes(&locker)?;
    let terminal = Terminal::open()?;
    let mut top = Ended(top(&penholder, args, folder.path(), &terminal)?);
    thread::sleep(WARM_UP);
    let (before, began) = (processor(top.0.id())?, clock::now());
    let earlier = locker.glance()?;
    thread::sleep(args.seconds);
    let used = processor(top.0.id())?.saturating_sub(before);
    let passed = clock::micros(clock::now() - began);
    let taken = locker.glance()?.counted_since(&earlier).acquisitions;
    if let Some(status) = top.0.try_wait()? {
        return Err(format!("top has ended: {status}").into());
    }
    if taken == 0 {
        return Err("nobody wrote".into());
    }
    println!(
        "top every {:?} beside {} writers, which took the lock {taken} times in {:.1} s",
        args.interval,
        args.writers,
        passed / 1e6
    );
    let percent = clock::micros(used) / passed * 100.0;
    println!("of one processor it uses {percent:.2}% (target 1%)");
    Ok(())
}

fn wait_for_writes(locker: &WriteLocker) -> Result<(), Box<dyn Error>> {
    let deadline = clock::after(Duration::from_secs(20));
    while locker.glance()?.status.counters.contended == 0 {
        if clock::left(deadline).is_zero() {
            return Err("nobody writes".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn command(args: &Args) -> Result<PathBuf, Box<dyn Error>> {
    let beside = std::env::current_exe()?.with_file_name("penholder");
    let path = args.penholder.clone().unwrap_or(beside);
    if path.is_file() {
        return Ok(path);
    }
    let path = path.display();
    Err(format!("{path}: not there: run `cargo build --release -p penholder-cli` first").into())
}

/// A process that is killed at the end.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Far more rows than they can write in this time.
fn writers(penholder: &Path, args: &Args, folder: &Path) -> Result<Child, Box<dyn Error>> {
    let child = Command::new(penholder)
        .args(["stress", "x.db", "--writes", "100000000", "--processes"])
        .arg(args.writers.to_string())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // Its processes say that their folder is gone.
        .stderr(Stdio::null())
        .spawn()?;
    Ok(child)
}

fn top(
    penholder: &Path,
    args: &Args,
    folder: &Path,
    terminal: &Terminal,
) -> Result<Child, Box<dyn Error>> {
    let interval = format!("{}us", args.interval.as_micros());
    let child = Command::new(penholder)
        .args(["top", "x.db", "--interval", &interval])
        .current_dir(folder)
        .env("TERM", "xterm-256color")
        .stdin(terminal.end()?)
        .stdout(terminal.end()?)
        .spawn()?;
    Ok(child)
}

/// A terminal that somebody looks at.
struct Terminal {
    name: PathBuf,
}

impl Terminal {
    fn open() -> Result<Self, Box<dyn Error>> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let size = Winsize {
            ws_row: 40,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&ours, size)?;
        let name = ptsname(&ours, Vec::new())?;
        let name = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
        let mut screen = File::from(ours);
        thread::spawn(move || {
            let mut drawn = [0; 4096];
            // An error until its other end is open, and when that is closed.
            loop {
                if screen.read(&mut drawn).is_err() {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Ok(Self { name })
    }

    fn end(&self) -> Result<File, Box<dyn Error>> {
        Ok(File::options().read(true).write(true).open(&self.name)?)
    }
}

/// The processor time that a process has used: in the kernel's statistics of its
/// threads, which are finer than the ticks of its `stat`.
fn processor(pid: u32) -> Result<Nanos, Box<dyn Error>> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let used = text.split(' ').next().unwrap_or_default();
        sum += used.parse::<Nanos>()?;
    }
    Ok(sum)
}
