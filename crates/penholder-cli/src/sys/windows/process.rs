//! Child processes.
//!
//! A child of `penholder run` is in the console and the process group of this process. So Windows
//! itself sends each Ctrl-C and each Ctrl-Break that comes to this process to the child too, once:
//! those of the keyboard, and those that a program sends to the group. Nothing has to be passed on.
//! (In a group of its own the child would not get those that are sent to ours, and Ctrl-C is
//! switched off there.) The same goes for the events as the console is closed and the session ends.
//!
//! This process and the child are in a job, which Windows ends when this process ends, however that
//! happens. It does so within a moment, and the lock may be free before: until then only SQLite's own
//! locks keep the child and another writer apart. A process that leaves the job on purpose
//! (`CREATE_BREAKAWAY_FROM_JOB`) is not held back.

use std::ffi::OsStr;
use std::io;
use std::os::windows::process::CommandExt;
use std::process::{self, Child, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_BREAKAWAY_OK,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use super::signal::{self, SignalThread};
use super::{pipe, succeeded};

/// The program that runs a command line.
pub(crate) const SHELL: &str = "cmd";

/// How long a wait for the end of the parent takes at most; then it begins again.
const LONG: Duration = Duration::from_secs(3600);

/// Returns the command that runs a command line in [`SHELL`].
pub(crate) fn shell(line: &OsStr) -> Command {
    let mut command = Command::new(SHELL);
    // With /S, all between the first quote and the last is the line, as it is.
    command.raw_arg("/D /S /C \"").raw_arg(line).raw_arg("\"");
    command
}

/// What the child and this process share.
pub(crate) struct SignalForwarder(Job);

impl SignalForwarder {
    /// Prepares a job for the child.
    pub(crate) fn watch(_signals: &SignalThread) -> io::Result<Self> {
        Ok(Self(Job::with_this_process()?))
    }

    /// Starts the child. From now on, no event ends this process before it.
    pub(crate) fn start(self, command: &mut Command) -> io::Result<RunningChild> {
        signal::react(Box::new(|_| {}));
        let child = command.spawn()?;
        Ok(RunningChild {
            child,
            _job: self.0,
        })
    }
}

/// A child that runs. Dropping it waits for its end: what this process holds for the child
/// is not given up earlier, whatever fails meanwhile.
pub(crate) struct RunningChild {
    child: Child,
    /// Goes last.
    _job: Job,
}

impl RunningChild {
    /// Waits until it has ended.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        let _ = self.child.wait();
    }
}

/// A job that this process is in, and so are the processes that it starts. If this process ends
/// while there is a `Job`, Windows ends them. A job may be part of another.
struct Job {
    /// Closed by Windows when this process ends: closing it would end this process.
    handle: HANDLE,
}

impl Job {
    fn with_this_process() -> io::Result<Self> {
        // SAFETY: neither attributes nor a name are given.
        let handle = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        let job = Self { handle };
        job.limit(JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_BREAKAWAY_OK)?;
        // SAFETY: the job is open, and the handle of this process is always valid.
        succeeded(unsafe { AssignProcessToJobObject(handle, GetCurrentProcess()) })?;
        Ok(job)
    }

    fn limit(&self, flags: u32) -> io::Result<()> {
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = flags;
        let length = u32::try_from(size_of_val(&limits)).unwrap_or(0);
        let limits = (&raw const limits).cast();
        let class = JobObjectExtendedLimitInformation;
        // SAFETY: the job is never closed, and the limits have this length.
        succeeded(unsafe { SetInformationJobObject(self.handle, class, limits, length) })
    }
}

impl Drop for Job {
    /// What the child has left running lives on when this process ends.
    fn drop(&mut self) {
        let _ = self.limit(JOB_OBJECT_LIMIT_BREAKAWAY_OK);
    }
}

/// Ends this process when its parent ends, and at once if it has ended already: then the
/// reader of standard output is gone.
pub(crate) fn end_with_parent() -> io::Result<()> {
    if pipe::stdout_closes_within(Duration::ZERO)? {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let watch = || {
        // On an error, the next write tells.
        while let Ok(false) = pipe::stdout_closes_within(LONG) {}
        signal::exit(1);
    };
    thread::Builder::new()
        .name("parent".to_owned())
        .spawn(watch)
        .map(drop)
}

/// Runs a program, and returns its exit code: this one has nothing else to do.
pub(crate) fn run_instead(command: &mut Command) -> io::Result<ExitCode> {
    let status = command.status()?;
    Ok(exit_code(status).unwrap_or(ExitCode::FAILURE))
}

/// Returns the exit code of a process as that of this one. One that has more than eight bits, as
/// after a crash, ends this process here: `ExitCode` has no room for it.
pub(crate) fn exit_code(status: ExitStatus) -> Option<ExitCode> {
    let code = status.code()?;
    match u8::try_from(code) {
        Ok(code) => Some(code.into()),
        Err(_) => process::exit(code),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn code_of(line: &str) -> Option<i32> {
        let mut command = shell(OsStr::new(line));
        command.stdin(Stdio::null()).status().unwrap().code()
    }

    #[test]
    fn a_command_line_is_run_as_it_is() {
        assert_eq!(code_of("exit 7"), Some(7));
        assert_eq!(code_of(r#"if "a b"=="a b" exit 3"#), Some(3));
        assert_eq!(code_of("(ver >nul) & exit 5"), Some(5));
    }

    #[test]
    fn a_child_is_waited_for_and_the_job_left() {
        let job = Job::with_this_process().unwrap();
        let nested = Job::with_this_process().unwrap();
        let forwarder = SignalForwarder(nested);
        let child = forwarder.start(shell(OsStr::new("exit 9")).stdin(Stdio::null()));
        let status = child.unwrap().wait().unwrap();
        assert_eq!(status.code(), Some(9));
        assert_eq!(exit_code(status), Some(ExitCode::from(9)));
        drop(job);
    }
}
