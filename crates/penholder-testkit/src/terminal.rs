//! A command on a pseudo-terminal: a test reads its screen and types on it.

use std::ffi::{CString, OsStr};
use std::fmt;
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
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::{peer, requirement, wait};

/// The rows and columns of a new terminal.
pub const SIZE: (u16, u16) = (24, 80);

/// A terminal with one command, which is the leader of the terminal's session, as it is
/// in the window of a terminal emulator.
pub struct Terminal {
    child: Child,
    /// The master side; `None` after a hangup.
    master: Option<File>,
    /// The thread that reads from the master side.
    reader: Option<JoinHandle<()>>,
    /// Tells the reader to end.
    is_over: Arc<AtomicBool>,
    screen: Arc<Mutex<vt100::Parser>>,
    /// Everything that was written to the terminal.
    output: Arc<Mutex<Vec<u8>>>,
    /// The other side, kept open so that the terminal outlives the command.
    slave: Option<File>,
    /// The modes that the command found.
    modes: Termios,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal")
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// Starts the command on a new terminal of size [`SIZE`].
    ///
    /// Returns `None`, and reports a skipped test, if `setsid` is not installed.
    pub fn start(command: &Command) -> Option<Self> {
        if !requirement::has_program("setsid") {
            return None;
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        fcntl_setfd(&master, FdFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name: CString = ptsname(&master, Vec::new()).unwrap();
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
        let slave = open();
        set_size(&master.try_clone().unwrap().into(), SIZE);
        let modes = tcgetattr(&slave).unwrap();
        // Makes the terminal on its standard input its controlling terminal.
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
        if let Some(directory) = command.get_current_dir() {
            leader.current_dir(directory);
        }
        let child = leader.spawn().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            nonzero(SIZE.0),
            nonzero(SIZE.1),
            0,
        )));
        let output = Arc::default();
        let master = File::from(master);
        let is_over = Arc::default();
        let reader = read(master.try_clone().unwrap(), &screen, &output, &is_over);
        Some(Self {
            child,
            master: Some(master),
            reader: Some(reader),
            is_over,
            screen,
            output,
            slave: Some(slave),
            modes,
        })
    }

    /// Returns the process id of the command.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types keys.
    pub fn type_keys(&mut self, keys: &str) {
        self.master
            .as_mut()
            .unwrap()
            .write_all(keys.as_bytes())
            .unwrap();
    }

    /// Returns the text on the screen.
    pub fn contents(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Returns whether the cursor is visible.
    pub fn is_cursor_visible(&self) -> bool {
        !self.screen.lock().unwrap().screen().hide_cursor()
    }

    /// Returns whether it shows the alternate screen, which full-screen programs use.
    pub fn is_alternate_screen(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Returns everything that was written to it.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until a condition holds for the text on the screen.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + wait::LIMIT;
        loop {
            let contents = self.contents();
            if condition(&contents) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "waited {:?} for {what}:\n{contents}",
                wait::LIMIT
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Changes its size. The kernel tells the command by `SIGWINCH`.
    pub fn resize(&self, size: (u16, u16)) {
        let mut screen = self.screen.lock().unwrap();
        set_size(self.master.as_ref().unwrap(), size);
        screen
            .screen_mut()
            .set_size(nonzero(size.0), nonzero(size.1));
    }

    /// Stops reading, so that a write to it blocks once its buffer is full.
    pub fn stop_reading(&mut self) {
        self.is_over.store(true, SeqCst);
        self.reader.take().unwrap().join().unwrap();
    }

    /// Closes it. The kernel tells the command by `SIGHUP`.
    pub fn hang_up(&mut self) {
        self.stop_reading();
        self.slave = None;
        self.master = None;
    }

    /// Sends the command a signal by its name.
    pub fn signal(&self, name: &str) {
        peer::signal(self.pid(), name);
    }

    /// Waits until the command exits.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait::until("the command exits", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Asserts that the command restored the modes, the screen and the cursor.
    #[track_caller]
    pub fn assert_restored(&self) {
        let modes = tcgetattr(self.slave.as_ref().unwrap()).unwrap();
        let flags = |modes: &Termios| {
            (
                modes.input_modes,
                modes.output_modes,
                modes.control_modes,
                modes.local_modes,
            )
        };
        assert_eq!(flags(&modes), flags(&self.modes));
        // The reader may not have seen the command's last output yet.
        wait::until("the main screen is back", || !self.is_alternate_screen());
        wait::until("the cursor is back", || self.is_cursor_visible());
    }

    /// Returns whether the command changed the local modes: keys then arrive one by one and
    /// are not echoed.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(self.slave.as_ref().unwrap()).unwrap();
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

fn nonzero(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}

fn set_size(terminal: &File, (rows, columns): (u16, u16)) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

/// Reads what is written until the end, so that a writer never blocks.
fn read(
    mut master: File,
    screen: &Arc<Mutex<vt100::Parser>>,
    output: &Arc<Mutex<Vec<u8>>>,
    is_over: &Arc<AtomicBool>,
) -> JoinHandle<()> {
    let (screen, output) = (Arc::clone(screen), Arc::clone(output));
    let is_over = Arc::clone(is_over);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while !is_over.load(SeqCst) {
            let mut ready = [PollFd::new(&master, PollFlags::IN)];
            let pause = Timespec::try_from(Duration::from_millis(20)).unwrap();
            if poll(&mut ready, Some(&pause)) == Ok(0) {
                continue;
            }
            let Ok(length @ 1..) = master.read(&mut bytes) else {
                break;
            };
            output.lock().unwrap().extend_from_slice(&bytes[..length]);
            screen.lock().unwrap().process(&bytes[..length]);
        }
    })
}
