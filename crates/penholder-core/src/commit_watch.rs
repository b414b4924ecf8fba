//! Waiting for commits.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::commit_token::CommitToken;
use crate::database_files::{DatabaseFiles, FilesLook};
use crate::deadline::Deadline;
use crate::error::{Kind, LockError};
use crate::queue_file::{DatabaseWords, NoHead, QueueFileFault, QueueFileHead, SeenFiles, path_of};
use crate::shortage::Shortage;
use crate::sys::{clock, file};
use crate::time::nanos;

/// How often a watcher looks at the files, of the database and the queue. All look at the same moments,
/// so that a processor that sleeps wakes up for all of them at once: a hundred take half of the time.
const LOOK: Duration = Duration::from_millis(30);
/// A change of the files that is not counted for this long is a commit of a program without penholder:
/// one that uses it writes them, and then counts.
const COUNTED_WITHIN: Duration = Duration::from_millis(8);
/// How often a watcher says how the files look, if others say so at the same moment.
const TRIES: u32 = 16;

/// Waits for commits to a database, of any process, in the kernel and without a connection.
///
/// A commit that is [counted](DatabaseWords::note_commit) ends the wait at once. One of a program
/// without penholder ends it within about 40 ms: the files of the database are looked at every 30 ms
/// (`statx`; on Windows they are opened for a moment, which drops no locks there). Such a look, a
/// truncated WAL for one, can end a wait without a commit; a commit never goes unnoticed. Several
/// commits may end one wait.
///
/// A process that waits needs write permission on the queue file, as a writer does.
///
/// ```
/// use penholder_core::{CommitWatch, Deadline};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let (lock_file, database) = (directory.path().join("db.lock"), directory.path().join("app.db"));
/// # std::fs::write(&database, "")?;
/// let mut watch = CommitWatch::new(&lock_file, &database)?;
/// let token = watch.token()?;
/// let deadline = Deadline::after(Duration::from_millis(10));
/// // `None`: no process has committed.
/// assert_eq!(watch.wait(token, &deadline)?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CommitWatch {
    lock_file: PathBuf,
    files: DatabaseFiles,
    head: Option<QueueFileHead>,
    /// What the processes that use the database share; `None` while there is no queue file.
    words: Option<DatabaseWords>,
    /// In which period this watcher was last added to the words.
    added: Option<u32>,
    /// In which interval of [`LOOK`] the files were last looked at.
    looked_in: Option<u64>,
    /// When a commit was last told: monotonic clock, nanoseconds.
    told_at: Option<u64>,
    /// The files as the words had them when it was seen that they have changed since, and when that was.
    suspected: Option<(SeenFiles, u64)>,
    /// How the database's files looked when there was no queue file.
    without_words: Option<FilesLook>,
}

impl CommitWatch {
    /// Watches the database of this path, with the lock file that its writers use.
    ///
    /// # Errors
    ///
    /// There is no such database; the queue file cannot be used: this user may not write it, or
    /// should not trust it.
    pub fn new(lock_file: &Path, database: &Path) -> Result<Self, LockError> {
        let resolved = file::canonicalize(database)
            .map_err(|e| failed(database, "check the path of the database", e))?;
        let mut watch = Self {
            lock_file: lock_file.to_owned(),
            files: DatabaseFiles::new(&resolved),
            head: None,
            words: None,
            added: None,
            looked_in: None,
            told_at: None,
            suspected: None,
            without_words: None,
        };
        watch.find_words()?;
        Ok(watch)
    }

    /// Returns the token of this moment: a wait with it ends with the next commit.
    ///
    /// # Errors
    ///
    /// The files cannot be looked at.
    pub fn token(&mut self) -> Result<CommitToken, LockError> {
        self.find_words()?;
        self.tell()
    }

    /// Waits until there is a commit after `since` was made, and returns the token of that moment;
    /// `None` if there is none until the deadline. If it cannot tell, because the queue file was built
    /// again, it returns at once.
    ///
    /// # Errors
    ///
    /// The files cannot be looked at.
    pub fn wait(
        &mut self,
        since: CommitToken,
        deadline: &Deadline,
    ) -> Result<Option<CommitToken>, LockError> {
        self.wait_unless(since, deadline, || false)
    }

    /// Does the same, and returns `None` soon after `is_cancelled` returns `true`, within about 40 ms.
    ///
    /// # Errors
    ///
    /// The files cannot be looked at.
    pub fn wait_unless(
        &mut self,
        since: CommitToken,
        deadline: &Deadline,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Option<CommitToken>, LockError> {
        loop {
            if self.has_commit_since(since)? {
                self.hold_back(deadline);
                return self.tell().map(Some);
            }
            if deadline.is_over() || is_cancelled() {
                return Ok(None);
            }
            self.sleep(since, deadline);
        }
    }

    fn has_commit_since(&mut self, since: CommitToken) -> Result<bool, LockError> {
        let is_look_due = self.find_words()?;
        let Some(words) = &self.words else {
            return Ok(since != CommitToken::NONE || self.has_changed_without_words()?);
        };
        words.add_watcher(&mut self.added);
        if token_of(words) != since {
            return Ok(true);
        }
        if !is_look_due && !self.is_suspicion_old() {
            return Ok(false);
        }
        let words = words.clone();
        self.count_commits_of_others(&words)
            .map_err(|e| self.cannot_look(e))?;
        Ok(token_of(&words) != since)
    }

    /// Sleeps until a commit is counted, or it is time to look again. There was none since the token.
    fn sleep(&self, token: CommitToken, deadline: &Deadline) {
        let passed = Duration::from_nanos(clock::monotonic() % nanos(LOOK));
        let mut longest = (LOOK - passed).min(deadline.remaining());
        if let Some((_, suspected_at)) = self.suspected {
            let passed = Duration::from_nanos(since(suspected_at));
            longest = longest.min(COUNTED_WITHIN.saturating_sub(passed));
        }
        match &self.words {
            Some(words) => words.sleep(token.count(), longest),
            None => thread::sleep(longest),
        }
    }

    /// Lets some time pass between two commits that are told. In a burst, processes that wait would
    /// otherwise keep the processors from the writers.
    fn hold_back(&self, deadline: &Deadline) {
        let (Some(words), Some(told_at)) = (&self.words, self.told_at) else {
            return;
        };
        let passed = Duration::from_nanos(since(told_at));
        let left = words.pause().saturating_sub(passed);
        let left = left.min(deadline.remaining());
        if !left.is_zero() {
            thread::sleep(left);
        }
    }

    /// Returns the token of this moment. The files are as the words say, or as they are now, so that a
    /// later commit of a program without penholder shows.
    fn tell(&mut self) -> Result<CommitToken, LockError> {
        self.told_at = Some(clock::monotonic());
        let Some(words) = &self.words else {
            self.has_changed_without_words()?;
            return Ok(CommitToken::NONE);
        };
        self.note_files(words).map_err(|e| self.cannot_look(e))
    }

    // ---- the files of the database ---------------------------------------------

    /// Says how the files look at this count, unless another watcher has said so. Returns the token of
    /// this moment.
    fn note_files(&self, words: &DatabaseWords) -> io::Result<CommitToken> {
        for _ in 0..TRIES {
            // In this order: what is replaced below is older than the count.
            let former = words.seen_files();
            let token = token_of(words);
            if former.is_some_and(|former| former.is_at(token.count())) {
                return Ok(token);
            }
            let seen = self.look_at(token.count())?;
            if words.note_files(former, seen) {
                return Ok(token);
            }
        }
        // Others do it again and again: what they saw is no older.
        Ok(token_of(words))
    }

    /// Counts a commit if the files have changed since the words said how they look at this count, and
    /// no process has counted that for long enough.
    fn count_commits_of_others(&mut self, words: &DatabaseWords) -> io::Result<()> {
        let token = self.note_files(words)?;
        let former = words.seen_files();
        let seen = self.look_at(token.count())?;
        let has_changed =
            |former: &SeenFiles| former.is_at(token.count()) && former.may_have_changed(seen);
        let Some(former) = former.filter(has_changed) else {
            self.suspected = None;
            return Ok(());
        };
        if self.suspected.is_none_or(|(of, _)| of != former) {
            self.suspected = Some((former, clock::monotonic()));
        }
        if self.is_suspicion_old() {
            self.suspected = None;
            self.count_uncounted(words, token, former)?;
        }
        Ok(())
    }

    /// Whether a change of the files has not been counted for long enough.
    fn is_suspicion_old(&self) -> bool {
        self.suspected
            .is_some_and(|(_, at)| since(at) >= nanos(COUNTED_WITHIN))
    }

    /// Counts what no process has counted. Of several watchers that find it, one does.
    fn count_uncounted(
        &self,
        words: &DatabaseWords,
        token: CommitToken,
        former: SeenFiles,
    ) -> io::Result<()> {
        if words.note_uncounted_commit(token.count()) {
            let seen = self.look_at(token.count().wrapping_add(1))?;
            words.note_files(Some(former), seen);
        }
        Ok(())
    }

    fn look_at(&self, count: u64) -> io::Result<SeenFiles> {
        let FilesLook { hash, is_settled } = self.files.look()?;
        Ok(SeenFiles::new(hash, is_settled, count))
    }

    /// Returns whether the files have changed since the last call, as far as that is known.
    fn has_changed_without_words(&mut self) -> Result<bool, LockError> {
        let look = self.files.look().map_err(|e| self.cannot_look(e))?;
        let former = self.without_words.replace(look);
        // A token of another watcher: this one does not know what was then.
        Ok(former
            .is_none_or(|former| former.hash != look.hash || !former.is_settled && look.is_settled))
    }

    // ---- the queue file --------------------------------------------------------

    /// Finds the words, if they are not at hand, and looks from time to time whether they are still
    /// those that the other processes use. Returns whether it has looked.
    fn find_words(&mut self) -> Result<bool, LockError> {
        let is_current = self.words.as_ref().is_some_and(DatabaseWords::is_current);
        let turn = clock::monotonic() / nanos(LOOK);
        if is_current && self.looked_in == Some(turn) {
            return Ok(false);
        }
        self.looked_in = Some(turn);
        let id = self.files.id().map_err(|e| self.cannot_look(e))?;
        if !self.head.as_ref().is_some_and(QueueFileHead::is_current) {
            self.words = None;
            self.head = None;
            self.head = self.open_head()?;
        }
        let words = match (&self.head, id) {
            (Some(head), Some(id)) => head.database_words(id.dev, id.ino),
            _ => None,
        };
        if !is_current || words.as_ref().map(DatabaseWords::epoch) != self.epoch() {
            self.added = None;
        }
        if words.is_some() {
            self.without_words = None;
        }
        self.words = words;
        Ok(true)
    }

    fn epoch(&self) -> Option<u64> {
        self.words.as_ref().map(DatabaseWords::epoch)
    }

    /// Opens the queue file; `None` for one that the next holder of the lock builds again.
    fn open_head(&self) -> Result<Option<QueueFileHead>, LockError> {
        match QueueFileHead::open(&self.lock_file, self.files.database()) {
            Ok(head) => Ok(Some(head)),
            Err(NoHead::Fault(
                QueueFileFault::TooShort
                | QueueFileFault::NotAQueueFile
                | QueueFileFault::OtherBoot,
            )) => Ok(None),
            Err(NoHead::Fault(fault)) => {
                let why = format!("it {fault}");
                let next = "see `penholder doctor`, which says what to do";
                let queue_file = path_of(&self.lock_file);
                Err(LockError::new(&queue_file, Kind::Refused { why, next }))
            }
            Err(NoHead::Io(error)) => {
                let next = match error.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                        "a program that waits for commits needs write permission on the queue file \
                         and its directory, as a writer does"
                    }
                    _ => "check the queue file and its directory",
                };
                Err(failed(&path_of(&self.lock_file), next, error))
            }
        }
    }

    fn cannot_look(&self, error: io::Error) -> LockError {
        failed(
            self.files.database(),
            "check the path of the database",
            error,
        )
    }
}

fn failed(path: &Path, next: &'static str, source: io::Error) -> LockError {
    let what = "wait for commits";
    let is_unsupported = source.kind() == io::ErrorKind::Unsupported;
    if is_unsupported || Shortage::of(&source).is_some() {
        return LockError::io(path, what, source);
    }
    let next = next.into();
    LockError::new(path, Kind::Io { what, next, source })
}

fn token_of(words: &DatabaseWords) -> CommitToken {
    CommitToken::new(words.epoch(), words.commits())
}

/// Returns how long ago a moment was, in nanoseconds.
fn since(moment: u64) -> u64 {
    clock::monotonic().saturating_sub(moment)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Instant;

    use super::*;
    use crate::queue_file::DatabaseWord;

    /// No test takes so long.
    const LONG: Duration = Duration::from_secs(60);
    /// Longer than a wait for a commit of a program without penholder.
    const QUIET: Duration = Duration::from_millis(120);

    struct Fixture {
        directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let fixture = Self { directory };
            fs::write(fixture.path("app.db"), "content").unwrap();
            fs::write(fixture.path("app.db-wal"), "frames").unwrap();
            fixture
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn watch(&self) -> CommitWatch {
            CommitWatch::new(&self.path("db.lock"), &self.path("app.db")).unwrap()
        }

        fn append(&self, name: &str) {
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .append(true)
                .create(true)
                .open(self.path(name))
                .unwrap();
            file.write_all(b"x").unwrap();
        }

        /// As a process that has the database open.
        fn words(&self) -> DatabaseWords {
            let head = QueueFileHead::open(&self.path("db.lock"), &self.path("app.db")).unwrap();
            let id = DatabaseFiles::new(&self.path("app.db"))
                .id()
                .unwrap()
                .unwrap();
            let words = head.database_words(id.dev, id.ino).unwrap();
            std::mem::forget(head);
            words
        }
    }

    fn wait(watch: &mut CommitWatch, since: CommitToken) -> CommitToken {
        let found = watch.wait(since, &Deadline::after(LONG)).unwrap();
        found.expect("a commit")
    }

    #[track_caller]
    fn assert_quiet(watch: &mut CommitWatch, since: CommitToken) {
        let found = watch.wait(since, &Deadline::after(QUIET)).unwrap();
        assert_eq!(found, None, "since {since}");
    }

    #[test]
    fn a_counted_commit_ends_the_wait_at_once() {
        let fixture = Fixture::new();
        let mut watch = fixture.watch();
        let token = watch.token().unwrap();
        let words = fixture.words();
        assert_quiet(&mut watch, token);
        let mut shortest = LONG;
        for _ in 0..20 {
            let token = watch.token().unwrap();
            let committed = thread::scope(|scope| {
                let commit = scope.spawn(|| {
                    thread::sleep(Duration::from_millis(5));
                    let now = Instant::now();
                    words.note_commit();
                    now
                });
                let new = wait(&mut watch, token);
                let returned = Instant::now();
                assert_eq!(new.count(), token.count() + 1);
                returned - commit.join().unwrap()
            });
            shortest = shortest.min(committed);
        }
        assert!(shortest < Duration::from_millis(5), "{shortest:?}");
        let token = watch.token().unwrap();
        assert_quiet(&mut watch, token);
    }

    #[test]
    fn a_commit_before_the_wait_ends_it_too() {
        let fixture = Fixture::new();
        let token = fixture.watch().token().unwrap();
        fixture.words().note_commit();
        let mut watch = fixture.watch();
        let new = wait(&mut watch, token);
        assert_ne!(new, token);
        assert_quiet(&mut watch, new);
    }

    #[test]
    fn a_change_that_no_process_counts_ends_it_once() {
        let fixture = Fixture::new();
        let (mut watch, mut other) = (fixture.watch(), fixture.watch());
        let mut token = watch.token().unwrap();
        for _ in 0..3 {
            assert_quiet(&mut watch, token);
            fixture.append("app.db-wal");
            let begun = Instant::now();
            let new = wait(&mut watch, token);
            assert!(begun.elapsed() < LONG / 10);
            assert_eq!(new.count(), token.count() + 1);
            assert_eq!(wait(&mut other, token), new);
            token = new;
        }
        assert_quiet(&mut watch, token);
        assert_quiet(&mut other, token);
    }

    #[test]
    fn a_change_while_no_process_waits_is_found_by_the_next_one() {
        let fixture = Fixture::new();
        let mut token = fixture.watch().token().unwrap();
        for _ in 0..3 {
            fixture.append("app.db-wal");
            token = wait(&mut fixture.watch(), token);
            assert_quiet(&mut fixture.watch(), token);
        }
    }

    /// The WAL has the commits, so a checkpoint is none.
    #[test]
    fn the_database_file_counts_only_without_a_wal() {
        let fixture = Fixture::new();
        let mut watch = fixture.watch();
        let token = watch.token().unwrap();
        fixture.append("app.db");
        assert_quiet(&mut watch, token);
        fs::remove_file(fixture.path("app.db-wal")).unwrap();
        let token = wait(&mut watch, token);
        assert_quiet(&mut watch, token);
        // A reader opens the database, and closes it.
        fs::write(fixture.path("app.db-wal"), "").unwrap();
        assert_quiet(&mut watch, token);
        fs::remove_file(fixture.path("app.db-wal")).unwrap();
        assert_quiet(&mut watch, token);
        fixture.append("app.db-journal");
        assert_quiet(&mut watch, token);
        fixture.append("app.db");
        wait(&mut watch, token);
    }

    /// Two changes between two ticks of the clock have the same time on many kernels, so the second one
    /// does not show.
    #[test]
    fn a_change_that_does_not_show_ends_it_too() {
        let fixture = Fixture::new();
        let mut watch = fixture.watch();
        watch.files.forget_fine_times();
        let wal = fs::File::options()
            .write(true)
            .open(fixture.path("app.db-wal"))
            .unwrap();
        let now = std::time::SystemTime::now() + Duration::from_millis(20);
        wal.set_modified(now).unwrap();
        let token = watch.token().unwrap();
        fs::write(fixture.path("app.db-wal"), "FRAMES").unwrap();
        wal.set_modified(now).unwrap();
        let token = wait(&mut watch, token);
        assert_quiet(&mut watch, token);
    }

    #[test]
    fn a_new_queue_file_ends_it_with_a_token_of_another_epoch() {
        let fixture = Fixture::new();
        let mut watch = fixture.watch();
        let token = watch.token().unwrap();
        file::remove(&fixture.path("db.lockq")).unwrap();
        let new = wait(&mut watch, token);
        assert_ne!(new, token);
        assert_quiet(&mut watch, new);
        fixture.words().note_commit();
        wait(&mut watch, new);
        // The entry of another epoch.
        let token = watch.token().unwrap();
        let words = fixture.words();
        words
            .word(DatabaseWord::Epoch)
            .store(words.epoch() ^ 1, SeqCst);
        let new = wait(&mut watch, token);
        assert_quiet(&mut watch, new);
    }

    #[test]
    fn a_replaced_database_ends_it() {
        let fixture = Fixture::new();
        let mut watch = fixture.watch();
        let token = watch.token().unwrap();
        fs::write(fixture.path("new.db"), "content").unwrap();
        fs::rename(fixture.path("new.db"), fixture.path("app.db")).unwrap();
        let new = wait(&mut watch, token);
        assert_ne!(new, token);
        fs::remove_file(fixture.path("app.db")).unwrap();
        assert_eq!(wait(&mut watch, new), CommitToken::NONE);
        assert_quiet(&mut watch, CommitToken::NONE);
        fs::write(fixture.path("app.db"), "content").unwrap();
        wait(&mut watch, CommitToken::NONE);
    }

    /// The next holder of the lock builds another one; until then only the files tell.
    #[test]
    fn without_a_valid_queue_file_the_files_are_looked_at() {
        let fixture = Fixture::new();
        let mut watch = fixture.watch();
        let token = watch.token().unwrap();
        file::remove(&fixture.path("db.lockq")).unwrap();
        fs::write(fixture.path("db.lockq"), "garbage").unwrap();
        assert_eq!(wait(&mut watch, token), CommitToken::NONE);
        assert_quiet(&mut watch, CommitToken::NONE);
        fixture.append("app.db-wal");
        assert_eq!(wait(&mut watch, CommitToken::NONE), CommitToken::NONE);
        // Another process cannot know what was before.
        assert_eq!(
            wait(&mut fixture.watch(), CommitToken::NONE),
            CommitToken::NONE
        );
        file::remove(&fixture.path("db.lockq")).unwrap();
        let token = wait(&mut watch, CommitToken::NONE);
        assert_ne!(token, CommitToken::NONE);
        assert_quiet(&mut watch, token);
    }

    #[test]
    fn garbage_in_the_words_ends_a_wait_early_or_not_at_all() {
        let fixture = Fixture::new();
        let words = fixture.words();
        let mut watch = fixture.watch();
        let seed = |round: u64| crate::mailbox::mix(round);
        for round in 0..2_000 {
            let token = watch.token().unwrap();
            let word = match round % 6 {
                0 => DatabaseWord::Commits,
                1 => DatabaseWord::Watchers,
                2 => DatabaseWord::Woken,
                3 => DatabaseWord::Files,
                4 => DatabaseWord::Used,
                _ => DatabaseWord::Epoch,
            };
            let garbage = [seed(round), 0, u64::MAX, clock::monotonic(), 1 << 32];
            let place = usize::try_from(seed(!round) % 5).unwrap();
            fixture.words().word(word).store(garbage[place], SeqCst);
            words.note_commit();
            let begun = Instant::now();
            let deadline = Deadline::after(Duration::from_micros(seed(round) % 500));
            watch.wait(token, &deadline).unwrap();
            assert!(begun.elapsed() < LONG / 10);
        }
        // It heals: what is committed now is found.
        let token = watch.token().unwrap();
        fixture.words().note_commit();
        wait(&mut watch, token);
    }

    /// Each store may come between any two steps of a process that waits.
    #[test]
    fn words_that_change_all_the_time_hang_nobody() {
        let fixture = Fixture::new();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            let words = fixture.words();
            scope.spawn(|| {
                let (words, mut seed) = (words, 1);
                while !is_over.load(SeqCst) {
                    seed = crate::mailbox::mix(seed);
                    // All but those that name the database, and the epoch now and then.
                    let place = usize::try_from(seed % 6).unwrap();
                    let place = if place == 2 && !seed.is_multiple_of(64) {
                        3
                    } else {
                        place + 2
                    };
                    words.as_ref()[place].store(crate::mailbox::mix(!seed), SeqCst);
                }
            });
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(1) {
                let mut watch = fixture.watch();
                let token = watch.token().unwrap();
                let deadline = Deadline::after(Duration::from_millis(1));
                watch.wait(token, &deadline).unwrap();
                assert!(begun.elapsed() < LONG / 2);
                fixture.words().note_commit();
            }
            is_over.store(true, SeqCst);
        });
    }

    #[test]
    fn commits_are_counted_without_an_attachment() {
        let fixture = Fixture::new();
        let (lock_file, database) = (fixture.path("db.lock"), fixture.path("app.db"));
        assert!(
            DatabaseWords::of(&lock_file, &database).is_none(),
            "no queue file is made"
        );
        let mut watch = fixture.watch();
        let token = watch.token().unwrap();
        let words = DatabaseWords::of(&lock_file, &database).unwrap();
        assert!(words.is_current());
        words.note_commit();
        let new = wait(&mut watch, token);
        assert_eq!(new.count(), token.count() + 1);
        file::remove(&fixture.path("db.lockq")).unwrap();
        assert!(!words.is_current());
    }

    #[test]
    fn a_program_that_only_asks_is_told_too_and_never_waits() {
        let fixture = Fixture::new();
        let mut watch = fixture.watch();
        let token = watch.token().unwrap();
        fixture.append("app.db-wal");
        let begun = Instant::now();
        let mut longest = Duration::ZERO;
        loop {
            let before = Instant::now();
            let found = watch.wait(token, &Deadline::after(Duration::ZERO)).unwrap();
            longest = longest.max(before.elapsed());
            if found.is_some() {
                break;
            }
            assert!(begun.elapsed() < LONG / 2);
            thread::sleep(Duration::from_micros(500));
        }
        assert!(longest < Duration::from_secs(2), "{longest:?}");
    }

    #[test]
    fn a_missing_database_and_a_file_of_others_are_refused() {
        let fixture = Fixture::new();
        let lock_file = fixture.path("db.lock");
        let error = CommitWatch::new(&lock_file, &fixture.path("none.db")).unwrap_err();
        assert!(error.to_string().contains("wait for commits"), "{error}");
        fs::create_dir(fixture.path("db.lockq")).unwrap();
        let error = CommitWatch::new(&lock_file, &fixture.path("app.db")).unwrap_err();
        assert!(error.to_string().contains("directory"), "{error}");
    }

    #[test]
    fn a_wait_is_cancelled() {
        let fixture = Fixture::new();
        let mut watch = fixture.watch();
        let token = watch.token().unwrap();
        let begun = Instant::now();
        let is_cancelled = || begun.elapsed() > Duration::from_millis(50);
        let found = watch.wait_unless(token, &Deadline::after(LONG), is_cancelled);
        assert_eq!(found.unwrap(), None);
        assert!(begun.elapsed() < LONG / 2);
    }
}
