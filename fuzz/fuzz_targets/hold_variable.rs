//! The environment variable `PENHOLDER_HOLD`, which any parent may have set.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penholder_core::fuzzing::{HoldPart, HoldVariable};

/// The longest chain that is believed.
const DEPTH_MAX: usize = 256;

fuzz_target!(|bytes: &[u8]| {
    // A value that is not UTF-8 is never parsed.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let variable = HoldVariable::parse(text);
    let parts = variable.parts();
    assert!(parts.len() <= text.split(';').count());
    for (_, chain) in &parts {
        assert!((1..=DEPTH_MAX).contains(&chain.len()), "{chain:?}");
    }

    // What a child is told is what this process was told, and its own hold last. That replaces
    // an earlier one of the same file.
    let files = parts.iter().map(|&(file, _)| file);
    for file in files.chain([(u64::MAX, 0)]) {
        let own: HoldPart = (file, vec![(1, 2), (u32::MAX, u64::MAX)]);
        let mut expected = parts.clone();
        expected.retain(|&(other, _)| other != file);
        expected.push(own.clone());
        let value = variable.with(&own);
        assert_eq!(HoldVariable::parse(&value).parts(), expected, "{value}");
    }
});
