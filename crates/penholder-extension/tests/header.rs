//! The header of the C interface is what `cbindgen` makes of the source.

use std::path::Path;
use std::{env, fs};

/// Set it to write the header instead of comparing it.
const WRITE: &str = "PENHOLDER_WRITE_HEADER";

#[test]
fn the_header_is_that_of_the_source() {
    let crate_ = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_.join("cbindgen.toml")).unwrap();
    let sources = ["failure.rs", "interface.rs"].map(|file| crate_.join("src").join(file));
    let builder = sources.iter().fold(
        cbindgen::Builder::new().with_config(config),
        cbindgen::Builder::with_src,
    );
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let header = crate_.join("include/penholder.h");
    if env::var_os(WRITE).is_some() {
        fs::create_dir_all(header.parent().unwrap()).unwrap();
        fs::write(&header, &made).unwrap();
    }
    let made = String::from_utf8(made).unwrap();
    let known = fs::read_to_string(&header).unwrap();
    assert_eq!(made, known, "run this test with {WRITE}=1 to write it");
}
