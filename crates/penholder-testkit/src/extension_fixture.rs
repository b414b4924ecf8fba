//! The loadable extension, built for the test that loads it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const MANIFEST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../penholder-extension/Cargo.toml"
);

/// Returns the path of the extension. The first call of a process has cargo build it, in the profile
/// of the test: tests of a package whose library is a `cdylib` do not.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(build)
}

/// Returns the path of the extension if it is built, where no test can have it built: on Windows.
pub fn built_library() -> Option<PathBuf> {
    let built = profile().join("penholder.dll");
    built.is_file().then_some(built)
}

/// Returns the directory of the profile: of `target/<profile>/deps/<test>-…`.
fn profile() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

fn build() -> PathBuf {
    let profile = profile();
    let name = match profile.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        name => name,
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--offline", "--lib"]);
    cargo.args(["--profile", name, "--manifest-path", MANIFEST]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
    let built = profile.join("libpenholder.so");
    assert!(built.is_file(), "{built:?}");
    built
}
