//! Pipes to and from other processes.

use std::io;
use std::os::windows::io::{AsRawHandle, RawHandle};
use std::process::ChildStdout;
use std::ptr::null_mut;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_PIPE_CLOSING_STATE, FILE_PIPE_DISCONNECTED_STATE, FILE_PIPE_LOCAL_INFORMATION,
    FilePipeLocalInformation, NtQueryInformationFile,
};
use windows_sys::Win32::Foundation::ERROR_PIPE_NOT_CONNECTED;
use windows_sys::Win32::Storage::FileSystem::{FILE_TYPE_PIPE, GetFileType};
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;
use windows_sys::Win32::System::Pipes::PeekNamedPipe;

use super::{LOOK, is_code, succeeded};

/// Standard output is looked at this often.
const STDOUT_LOOK: Duration = Duration::from_millis(50);
/// How long a message may wait for its reader.
const MESSAGE: Duration = Duration::from_millis(500);

/// Waits for this time. Returns `true` as soon as the reader of standard output is gone.
pub(crate) fn stdout_closes_within(time: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        if has_lost_reader(io::stdout().as_raw_handle()) {
            return Ok(true);
        }
        let left = time.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        thread::sleep(left.min(STDOUT_LOOK));
    }
}

/// Writes a message on standard error, and does not wait for its reader for long. Windows does not
/// tell whether a pipe has room: one that is being read looks as if it were full.
pub(crate) fn without_waiting(write: impl FnOnce() + Send + 'static) {
    let (tell, told) = channel();
    let write = move || {
        write();
        // The other side may have given up.
        let _ = tell.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = told.recv_timeout(MESSAGE);
    }
}

/// Waits until the child has written something, or has closed its output. Returns
/// `false` if neither happens in time.
pub(crate) fn is_readable_within(output: &ChildStdout, timeout: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    while !is_readable(output)? {
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        thread::sleep(left.min(LOOK));
    }
    Ok(true)
}

fn is_readable(output: &ChildStdout) -> io::Result<bool> {
    let mut length = 0;
    let handle = output.as_raw_handle();
    // SAFETY: the handle is open while the output is borrowed. Nothing is read, and of the results
    // only the length is wanted, which has room.
    let done = unsafe {
        PeekNamedPipe(
            handle,
            null_mut(),
            0,
            null_mut(),
            &raw mut length,
            null_mut(),
        )
    };
    match succeeded(done) {
        Ok(()) => Ok(length > 0),
        Err(error) if is_closed(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether this says that the other end of a pipe is gone.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe || is_code(error, ERROR_PIPE_NOT_CONNECTED)
}

fn has_lost_reader(output: RawHandle) -> bool {
    state(output).is_some_and(|pipe| {
        matches!(
            pipe.NamedPipeState,
            FILE_PIPE_CLOSING_STATE | FILE_PIPE_DISCONNECTED_STATE
        )
    })
}

/// Returns the state of a pipe; `None` of what is no pipe. The documented functions tell it only of
/// the end that can be read. It waits while a write to the pipe waits.
fn state(handle: RawHandle) -> Option<FILE_PIPE_LOCAL_INFORMATION> {
    // SAFETY: a value that is no handle is an error, and nothing is changed.
    if unsafe { GetFileType(handle) } != FILE_TYPE_PIPE {
        return None;
    }
    let mut status = IO_STATUS_BLOCK::default();
    let mut found = FILE_PIPE_LOCAL_INFORMATION::default();
    let length = u32::try_from(size_of_val(&found)).unwrap_or(0);
    // SAFETY: as above; both results have room, the second for `length` bytes.
    let answer = unsafe {
        NtQueryInformationFile(
            handle,
            &raw mut status,
            (&raw mut found).cast(),
            length,
            FilePipeLocalInformation,
        )
    };
    (answer >= 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_pipe_tells_that_its_reader_is_gone() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert!(!has_lost_reader(writer.as_raw_handle()));
        writer.write_all(b"x").unwrap();
        assert!(!has_lost_reader(writer.as_raw_handle()));
        drop(reader);
        assert!(has_lost_reader(writer.as_raw_handle()));
    }

    #[test]
    fn a_message_that_nobody_reads_is_given_up() {
        let begun = Instant::now();
        let (_reader, mut writer) = io::pipe().unwrap();
        without_waiting(move || drop(writer.write_all(&vec![0; 1 << 20])));
        assert!(begun.elapsed() >= MESSAGE);
        let (tell, told) = channel();
        without_waiting(move || tell.send(()).unwrap());
        told.recv().unwrap();
    }

    #[test]
    fn the_output_of_a_child_is_waited_for() {
        let mut command = Command::new("cmd");
        command
            .args(["/C", "echo x"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        assert!(is_readable_within(&output, Duration::from_secs(20)).unwrap());
        child.wait().unwrap();
        assert!(is_readable_within(&output, Duration::ZERO).unwrap());
    }

    #[test]
    fn a_silent_child_is_given_up() {
        let mut command = Command::new("cmd");
        let mut child = command
            .args(["/D", "/Q", "/C", "set /p x="])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        assert!(!is_readable_within(&output, Duration::from_millis(50)).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_readable_within(&output, Duration::from_secs(20)).unwrap());
    }
}
