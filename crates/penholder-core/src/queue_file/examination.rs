//! What a process examines as it opens a database, on behalf of those that open it at the same
//! time: reading the kernel's tables stops every process that locks a file, and hundreds that
//! start at once would all read them.
//!
//! | the last examination of these files | a process that comes |
//! | --- | --- |
//! | began after it came, or less than [`LASTS`] ago if the files can be told from later ones, and has ended | uses its result |
//! | the same, and has not ended | waits for it |
//! | any other | examines, unless another process does so at this moment: then it waits for that one |
//!
//! It waits for [`PATIENCE`] at most, and then examines too. Meanwhile it only reads the file:
//! asking for a lock again and again would delay the examination.
//!
//! Only that nothing was found is told, so an error is always found by the process that reports
//! it; and only to processes of the same user and pid namespace, which can see as much. Garbage in
//! the file is not believed: the words of a mark are bound to each other.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::build::build;
use super::header;
use super::layout::{AT_EXAMINED, EXAMINED, EXAMINED_LEN, EXAMINING_BYTE, HEAD_LEN, path_of};
use super::trust::Authority;
use crate::deadline::Deadline;
use crate::mailbox;
use crate::sys::descriptor::Descriptor;
use crate::sys::{clock, file, process, user};
use crate::time::nanos;

/// For how long files that can be told from later ones need not be examined again.
const LASTS: Duration = Duration::from_secs(1);
/// How long an examination takes, as a rule, even if hundreds of processes start.
const USUAL: Duration = Duration::from_millis(100);
/// How long one is waited for. The process may have been stopped.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pauses meanwhile, of which each is twice as long as the one before.
const PAUSES: RangeInclusive<Duration> = Duration::from_millis(2)..=Duration::from_millis(32);

/// Which files are examined.
#[derive(Debug, Clone, Copy)]
pub struct Examined {
    /// A number made from their names and identities.
    pub files: u64,
    /// Whether all of them are there, and have another number if they are replaced.
    pub is_lasting: bool,
}

/// How far an examination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begun = 1,
    Ended = 2,
}

/// Runs `examine`, unless another process examines the same files for this one too. If there is no
/// queue file, it is made if `may_build` says so. `examine` returns whether others may be told that
/// it found nothing.
///
/// # Errors
///
/// Those of `examine`.
pub(crate) fn examine_once<E>(
    lock_file: &Path,
    model: Option<&Path>,
    examined: Examined,
    deadline: &Deadline,
    may_build: impl FnOnce() -> bool,
    examine: impl FnOnce() -> Result<bool, E>,
) -> Result<(), E> {
    let came = clock::monotonic();
    let Ok(Some(file)) = open(lock_file, model, may_build) else {
        return examine().map(drop);
    };
    let examined = Examined {
        files: as_seen_from_here(examined.files),
        ..examined
    };
    let since = match examined.is_lasting {
        true => came.saturating_sub(nanos(LASTS)),
        false => came,
    };
    if wait_for_others(&file, examined, since, deadline) {
        return Ok(());
    }
    let begun = clock::monotonic();
    note(&file, examined, begun, Stage::Begun);
    crate::failpoint!("examining");
    let found = examine();
    // Nobody is to wait for one that has found something, or could not look.
    let ended = if matches!(found, Ok(true)) { begun } else { 0 };
    note(&file, examined, ended, Stage::Ended);
    // Closing the file does the same, unless that fails.
    let _ = file::unlock_byte(&file, EXAMINING_BYTE);
    found.map(drop)
}

/// Returns a number that only processes get that can see as much of others: those of the same user
/// and pid namespace.
fn as_seen_from_here(files: u64) -> u64 {
    let namespace = process::own_pidns().unwrap_or(0);
    mailbox::mix(files ^ mailbox::mix(namespace ^ mailbox::mix(user::effective().into())))
}

/// Returns `true` once an examination has ended that began no earlier than `since`; `false` if this
/// process has to examine the files.
fn wait_for_others(file: &File, examined: Examined, since: u64, deadline: &Deadline) -> bool {
    let patience = Deadline::after(PATIENCE.min(deadline.remaining() / 2));
    let is_done =
        || mark(file, examined).is_some_and(|(at, stage)| at >= since && stage == Stage::Ended);
    let is_under_way = || {
        let usual = clock::monotonic().saturating_sub(nanos(USUAL));
        mark(file, examined).is_some_and(|(at, stage)| at >= usual && stage == Stage::Begun)
    };
    let mut pause = *PAUSES.start();
    while !is_done() {
        let is_ours = !is_under_way() && file::try_lock_byte(file, EXAMINING_BYTE).unwrap_or(true);
        if is_ours || patience.is_over() {
            return is_done();
        }
        thread::sleep(pause);
        pause = (pause * 2).min(*PAUSES.end());
    }
    true
}

/// Opens the queue file; `None` for one that is not used.
fn open(
    lock_file: &Path,
    model: Option<&Path>,
    may_build: impl FnOnce() -> bool,
) -> io::Result<Option<Descriptor>> {
    // Writing beyond the limit would end this process.
    if file::size_limit().is_some_and(|limit| limit < HEAD_LEN as u64) {
        return Ok(None);
    }
    let path = path_of(lock_file);
    let authority = Authority::of(lock_file, model);
    // A forked child closes it, and does not keep the lock.
    let open = || Descriptor::open(|| file::open_existing(&path));
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_build() => {
            build(&path, &authority)?;
            open()?
        }
        opened => opened?,
    };
    if authority.fault_of(&file::ownership(&file)?).is_some() {
        return Ok(None);
    }
    let fault = header::fault_in(&header::first_bytes(&file)?, file.metadata()?.len());
    Ok(fault.is_none().then_some(file))
}

/// Returns when the last examination of these files began, in nanoseconds of the monotonic clock,
/// and how far it is; `None` if that is not known.
fn mark(file: &File, examined: Examined) -> Option<(u64, Stage)> {
    let mut bytes = [0; EXAMINED_LEN];
    file::read_at(file, &mut bytes, offset_of_mark(examined)).ok()?;
    let (at, sealed) = bytes.split_at(8);
    let word = |bytes: &[u8]| Some(u64::from_ne_bytes(bytes.try_into().ok()?));
    let (at, sealed) = (word(at)?, word(sealed)?);
    let stages = [Stage::Begun, Stage::Ended];
    let stage = stages
        .into_iter()
        .find(|&stage| seal(examined, at, stage) == sealed);
    // Zero stands for one of no use to others.
    (1..=clock::monotonic())
        .contains(&at)
        .then_some((at, stage?))
}

/// Tells others how far an examination is that began at `at`. If that fails, they examine the
/// files too.
fn note(file: &File, examined: Examined, at: u64, stage: Stage) {
    let mut bytes = [0; EXAMINED_LEN];
    bytes[..8].copy_from_slice(&at.to_ne_bytes());
    bytes[8..].copy_from_slice(&seal(examined, at, stage).to_ne_bytes());
    let _ = file::write_at(file, &bytes, offset_of_mark(examined));
}

/// Returns the offset of the mark of these files.
fn offset_of_mark(examined: Examined) -> u64 {
    let place = examined.files % EXAMINED as u64;
    AT_EXAMINED as u64 + place * EXAMINED_LEN as u64
}

/// Binds the two words of a mark to each other, because they are not written at once.
fn seal(examined: Examined, at: u64, stage: Stage) -> u64 {
    mailbox::mix(examined.files ^ mailbox::mix(at ^ mailbox::mix(stage as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::path::PathBuf;

    const LASTING: Examined = Examined {
        files: 7,
        is_lasting: true,
    };
    const CHANGING: Examined = Examined {
        is_lasting: false,
        ..LASTING
    };

    /// As a process like this one sees it.
    fn here(examined: Examined) -> Examined {
        let files = as_seen_from_here(examined.files);
        Examined { files, ..examined }
    }

    struct Fixture {
        _directory: tempfile::TempDir,
        lock_file: PathBuf,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self {
                lock_file: directory.path().join("db.lock"),
                _directory: directory,
            }
        }

        /// Returns whether this process had to examine the files itself.
        fn examines(&self, examined: Examined) -> bool {
            self.examines_until(examined, Duration::from_secs(30))
        }

        fn examines_until(&self, examined: Examined, timeout: Duration) -> bool {
            let has_examined = Cell::new(false);
            let examine = || {
                has_examined.set(true);
                Ok::<_, ()>(true)
            };
            let deadline = Deadline::after(timeout);
            examine_once(&self.lock_file, None, examined, &deadline, || true, examine).unwrap();
            has_examined.get()
        }

        fn queue_file(&self) -> File {
            file::open_existing(&path_of(&self.lock_file)).unwrap()
        }
    }

    #[test]
    fn what_lasts_is_not_examined_again_for_a_second() {
        let fixture = Fixture::new();
        assert!(fixture.examines(LASTING));
        assert!(!fixture.examines(LASTING));
        assert!(fixture.examines(Examined {
            files: 8,
            ..LASTING
        }));
        let long_ago = clock::monotonic() - nanos(LASTS) - 1;
        note(&fixture.queue_file(), here(LASTING), long_ago, Stage::Ended);
        assert!(fixture.examines(LASTING));
    }

    #[test]
    fn what_may_change_unseen_is_examined_by_each_that_comes_later() {
        let fixture = Fixture::new();
        assert!(fixture.examines(CHANGING));
        assert!(fixture.examines(CHANGING));
    }

    #[test]
    fn those_that_come_before_an_examination_begins_use_its_result() {
        let fixture = Fixture::new();
        assert!(fixture.examines(CHANGING));
        let file = fixture.queue_file();
        assert!(file::try_lock_byte(&file, EXAMINING_BYTE).unwrap());
        let lock_file = fixture.lock_file.clone();
        let waiter = thread::spawn(move || {
            let deadline = Deadline::after(Duration::from_secs(30));
            examine_once(&lock_file, None, CHANGING, &deadline, || true, || Err(()))
        });
        // Again and again, because the thread may come late.
        while !waiter.is_finished() {
            let begun = clock::monotonic();
            note(&file, here(CHANGING), begun, Stage::Begun);
            thread::sleep(Duration::from_millis(10));
            note(&file, here(CHANGING), begun, Stage::Ended);
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(waiter.join().unwrap(), Ok(()));
    }

    #[test]
    fn what_was_found_is_not_told() {
        let fixture = Fixture::new();
        let deadline = Deadline::after(Duration::from_secs(30));
        let fail = || Err("found");
        let failed = examine_once(&fixture.lock_file, None, LASTING, &deadline, || true, fail);
        assert_eq!(failed, Err("found"));
        assert!(fixture.examines(LASTING));
    }

    #[test]
    fn garbage_is_not_believed() {
        let fixture = Fixture::new();
        assert!(fixture.examines(LASTING));
        let file = fixture.queue_file();
        let (at, _) = mark(&file, here(LASTING)).unwrap();
        for garbage in [at + 1, u64::MAX, 0] {
            let bytes = garbage.to_ne_bytes();
            file::write_at(&file, &bytes, offset_of_mark(here(LASTING))).unwrap();
            assert_eq!(mark(&file, here(LASTING)), None);
        }
        note(&file, here(LASTING), u64::MAX, Stage::Ended);
        assert!(fixture.examines(LASTING));
    }

    /// A process that was stopped while it examines has the byte locked.
    #[test]
    fn one_that_does_not_end_is_waited_for_until_half_of_the_time_is_over() {
        let fixture = Fixture::new();
        assert!(fixture.examines(CHANGING));
        let file = fixture.queue_file();
        assert!(file::try_lock_byte(&file, EXAMINING_BYTE).unwrap());
        note(&file, here(CHANGING), clock::monotonic(), Stage::Begun);
        let begun = std::time::Instant::now();
        assert!(fixture.examines_until(CHANGING, Duration::from_millis(400)));
        assert!(begun.elapsed() >= Duration::from_millis(200));
    }

    #[test]
    fn no_queue_file_is_made_where_none_is_to_be() {
        let fixture = Fixture::new();
        let deadline = Deadline::after(Duration::from_secs(30));
        let lock_file = &fixture.lock_file;
        for _ in 0..2 {
            let examine = || Err("examined");
            let done = examine_once(lock_file, None, LASTING, &deadline, || false, examine);
            assert_eq!(done, Err("examined"));
        }
        assert!(!path_of(lock_file).exists());
    }
}
