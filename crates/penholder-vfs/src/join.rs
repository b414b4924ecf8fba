//! Writing the frames of a transaction to the WAL together.
//!
//! SQLite writes each frame in two calls: its header (24 bytes) and its page. Here both are
//! collected, with the frames that follow, and written in one call when the commit frame is
//! complete. So a transaction of one page costs one system call instead of two, and one of
//! twenty pages one instead of forty.
//!
//! | state | a write | anything else |
//! | --- | --- | --- |
//! | empty | of a new frame's header: collected → header; another: below | below |
//! | header | of the page right after it: collected → frames, and written if it is the commit frame → empty; another: flushed, then below | a flush |
//! | frames | of the next frame's header: collected → header; another: flushed, then below | a flush |
//! | failed | the error | the error, but for a read of what came before |
//! | synced | below | below |
//!
//! A flush writes what is collected → empty, or fails → failed. What failed is never tried again:
//! a commit that was reported as failed must not arrive later. Giving WRITE back discards what is
//! left → empty: SQLite rolled it back.
//!
//! What is collected when a commit succeeds would be lost. So nothing is collected but whole
//! frames that come after all others of the transaction:
//!
//! - A header that is written again stays alone: `walRewriteChecksums` does that, as the last
//!   thing before the commit is complete.
//! - A sync in the midst of frames splits one of them (`walWriteToLog`, where a write may damage
//!   its neighbours), and the rest may look like a header. After it, nothing is collected.

use crate::api::IOERR;
use crate::locks::{Code, OK};

/// The length of a frame's header ("Frame Header" in `walformat.html`).
const FRAME_HEADER_LEN: usize = 24;
/// The length of the header of the WAL.
const WAL_HEADER_LEN: i64 = 32;
/// Where a frame's header says that it is a commit frame: four bytes that are not zero.
const COMMIT_AT: usize = 4;
const PAGE_MIN: usize = 512;
const PAGE_MAX: usize = 65536;
/// `seekAndWriteFd` of `os_unix.c` writes at most 0x1ffff bytes in one call.
const MAX_LEN: usize = 131_000;

/// The frames that are collected.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    bytes: Vec<u8>,
    /// Where in the WAL they begin.
    at: i64,
    /// The page of the last header comes next.
    awaits_page: bool,
    is_commit: bool,
    /// The length of the last page; zero before the first.
    page_len: usize,
    /// Where the frames of this transaction end, collected or written; zero before the first.
    frames_end: i64,
    /// Whether there was a sync after frames of this transaction.
    is_synced: bool,
    failed: Option<Failure>,
}

/// A write that failed.
#[derive(Debug, Clone, Copy)]
struct Failure {
    code: Code,
    /// What comes from here on was not written.
    at: i64,
}

impl Joiner {
    /// Takes a write. `below` writes bytes at an offset.
    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        at: i64,
        mut below: impl FnMut(&[u8], i64) -> Code,
    ) -> Code {
        if let Some(failure) = self.failed {
            return failure.code;
        }
        let is_next = self.bytes.is_empty() || at == self.end();
        if !is_next || !self.fits(bytes.len()) {
            let code = self.flush(&mut below);
            if code != OK {
                return code;
            }
        }
        let end = at.saturating_add(len_of(bytes));
        let is_new = at >= self.frames_end.max(WAL_HEADER_LEN);
        if at >= WAL_HEADER_LEN {
            self.frames_end = self.frames_end.max(end);
        }
        if self.awaits_page && (PAGE_MIN..=PAGE_MAX).contains(&bytes.len()) {
            return self.collect_page(bytes, below);
        }
        let is_header = !self.awaits_page && bytes.len() == FRAME_HEADER_LEN;
        if is_header && is_new && !self.is_synced {
            return self.collect_header(bytes, at);
        }
        match self.flush(&mut below) {
            OK => self.note(below(bytes, at), at),
            code => code,
        }
    }

    fn collect_header(&mut self, header: &[u8], at: i64) -> Code {
        if self.bytes.is_empty() {
            self.at = at;
        }
        self.bytes.extend_from_slice(header);
        self.awaits_page = true;
        self.is_commit = header[COMMIT_AT..COMMIT_AT + 4] != [0; 4];
        OK
    }

    fn collect_page(&mut self, page: &[u8], below: impl FnMut(&[u8], i64) -> Code) -> Code {
        self.bytes.extend_from_slice(page);
        self.page_len = page.len();
        self.awaits_page = false;
        if self.is_commit {
            self.flush(below)
        } else {
            OK
        }
    }

    /// Writes what is collected.
    pub(crate) fn flush(&mut self, mut below: impl FnMut(&[u8], i64) -> Code) -> Code {
        if let Some(failure) = self.failed {
            return failure.code;
        }
        if self.bytes.is_empty() {
            return OK;
        }
        let code = below(&self.bytes, self.at);
        self.bytes.clear();
        self.awaits_page = false;
        self.note(code, self.at)
    }

    fn note(&mut self, code: Code, at: i64) -> Code {
        if code != OK {
            self.failed = Some(Failure { code, at });
        }
        code
    }

    /// Writes what is collected before a sync.
    pub(crate) fn flush_before_sync(&mut self, below: impl FnMut(&[u8], i64) -> Code) -> Code {
        self.is_synced = self.frames_end > 0;
        self.flush(below)
    }

    /// Writes what is collected, if a read of these bytes would see it. Fails if they were not
    /// written.
    pub(crate) fn flush_before_read(
        &mut self,
        at: i64,
        len: usize,
        below: impl FnMut(&[u8], i64) -> Code,
    ) -> Code {
        let end = at.saturating_add(i64::try_from(len).unwrap_or(i64::MAX));
        let overlaps = !self.bytes.is_empty() && at < self.end() && end > self.at;
        let code = match self.failed {
            Some(failure) if end > failure.at => failure.code,
            None if overlaps => self.flush(below),
            _ => OK,
        };
        // After an I/O error, SQLite rolls the whole transaction back; after another one, perhaps
        // only the statement, with frames that are missing.
        if code == OK || code & 0xff == IOERR {
            code
        } else {
            IOERR
        }
    }

    /// Forgets what was not written, and that a write failed: SQLite gave WRITE back.
    pub(crate) fn discard(&mut self) {
        self.bytes.clear();
        self.awaits_page = false;
        self.frames_end = 0;
        self.is_synced = false;
        self.failed = None;
    }

    /// Returns whether more is to be done than to pass a write on.
    pub(crate) fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.failed.is_none()
    }

    fn end(&self) -> i64 {
        self.at.saturating_add(len_of(&self.bytes))
    }

    /// Returns whether that many bytes still fit: after a header, also its page.
    fn fits(&self, len: usize) -> bool {
        let page = match (self.awaits_page, self.page_len) {
            (true, _) => 0,
            (false, 0) => PAGE_MAX,
            (false, known) => known,
        };
        self.bytes.len() + len + page <= MAX_LEN
    }
}

fn len_of(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    /// A file that records the writes.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        writes: usize,
        fails: Option<Code>,
    }

    impl Disk {
        fn write(&mut self, bytes: &[u8], at: i64) -> Code {
            self.writes += 1;
            if let Some(code) = self.fails {
                return code;
            }
            let at = usize::try_from(at).unwrap();
            self.bytes.resize(self.bytes.len().max(at + bytes.len()), 0);
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            OK
        }
    }

    fn header(commit: u8) -> [u8; FRAME_HEADER_LEN] {
        let mut header = [7; FRAME_HEADER_LEN];
        header[COMMIT_AT..COMMIT_AT + 4].copy_from_slice(&[0, 0, 0, commit]);
        header
    }

    fn frame_at(number: i64) -> i64 {
        WAL_HEADER_LEN + number * i64::try_from(FRAME_HEADER_LEN + PAGE).unwrap()
    }

    fn frame(joiner: &mut Joiner, disk: &mut Disk, number: i64, commit: u8) -> Code {
        let at = frame_at(number);
        let code = joiner.write(&header(commit), at, |b, at| disk.write(b, at));
        if code != OK {
            return code;
        }
        let page = [u8::try_from(number).unwrap(); PAGE];
        joiner.write(&page, at + 24, |b, at| disk.write(b, at))
    }

    #[test]
    fn a_transaction_is_written_in_one_call() {
        let (mut joiner, mut disk) = (Joiner::default(), Disk::default());
        for number in 0..4 {
            assert_eq!(frame(&mut joiner, &mut disk, number, 0), OK);
        }
        assert_eq!(disk.writes, 0);
        assert_eq!(frame(&mut joiner, &mut disk, 4, 9), OK);
        assert_eq!(disk.writes, 1);
        assert!(joiner.is_idle());
        assert_eq!(disk.bytes.len(), usize::try_from(frame_at(5)).unwrap());
        let page = usize::try_from(frame_at(3)).unwrap() + FRAME_HEADER_LEN;
        assert_eq!(disk.bytes[page..page + PAGE], [3; PAGE]);
    }

    #[test]
    fn no_write_is_longer_than_the_vfs_below_takes() {
        let (mut joiner, mut longest) = (Joiner::default(), 0);
        for number in 0..100 {
            let mut below = |bytes: &[u8], _| {
                longest = longest.max(bytes.len());
                OK
            };
            let at = frame_at(number);
            assert_eq!(joiner.write(&header(0), at, &mut below), OK);
            assert_eq!(joiner.write(&[1; PAGE], at + 24, &mut below), OK);
        }
        assert!(longest > 120_000 && longest <= 0x1ffff, "{longest}");
    }

    #[test]
    fn another_write_comes_after_what_is_collected() {
        let (mut joiner, mut disk) = (Joiner::default(), Disk::default());
        frame(&mut joiner, &mut disk, 0, 0);
        // A checksum that is written again.
        let code = joiner.write(&header(0), frame_at(0), |b, at| disk.write(b, at));
        assert_eq!((code, disk.writes), (OK, 2));
        // A page whose header was written earlier: `walFrames` overwrites a frame.
        let code = joiner.write(&[5; PAGE], frame_at(0) + 24, |b, at| disk.write(b, at));
        assert_eq!(code, OK);
        // A part of a page, before a sync.
        let code = joiner.write(&[6; 100], frame_at(1), |b, at| disk.write(b, at));
        assert_eq!(code, OK);
        assert!(joiner.is_idle() || joiner.flush(|b, at| disk.write(b, at)) == OK);
        assert_eq!(disk.bytes[usize::try_from(frame_at(1)).unwrap()], 6);
        assert_eq!(disk.bytes[usize::try_from(frame_at(0)).unwrap() + 24], 5);
    }

    #[test]
    fn a_read_sees_what_is_collected() {
        let (mut joiner, mut disk) = (Joiner::default(), Disk::default());
        frame(&mut joiner, &mut disk, 0, 0);
        let mut read = |joiner: &mut Joiner, at, len| {
            let code = joiner.flush_before_read(at, len, |b, at| disk.write(b, at));
            assert_eq!(code, OK);
            disk.writes
        };
        assert_eq!(read(&mut joiner, 0, 32), 0);
        assert_eq!(read(&mut joiner, frame_at(1), PAGE), 0);
        assert_eq!(read(&mut joiner, frame_at(0) + 100, 8), 1);
    }

    #[test]
    fn what_failed_is_not_written_later() {
        let (mut joiner, mut disk) = (Joiner::default(), Disk::default());
        disk.fails = Some(778);
        assert_eq!(frame(&mut joiner, &mut disk, 0, 1), 778);
        disk.fails = None;
        assert_eq!(frame(&mut joiner, &mut disk, 0, 1), 778);
        assert_eq!(joiner.flush(|b, at| disk.write(b, at)), 778);
        assert!(disk.bytes.is_empty());
        joiner.discard();
        assert_eq!(frame(&mut joiner, &mut disk, 0, 1), OK);
        assert_eq!(disk.writes, 2);
    }

    #[test]
    fn a_header_that_is_written_again_is_not_collected() {
        let (mut joiner, mut disk) = (Joiner::default(), Disk::default());
        frame(&mut joiner, &mut disk, 0, 0);
        frame(&mut joiner, &mut disk, 1, 9);
        // What `walRewriteChecksums` does at the end of a commit.
        for number in [0, 1] {
            let code = joiner.write(&header(9), frame_at(number), |b, at| disk.write(b, at));
            assert_eq!(code, OK);
        }
        assert!(joiner.is_idle());
        assert_eq!(disk.writes, 3);
        // The next transaction comes after it.
        joiner.discard();
        frame(&mut joiner, &mut disk, 2, 0);
        assert_eq!((joiner.is_idle(), disk.writes), (false, 3));
    }

    #[test]
    fn after_a_sync_in_the_midst_of_frames_nothing_is_collected() {
        let (mut joiner, mut disk) = (Joiner::default(), Disk::default());
        // The sync of the WAL's header comes before all frames, and does not count.
        assert_eq!(joiner.write(&[1; 32], 0, |b, at| disk.write(b, at)), OK);
        let sync = |joiner: &mut Joiner, disk: &mut Disk| {
            joiner.flush_before_sync(|b, at| disk.write(b, at))
        };
        assert_eq!(sync(&mut joiner, &mut disk), OK);
        frame(&mut joiner, &mut disk, 0, 0);
        assert!(!joiner.is_idle());
        let at = frame_at(1);
        let page = [3; PAGE - FRAME_HEADER_LEN];
        for (bytes, at) in [(&header(9)[..], at), (&page[..], at + 24)] {
            assert_eq!(joiner.write(bytes, at, |b, at| disk.write(b, at)), OK);
        }
        assert_eq!(sync(&mut joiner, &mut disk), OK);
        // The rest of the page is as long as a header.
        let rest = frame_at(2) - 24;
        let code = joiner.write(&[3; 24], rest, |b, at| disk.write(b, at));
        assert_eq!(code, OK);
        assert!(joiner.is_idle());
        assert_eq!(disk.bytes.len(), usize::try_from(frame_at(2)).unwrap());
    }

    #[test]
    fn a_read_of_what_could_not_be_written_fails() {
        let (mut joiner, mut disk) = (Joiner::default(), Disk::default());
        frame(&mut joiner, &mut disk, 0, 9);
        joiner.discard();
        frame(&mut joiner, &mut disk, 1, 0);
        disk.fails = Some(13);
        let mut read = |joiner: &mut Joiner, number| {
            joiner.flush_before_read(frame_at(number), PAGE, |b, at| disk.write(b, at))
        };
        // As an I/O error, after which SQLite rolls all of the transaction back.
        assert_eq!(read(&mut joiner, 1), IOERR);
        assert_eq!(read(&mut joiner, 1), IOERR);
        assert_eq!(read(&mut joiner, 2), IOERR);
        assert_eq!(read(&mut joiner, 0), OK);
        joiner.discard();
        assert_eq!(read(&mut joiner, 1), OK);
    }

    #[test]
    fn a_write_that_is_passed_on_and_fails_counts_too() {
        let (mut joiner, mut disk) = (Joiner::default(), Disk::default());
        frame(&mut joiner, &mut disk, 0, 9);
        disk.fails = Some(778);
        let code = joiner.write(&header(9), frame_at(0), |b, at| disk.write(b, at));
        assert_eq!(code, 778);
        disk.fails = None;
        assert_eq!(frame(&mut joiner, &mut disk, 1, 9), 778);
        joiner.discard();
        assert_eq!(frame(&mut joiner, &mut disk, 1, 9), OK);
    }

    #[test]
    fn what_was_rolled_back_is_not_written() {
        let (mut joiner, mut disk) = (Joiner::default(), Disk::default());
        frame(&mut joiner, &mut disk, 0, 0);
        joiner.discard();
        assert_eq!(frame(&mut joiner, &mut disk, 0, 1), OK);
        assert_eq!(disk.writes, 1);
    }
}
