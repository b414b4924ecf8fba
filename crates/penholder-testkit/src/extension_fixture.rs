//! The loadable extension, built as a user builds it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// Returns the path of the extension without its suffix, as SQLite takes it. The first call of a
/// process has cargo build it: tests of a package whose library is a `cdylib` do not.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(build)
}

fn build() -> PathBuf {
    let done = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--locked", "--package", "penholder-extension"])
        .args(["--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "cargo builds the extension: {errors}"
    );
    let messages = String::from_utf8(done.stdout).unwrap();
    let built = messages.lines().filter_map(library_in).next_back();
    built
        .expect("cargo names what it has built")
        .with_extension("")
}

/// Returns the shared library that a message of cargo names.
fn library_in(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let files = message.get("filenames")?.as_array()?;
    let mut files = files.iter().filter_map(Value::as_str).map(PathBuf::from);
    files.find(|file| {
        file.file_stem().is_some_and(|stem| stem == "libpenholder")
            && file.extension().is_some_and(|is| is == "so")
    })
}
