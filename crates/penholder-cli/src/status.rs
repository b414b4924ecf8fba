//! `penholder status`: who holds the write lock.

use std::process::ExitCode;

use penholder::lock;

use crate::args::Status;
use crate::failure::Failure;
use crate::{output, summary};

pub(crate) fn run(args: &Status) -> Result<ExitCode, Failure> {
    let status = args.target.existing_locker("status")?.status()?;
    if args.json {
        return output::print_json(&status);
    }
    output::print_text(&describe(&status))
}

fn describe(status: &lock::Status) -> String {
    let mut lines = summary::holder_and_queue(status);
    let details = summary::figures(status).chain(summary::events(status));
    lines.extend(details.map(|line| format!("  {line}")));
    lines.join("\n") + "\n"
}
