//! Databases on a cluster: `penholder-cluster`, a program of its own, does the work.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::failure::{FAILED, Failure, NOT_FOUND};
use crate::sys::process;

/// What the address of a cluster begins with.
const SCHEME: &str = "cluster:";
const PROGRAM: &str = "penholder-cluster";

/// Returns whether a command line with these words is for that program. The address stands right after
/// the subcommand, because this program does not know the options of the other one.
pub(crate) fn is_asked(words: &[OsString]) -> bool {
    let word = |number: usize| words.get(number).and_then(|word| word.to_str());
    matches!(word(1), Some("cluster" | "serve")) || word(2).is_some_and(is_address)
}

/// Returns whether a database is on a cluster.
pub(crate) fn is_cluster(database: &Path) -> bool {
    database.to_str().is_some_and(is_address)
}

fn is_address(word: &str) -> bool {
    word.starts_with(SCHEME)
}

/// Runs that program with the words of this one's command line.
pub(crate) fn run(words: &[OsString]) -> Result<ExitCode, Failure> {
    let program = in_own_directory().unwrap_or_else(|| PROGRAM.into());
    let mut command = Command::new(program);
    command.args(words.get(1..).unwrap_or_default());
    process::run_instead(&mut command).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            format!(
                "{PROGRAM}: it is needed for a cluster, and is neither in the directory of this program nor in \
                 PATH: in the directory `cluster` of the source, run `cargo install --path .`"
            ),
            NOT_FOUND,
        ),
        _ => Failure::new(format!("start {PROGRAM}: {error}"), FAILED),
    })
}

fn in_own_directory() -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    let mut program = own.with_file_name(PROGRAM);
    program.set_extension(own.extension().unwrap_or(OsStr::new("")));
    program.is_file().then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_where_the_database_does() {
        for (line, expected) in [
            ("penholder cluster init x", true),
            ("penholder serve x", true),
            ("penholder query cluster:x/client.toml SQL", true),
            ("penholder query x.db cluster:x", false),
            ("penholder query --json cluster:x", false),
            ("penholder", false),
        ] {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(is_asked(&words), expected, "{line}");
        }
        assert!(is_cluster(Path::new("cluster:x")) && !is_cluster(Path::new("./cluster:x")));
    }
}
