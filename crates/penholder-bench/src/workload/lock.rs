//! The uncontended lock: acquire, record published, release, record emptied,
//! beside a bare `flock` and unlock on the same file system, and beside the five
//! system calls that it makes.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;

use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
use rustix::fs::{AtFlags, FlockOperation, StatxFlags, flock, statx};

use crate::rounds::{self, Peer, Plan};

pub(crate) fn run(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let bare = File::create(folder.path().join("bare.lock"))?;
    let five = File::create(folder.path().join("five.lock"))?;
    let locker = WriteLocker::new(folder.path())?;
    locker.acquire(DEFAULT_TIMEOUT)?.release()?;
    five.write_all_at(&[b' '; 512], 0)?;
    // Lock files are old: their block has long been given a place on the disk.
    five.sync_all()?;
    File::open(locker.lock_file())?.sync_all()?;
    let mut peers = [
        Peer {
            name: "flock and unlock",
            operation: Box::new(|| {
                flock(&bare, FlockOperation::NonBlockingLockExclusive)?;
                flock(&bare, FlockOperation::Unlock)?;
                Ok(())
            }),
        },
        Peer {
            name: "the five system calls alone",
            operation: Box::new(|| {
                flock(&five, FlockOperation::NonBlockingLockExclusive)?;
                statx(
                    &five,
                    "",
                    AtFlags::EMPTY_PATH,
                    StatxFlags::NLINK | StatxFlags::SIZE,
                )?;
                five.write_all_at(&[b'x'; 512], 0)?;
                five.write_all_at(&[b' '; 512], 0)?;
                flock(&five, FlockOperation::Unlock)?;
                Ok(())
            }),
        },
        Peer {
            name: "penholder acquire and release",
            operation: Box::new(|| Ok(locker.acquire(DEFAULT_TIMEOUT)?.release()?)),
        },
    ];
    let times = rounds::measure(plan, &mut peers)?;
    rounds::print(&peers, &times);
    Ok(())
}
