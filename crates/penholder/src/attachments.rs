//! What all handles of this process have open of each database.
//!
//! SQLite shares one index among all connections of a process to one database file. So a handle
//! whose `-wal` or `-shm` was deleted cannot open the new ones before the connections of every
//! other handle are closed too.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use penholder_core::Deadline;

use crate::attachment::Attachment;
use crate::location::Location;
use crate::mutex::lock_until;

/// How long the list may be locked by others: none of them waits with it. In a forked child, a
/// thread that does not exist there may have locked it for ever.
const LOCKED_MAX: Duration = Duration::from_millis(500);

static ALL: Mutex<Vec<Weak<Attachment>>> = Mutex::new(Vec::new());

/// Returns the attachment as one that [`give_up_lost`] finds until it is dropped.
pub(crate) fn register(attachment: Attachment) -> Arc<Attachment> {
    let attachment = Arc::new(attachment);
    if let Some(mut all) = lock_until(&ALL, &Deadline::after(LOCKED_MAX)) {
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&attachment));
    }
    attachment
}

/// Closes the connections of each handle of this process to the database, if the files that they
/// have open were replaced or deleted. What cannot be closed before the deadline stays open.
pub(crate) fn give_up_lost(location: &Location, deadline: &Deadline) {
    for attachment in of(location) {
        // Only files that are lost make it fail and are given up.
        let _ = attachment.files().check("open database", Instant::now());
        let _ = attachment.give_up_if_lost(deadline);
    }
}

fn of(location: &Location) -> Vec<Arc<Attachment>> {
    let Some(all) = lock_until(&ALL, &Deadline::after(LOCKED_MAX)) else {
        return Vec::new();
    };
    let mut found: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
    // One that is dropped here may be the last, and closing it may take long.
    drop(all);
    found.retain(|one| one.is_ours() && one.files().database() == location.path);
    found
}
