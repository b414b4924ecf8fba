//! The directory for the files of a benchmark.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use tempfile::TempDir;

#[derive(clap::Args)]
pub(crate) struct Directory {
    /// Existing directory for databases and lock files; its file system determines
    /// the figures
    #[arg(long, alias = "folder", default_value = ".")]
    #[arg(value_parser = PathBufValueParser::new().try_map(existing))]
    directory: PathBuf,
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Creates a temporary directory in it.
    pub(crate) fn temporary(&self) -> std::io::Result<TempDir> {
        tempfile::tempdir_in(&self.directory)
    }
}

/// Rejects a path before anything is measured.
fn existing(path: PathBuf) -> Result<PathBuf, &'static str> {
    if path.is_dir() {
        Ok(path)
    } else {
        Err("it is not a directory")
    }
}
