//! The command `penholder`, for the benchmarks that run it.

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[derive(clap::Args)]
pub(crate) struct PenholderCommand {
    /// Path of the `penholder` command [default: next to this program]
    #[arg(long, value_name = "PATH")]
    penholder: Option<PathBuf>,
}

impl PenholderCommand {
    /// Returns the path of the command, if the command runs.
    pub(crate) fn find(&self) -> Result<PathBuf, Box<dyn Error>> {
        let path = match &self.penholder {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("penholder"),
        };
        if runs(&path) {
            return Ok(path);
        }
        let path = path.display();
        Err(format!(
            "run {path:?}: it is missing or fails; build it with \
             `cargo build --release -p penholder-cli`, or name it with --penholder"
        )
        .into())
    }
}

/// Whether a program exists and prints its version.
pub(crate) fn runs(program: impl AsRef<std::ffi::OsStr>) -> bool {
    let mut command = Command::new(program);
    command.arg("--version");
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
