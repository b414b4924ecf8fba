//! A child process that exchanges lines with this program over its standard input
//! and output. Every wait for it has a deadline, and dropping it kills it.

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clock::{self, Nanos};

pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    /// Output that was read but is not yet returned as a line.
    received: Vec<u8>,
}

impl Process {
    /// Starts this program with other arguments.
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
        let output = child.stdout.take().ok_or("the process has no output")?;
        Ok(Self {
            child,
            input,
            output,
            received: Vec::new(),
        })
    }

    /// Sends a line.
    pub(crate) fn send(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        let input = self
            .input
            .as_mut()
            .ok_or("the input of the process is closed")?;
        Ok(input.write_all(format!("{line}\n").as_bytes())?)
    }

    /// Receives the next line.
    pub(crate) fn receive(&mut self, deadline: Nanos) -> Result<String, Box<dyn Error>> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let rest = self.received.split_off(end + 1);
                let line = std::mem::replace(&mut self.received, rest);
                return Ok(String::from_utf8(line)?.trim_end().to_owned());
            }
            self.wait_for_output(deadline)?;
            let mut chunk = [0; 4096];
            match self.output.read(&mut chunk)? {
                0 => return Err(self.exit_status().into()),
                length => self.received.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn wait_for_output(&self, deadline: Nanos) -> Result<(), Box<dyn Error>> {
        loop {
            let left = clock::left(deadline);
            let mut output = [PollFd::new(&self.output, PollFlags::IN)];
            match poll(&mut output, Some(&Timespec::try_from(left)?)) {
                Ok(0) if left.is_zero() => {
                    return Err(format!(
                        "process {} printed nothing before the deadline",
                        self.child.id()
                    )
                    .into());
                }
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Describes how the process ended. It is called when the output has ended.
    fn exit_status(&mut self) -> String {
        for _ in 0..100 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return match status.signal() {
                    Some(signal) => format!("a worker was killed by signal {signal}"),
                    None => format!("a worker exited: {status}"),
                };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        "a worker closed its output and did not exit".into()
    }

    /// Sends `SIGKILL` and does not wait for the process to end.
    pub(crate) fn kill(&mut self) -> Result<(), Box<dyn Error>> {
        Ok(self.child.kill()?)
    }

    /// Closes the input, on which the process exits, and waits for that.
    pub(crate) fn finish(mut self, deadline: Nanos) -> Result<(), Box<dyn Error>> {
        self.input = None;
        while self.child.try_wait()?.is_none() {
            if clock::left(deadline).is_zero() {
                return Err(format!(
                    "process {} did not exit before the deadline",
                    self.child.id()
                )
                .into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both calls are safe if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises the limit of open files for the pipes of this number of processes.
pub(crate) fn raise_file_limit(processes: u32) -> Result<(), Box<dyn Error>> {
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
