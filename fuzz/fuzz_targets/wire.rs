//! What waiters ask the holder of the lock to write, and its replies.
//!
//! The first byte says which of the two the others are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penholder::fuzzing::{Replies, Writes};
use penholder_core::{REPLY_MAX, REQUEST_MAX};

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, bytes)) = bytes.split_first() else {
        return;
    };
    // Compared as bytes, because a number that is not one equals nothing, not even itself.
    if kind & 1 == 0 {
        let bytes = &bytes[..bytes.len().min(REQUEST_MAX)];
        if let Some(writes) = Writes::decode(bytes) {
            // There is one way to write each request down.
            assert_eq!(writes.encode(), bytes);
        }
    } else {
        let bytes = &bytes[..bytes.len().min(REPLY_MAX)];
        if let Some(replies) = Replies::decode(bytes) {
            let encoded = replies.encode();
            // What is absent may have left something in its place.
            assert!(encoded.len() <= bytes.len());
            let again = Replies::decode(&encoded).map(|replies| replies.encode());
            assert_eq!(again, Some(encoded));
        }
    }
});
