//! A command on a terminal: a pseudo-terminal whose other end a test reads and types
//! on, and what stands on its screen.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate of its own and uses a part of it"
)]

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::peer::{self, PATIENCE};

/// Rows and columns of a new terminal.
pub const SIZE: (u16, u16) = (24, 80);

/// A terminal with one command on it, which is its session's leader, as a shell's window
/// is closed over it.
pub struct Terminal {
    child: Child,
    /// Our end, and who reads from it; `None` once it is hung up.
    ours: Option<File>,
    reader: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    screen: Arc<Mutex<vt100::Parser>>,
    /// All that was ever written to it.
    written: Arc<Mutex<Vec<u8>>>,
    /// Its other end, so that it goes on when the command is gone.
    other: Option<File>,
    /// As the command found it.
    modes: Termios,
}

impl Terminal {
    /// Starts the command; says aloud if it cannot be had as a session's leader.
    pub fn start(command: &Command) -> Option<Self> {
        if !peer::has("setsid") {
            return None;
        }
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name: CString = ptsname(&ours, Vec::new()).unwrap();
        let open = || {
            let path = OsStr::from_bytes(name.as_bytes());
            let flags = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
            File::options()
                .read(true)
                .write(true)
                .custom_flags(flags)
                .open(path)
                .unwrap()
        };
        let other = open();
        resize(&ours.try_clone().unwrap().into(), SIZE);
        let modes = tcgetattr(&other).unwrap();
        // Makes its standard input the terminal that controls it.
        let mut leader = Command::new("setsid");
        leader
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(open())
            .stdout(open())
            .stderr(open());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        leader.env("TERM", "xterm-256color");
        if let Some(folder) = command.get_current_dir() {
            leader.current_dir(folder);
        }
        let child = leader.spawn().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            some(SIZE.0),
            some(SIZE.1),
            0,
        )));
        let written = Arc::default();
        let ours = File::from(ours);
        let is_over = Arc::default();
        let reader = keep(ours.try_clone().unwrap(), &screen, &written, &is_over);
        Some(Self {
            child,
            ours: Some(ours),
            reader: Some(reader),
            is_over,
            screen,
            written,
            other: Some(other),
            modes,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types something.
    pub fn types(&mut self, keys: &str) {
        self.ours
            .as_mut()
            .unwrap()
            .write_all(keys.as_bytes())
            .unwrap();
    }

    /// What stands on it now.
    pub fn shows(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Whether the cursor is shown.
    pub fn shows_cursor(&self) -> bool {
        !self.screen.lock().unwrap().screen().hide_cursor()
    }

    /// Whether it shows the screen of a program that took it over.
    pub fn is_taken_over(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Everything that was written to it.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits until its contents are so.
    #[track_caller]
    pub fn until(&self, what: &str, so: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.shows();
            if so(&shown) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "waited {PATIENCE:?} for {what}:\n{shown}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives it another size, of which its command is told.
    pub fn resizes(&self, size: (u16, u16)) {
        let mut screen = self.screen.lock().unwrap();
        resize(self.ours.as_ref().unwrap(), size);
        screen.screen_mut().set_size(some(size.0), some(size.1));
    }

    /// Reads nothing more: whoever writes to it has to wait.
    pub fn reads_no_more(&mut self) {
        self.is_over.store(true, SeqCst);
        self.reader.take().unwrap().join().unwrap();
    }

    /// Closes its window: the kernel tells the command by a SIGHUP.
    pub fn hangs_up(&mut self) {
        self.reads_no_more();
        self.other = None;
        self.ours = None;
    }

    pub fn signal(&self, name: &str) {
        peer::signal(self.pid(), name);
    }

    /// Waits for the command's end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        peer::until("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Asserts that it is as the command found it: what it does with keys, its screen,
    /// its cursor.
    #[track_caller]
    pub fn assert_given_back(&self) {
        let modes = tcgetattr(self.other.as_ref().unwrap()).unwrap();
        let flags = |modes: &Termios| {
            (
                modes.input_modes,
                modes.output_modes,
                modes.control_modes,
                modes.local_modes,
            )
        };
        assert_eq!(flags(&modes), flags(&self.modes));
        // What it wrote at last has to come through first.
        peer::until("its own screen", || !self.is_taken_over());
        peer::until("the cursor", || self.shows_cursor());
    }

    /// Whether keys come one by one and are not echoed.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(self.other.as_ref().unwrap()).unwrap();
        modes.local_modes != self.modes.local_modes
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn some(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

fn resize(terminal: &File, (rows, columns): (u16, u16)) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

/// Reads what is written until the end, so that whoever writes is never kept waiting.
fn keep(
    mut from: File,
    screen: &Arc<Mutex<vt100::Parser>>,
    written: &Arc<Mutex<Vec<u8>>>,
    is_over: &Arc<AtomicBool>,
) -> JoinHandle<()> {
    let (screen, written) = (Arc::clone(screen), Arc::clone(written));
    let is_over = Arc::clone(is_over);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while !is_over.load(SeqCst) {
            let mut ready = [PollFd::new(&from, PollFlags::IN)];
            let pause = Timespec::try_from(Duration::from_millis(20)).unwrap();
            if poll(&mut ready, Some(&pause)) == Ok(0) {
                continue;
            }
            let Ok(length @ 1..) = from.read(&mut bytes) else {
                break;
            };
            written.lock().unwrap().extend_from_slice(&bytes[..length]);
            screen.lock().unwrap().process(&bytes[..length]);
        }
    })
}
