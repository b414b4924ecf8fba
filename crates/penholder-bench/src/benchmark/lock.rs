//! The uncontended lock: acquire, write the record, release, clear the record. It is
//! compared with a bare `flock` and unlock on the same file system, and with the
//! five system calls that it makes.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;

use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
use rustix::fs::{FlockOperation, flock};

use crate::rounds::{self, Args, Operation};
use crate::system;

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let directory = args.directory.temporary()?;
    let bare = File::create(directory.path().join("bare.lock"))?;
    let five = File::create(directory.path().join("five.lock"))?;
    let locker = WriteLocker::new(directory.path())?;
    locker.acquire(DEFAULT_TIMEOUT)?.release()?;
    five.write_all_at(&[b' '; 512], 0)?;
    // A lock file in use is old, and its block is allocated on disk.
    five.sync_all()?;
    File::open(locker.lock_file())?.sync_all()?;
    let mut operations = [
        Operation::new("flock and unlock", || flock_and_unlock(&bare)),
        Operation::new("the five system calls alone", || five_calls(&five)),
        Operation::new("penholder acquire and release", || {
            Ok(locker.acquire(DEFAULT_TIMEOUT)?.release()?)
        }),
    ];
    let times = rounds::measure(args, &mut operations)?;
    rounds::print(&operations, &times);
    Ok(())
}

fn flock_and_unlock(file: &File) -> Result<(), Box<dyn Error>> {
    flock(file, FlockOperation::NonBlockingLockExclusive)?;
    flock(file, FlockOperation::Unlock)?;
    Ok(())
}

fn five_calls(file: &File) -> Result<(), Box<dyn Error>> {
    flock(file, FlockOperation::NonBlockingLockExclusive)?;
    system::ask_for_facts(file)?;
    file.write_all_at(&[b'x'; 512], 0)?;
    file.write_all_at(&[b' '; 512], 0)?;
    flock(file, FlockOperation::Unlock)?;
    Ok(())
}
