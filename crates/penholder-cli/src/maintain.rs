//! `penholder checkpoint`, `backup`, `restore` and `vacuum`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use penholder::Database;
use penholder_core::shown_path;

use crate::args::{Backup, Maintain, Restore, Target, Timeout};
use crate::failure::{Failure, say_warnings};
use crate::interruption::Interruption;
use crate::sys::open_file;

/// How the name of a copy begins until it is complete.
const UNFINISHED: &str = ".penholder-backup-";
/// How the name of the directory begins that has a copy with another page size.
const CONVERTED: &str = ".penholder-restore-";

pub(crate) fn checkpoint(args: &Maintain) -> Result<ExitCode, Failure> {
    let done = open(&args.target, &args.timeout)?.checkpoint()?;
    let wal = if done.truncated {
        "the WAL is empty"
    } else {
        "the WAL could not be truncated: a reader uses it, or a process writes without the lock"
    };
    let text = format!(
        "{} of {} WAL frames moved into the database; {wal}\n",
        done.checkpointed_frames, done.wal_frames
    );
    args.quiet.print(&text)
}

pub(crate) fn vacuum(args: &Maintain) -> Result<ExitCode, Failure> {
    let db = open(&args.target, &args.timeout)?;
    // The size of the file is not enough: a part of the database may be in the WAL.
    let pages = "SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size";
    let before: i64 = db.query_scalar(pages, ())?;
    db.vacuum()?;
    let text = format!("{before} bytes before, {} after\n", size(db.path()));
    args.quiet.print(&text)
}

pub(crate) fn backup(args: &Backup, interruption: &Interruption) -> Result<ExitCode, Failure> {
    interruption.set_outcome(": no copy was made");
    // Without a thread that could do it, the unfinished copy stays.
    let _ = interruption.before_end(|| open_file::remove(UNFINISHED));
    let options = args.target.options().timeout(args.timeout.timeout);
    let db = options.read_only(true).open(&args.target.db)?;
    db.backup_to(&args.file)?;
    interruption.set_outcome(", after the copy was made");
    let text = format!("{} bytes in {}\n", size(&args.file), shown_path(&args.file));
    args.quiet.print(&text)
}

pub(crate) fn restore(args: &Restore, interruption: &Interruption) -> Result<ExitCode, Failure> {
    interruption.set_outcome(": the database has its former content, or that of the backup");
    let _ = interruption.before_end(|| open_file::remove(CONVERTED));
    let options = args.target.options().timeout(args.timeout.timeout);
    let is_new = !args.target.db.exists();
    let db = options.restore(&args.target.db, &args.backup)?;
    say_warnings(&db);
    if is_new {
        args.quiet.say(format!(
            "{}: did not exist, and was created",
            shown_path(db.path())
        ));
    }
    let pages = "SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = db.query_scalar(pages, ())?;
    let text = format!("{bytes} bytes restored from {}\n", shown_path(&args.backup));
    args.quiet.print(&text)
}

fn open(target: &Target, timeout: &Timeout) -> Result<Database, Failure> {
    let options = target.options().timeout(timeout.timeout).create(false);
    let db = options.open(&target.db)?;
    say_warnings(&db);
    Ok(db)
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}
