//! A process that this program started: told what to do by lines on its standard
//! input, heard by lines from its standard output, waited for no longer than a
//! deadline, and killed when it is no longer wanted.

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::clock::{self, Nanos};

pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    /// What was read and not yet handed out.
    heard: Vec<u8>,
}

impl Process {
    /// This program again, in another role.
    pub(crate) fn of_this_program(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        Self::start(Command::new(std::env::current_exe()?).args(arguments))
    }

    pub(crate) fn start(command: &mut Command) -> Result<Self, Box<dyn Error>> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("start {}: {e}", command.get_program().display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("a process without output")?;
        Ok(Self {
            child,
            input,
            output,
            heard: Vec::new(),
        })
    }

    /// Sends a line.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        let input = self.input.as_mut().ok_or("its input is closed")?;
        Ok(input.write_all(format!("{line}\n").as_bytes())?)
    }

    /// The next line that it says.
    pub(crate) fn hear(&mut self, deadline: Nanos) -> Result<String, Box<dyn Error>> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let rest = self.heard.split_off(end + 1);
                let line = std::mem::replace(&mut self.heard, rest);
                return Ok(String::from_utf8(line)?.trim_end().to_owned());
            }
            self.wait_for_output(deadline)?;
            let mut piece = [0; 4096];
            match self.output.read(&mut piece)? {
                0 => return Err(self.end().into()),
                length => self.heard.extend_from_slice(&piece[..length]),
            }
        }
    }

    fn wait_for_output(&self, deadline: Nanos) -> Result<(), Box<dyn Error>> {
        loop {
            let left = clock::left(deadline);
            let mut output = [PollFd::new(&self.output, PollFlags::IN)];
            match poll(&mut output, Some(&Timespec::try_from(left)?)) {
                Ok(0) if left.is_zero() => {
                    return Err(format!("process {} says nothing", self.child.id()).into());
                }
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How it ended, when its output has.
    fn end(&mut self) -> String {
        for _ in 0..100 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return match status.signal() {
                    Some(signal) => format!("a worker was ended by signal {signal}"),
                    None => format!("a worker ended: {status}"),
                };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        "a worker closed its output".into()
    }

    /// `kill -9`, without waiting for its end.
    pub(crate) fn kill(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.child.kill()?)
    }

    /// Closes its input, which ends it, and waits for that.
    pub(crate) fn finish(mut self, deadline: Nanos) -> Result<(), Box<dyn Error>> {
        self.input = None;
        while self.child.try_wait()?.is_none() {
            if clock::left(deadline).is_zero() {
                return Err(format!("process {} does not end", self.child.id()).into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago: both calls know.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For a process in another role: it ends when this program's main thread does,
/// whatever it is doing. (One whose parent was gone before this reads an end of
/// its input instead of an order.)
pub(crate) fn end_with_parent() -> Result<(), Box<dyn Error>> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        Signal::KILL,
    ))?)
}

/// Room for the pipes of so many processes.
pub(crate) fn make_room(processes: u32) -> Result<(), Box<dyn Error>> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::from(processes) * 2 + 64;
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(current),
            ..limit
        },
    )?;
    Ok(())
}
