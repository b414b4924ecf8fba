//! Files that another program has open at this moment: Windows refuses to open, rename or delete
//! them meanwhile. Virus scanners, indexers and backup programs do that to files that are new.
//! SQLite tries again for itself, for about 1.4 s.

use std::io;
use std::thread;
use std::time::Duration;

use penholder_core::Deadline;

use crate::sys;

/// No file is waited for longer, because the same error may say that it is not permitted.
const LONGEST: Duration = Duration::from_secs(2);
/// The pause after the first attempt; each further one is longer by as much.
const PAUSE: Duration = Duration::from_millis(5);

/// Tries again while the error says that another program has the file open, until the deadline.
pub(crate) fn retry<T>(
    deadline: &Deadline,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let longest = Deadline::after(LONGEST);
    let mut pause = PAUSE;
    loop {
        match attempt() {
            Err(error) if sys::is_in_use(&error) && !longest.is_over() && !deadline.is_over() => {
                thread::sleep(pause.min(deadline.remaining()));
                pause += PAUSE;
            }
            done => return done,
        }
    }
}

/// Does the same with what an attempt consumes, and gives back if it fails.
pub(crate) fn retry_with<T>(
    file: T,
    deadline: &Deadline,
    mut attempt: impl FnMut(T) -> Result<(), (io::Error, T)>,
) -> io::Result<()> {
    let mut file = Some(file);
    let once = || match file.take().map(&mut attempt) {
        Some(Err((error, again))) => {
            file = Some(again);
            Err(error)
        }
        Some(Ok(())) | None => Ok(()),
    };
    retry(deadline, once)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_error_is_not_tried_again() {
        let deadline = Deadline::after(Duration::from_secs(60));
        let mut attempts = 0;
        let result = retry(&deadline, || -> io::Result<()> {
            attempts += 1;
            Err(io::ErrorKind::NotFound.into())
        });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(attempts, 1);
    }

    #[test]
    #[cfg(windows)]
    fn a_file_that_is_open_for_a_moment_is_renamed() {
        use std::fs::{self, File};
        use std::os::windows::fs::OpenOptionsExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, b"").unwrap();
        let mut alone = File::options();
        let alone = alone.read(true).share_mode(0).open(&path).unwrap();
        let name = directory.path().join("y");
        let short = Deadline::after(Duration::from_millis(20));
        retry(&short, || fs::rename(&path, &name)).unwrap_err();
        let closing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(alone);
        });
        let deadline = Deadline::after(Duration::from_secs(60));
        retry(&deadline, || fs::rename(&path, &name)).unwrap();
        closing.join().unwrap();
        assert!(name.exists());
    }
}
