//! `penholder status`: who holds the write lock.

use std::process::ExitCode;

use crate::args::Status;
use crate::failure::{FAILED, Failure};
use crate::output;

pub(crate) fn run(args: &Status) -> Result<ExitCode, Failure> {
    let db = &args.target.db;
    let locker = args.target.options().locker(db)?;
    if !db.exists() && !locker.lock_file().exists() {
        let message = format!(
            "status: {}: there is no such database and no lock file: check the name",
            db.display()
        );
        return Err(Failure::new(message, FAILED));
    }
    let status = locker.status()?;
    if args.json {
        return output::print_json(&status);
    }
    let state = match &status.holder {
        None => "free".to_owned(),
        Some(holder) => format!("held by {holder}"),
    };
    let text = format!("{state}\n  lock file: {}\n", status.lock_file.display());
    output::print(text.as_bytes())
}
