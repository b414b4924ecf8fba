//! What the fuzz targets need of the inside of this crate. No part of the API: it exists only
//! with `cfg(fuzzing)`, which only `.ci/fuzz` and cargo-fuzz set.
//!
//! The assertions are in the targets (`fuzz/fuzz_targets`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use crate::holder_record::{self, Record, RecordWriter};
use crate::inherited_hold::{self, Ancestors};
use crate::lineage::ProcessId;
use crate::mailbox::{self, Claim, Mailbox, Outcome, RequestId};
use crate::sys::file::FileId;
use crate::sys::process::Identity;

/// Words of a mailbox.
pub const MAILBOX_WORDS: usize = mailbox::LENGTH / 8;

/// The text in a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderRecord {
    /// The process id.
    pub pid: Option<u32>,
    /// When the lock was taken.
    pub time: Option<SystemTime>,
    /// The command line.
    pub cmd: Option<String>,
    /// The label.
    pub label: Option<String>,
    /// The database.
    pub database: Option<PathBuf>,
    /// When the process started.
    pub start: Option<u64>,
    /// The pid namespace.
    pub pidns: Option<u64>,
}

impl HolderRecord {
    fn of(record: Record) -> Self {
        Self {
            pid: record.pid,
            time: record.time,
            cmd: record.cmd,
            label: record.label,
            database: record.database.map(PathBuf::from),
            start: record.start,
            pidns: record.pidns,
        }
    }

    /// Parses the content of a lock file.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Record::parse(bytes).map(Self::of)
    }

    /// Reads it from a lock file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(file: &File) -> io::Result<Option<Self>> {
        Ok(Record::read(file)?.map(Self::of))
    }

    /// Returns whether a file may become a lock file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn may_replace(file: &File) -> io::Result<bool> {
        Ok(holder_record::found(file)? == holder_record::FileContent::Record)
    }

    /// Writes the record of a process that is described by this one.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, file: &File) -> io::Result<()> {
        let identity = Identity {
            pid: self.pid.unwrap_or(0),
            start: self.start,
            pidns: self.pidns,
            cmd: self.cmd.clone().unwrap_or_default(),
        };
        let length = file.metadata()?.len();
        let time = self.time.unwrap_or(SystemTime::UNIX_EPOCH);
        RecordWriter::new(
            &identity,
            self.label.as_deref(),
            self.database.as_deref(),
            Path::new(""),
        )
        .publish(file, time, length)
    }
}

/// The value of the environment variable `PENHOLDER_HOLD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldVariable(Vec<Ancestors>);

impl HoldVariable {
    /// Parses a value.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(inherited_hold::parse(text))
    }

    /// Returns the file (device and inode) and the chain of holders (pid and start time) of
    /// each part.
    #[must_use]
    pub fn parts(&self) -> Vec<HoldPart> {
        let ids = |one: &Ancestors| one.chain.iter().map(|id| (id.pid, id.start)).collect();
        let part = |one: &Ancestors| ((one.file.dev, one.file.ino), ids(one));
        self.0.iter().map(part).collect()
    }

    /// Formats the value for a child that works under one more hold.
    #[must_use]
    pub fn with(&self, (file, chain): &HoldPart) -> String {
        let (dev, ino) = *file;
        let chain = chain.iter().map(|&(pid, start)| ProcessId { pid, start });
        let chain: Vec<_> = chain.collect();
        inherited_hold::value(&self.0, FileId { dev, ino }, &chain)
    }
}

/// The file (device and inode) and the chain of holders (pid and start time).
pub type HoldPart = ((u64, u64), Vec<(u32, u64)>);

/// The words of one mailbox.
#[derive(Debug, Clone, Copy)]
pub struct RequestBox<'a>(Mailbox<'a>);

impl<'a> RequestBox<'a> {
    /// Takes [`MAILBOX_WORDS`] words as a mailbox.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self(Mailbox::new(words))
    }

    /// Makes an id of a request.
    #[must_use]
    pub fn id(words: [u64; 2]) -> RequestId {
        RequestId(words)
    }

    /// See `Mailbox::offer`.
    pub fn offer(self, id: RequestId, fingerprint: u64, request: &[u8]) {
        self.0.offer(id, fingerprint, request);
    }

    /// See `Mailbox::is_settled`.
    #[must_use]
    pub fn is_settled(self, id: RequestId) -> bool {
        self.0.is_settled(id)
    }

    /// See `Mailbox::withdraw`.
    #[must_use]
    pub fn withdraw(self, id: RequestId) -> bool {
        self.0.withdraw(id)
    }

    /// See `Mailbox::settle`.
    #[must_use]
    pub fn settle(self, id: RequestId) -> Outcome {
        self.0.settle(id)
    }

    /// See `Mailbox::is_used`.
    #[must_use]
    pub fn is_used(self) -> bool {
        self.0.is_used()
    }

    /// See `Mailbox::read`.
    #[must_use]
    pub fn read(self, fingerprint: u64) -> Option<(RequestId, Vec<u8>, Option<Claim>)> {
        let read = self.0.read(fingerprint)?;
        Some((read.id, read.bytes, read.claimed))
    }

    /// See `Mailbox::claim`.
    #[must_use]
    pub fn claim(self, id: RequestId, claim: Claim) -> bool {
        self.0.claim(id, claim)
    }

    /// See `Mailbox::reply`.
    #[must_use]
    pub fn reply(self, id: RequestId, batch: [u64; 2], reply: &[u8]) -> bool {
        self.0.reply(id, batch, reply)
    }

    /// See `Mailbox::current_claim`.
    #[must_use]
    pub fn current_claim(self, id: RequestId) -> Option<Claim> {
        self.0.current_claim(id)
    }

    /// See `Mailbox::acknowledge`.
    #[must_use]
    pub fn acknowledge(self, id: RequestId, batch: [u64; 2]) -> bool {
        self.0.acknowledge(id, batch)
    }

    /// See `Mailbox::refuse`.
    pub fn refuse(self, id: RequestId) {
        self.0.refuse(id);
    }
}
