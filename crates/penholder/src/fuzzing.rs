//! What the fuzz targets need of the inside of this crate. No part of the API: it exists only
//! with `cfg(fuzzing)`, which only `.ci/fuzz` and cargo-fuzz set.
//!
//! The assertions are in the targets (`fuzz/fuzz_targets`).

use crate::delegate::{self, Encoder, RemoteWrite, Reply};

/// Decoded writes of a request.
#[derive(Debug)]
pub struct Writes(Vec<RemoteWrite>);

impl Writes {
    /// Decodes a request.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        delegate::remote_writes(bytes).map(Self)
    }

    /// Encodes the same writes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for one in &self.0 {
            encoder.remote_write(one.is_batch, &one.statements);
        }
        encoder.into_bytes()
    }
}

/// Decoded replies to a request.
#[derive(Debug)]
pub struct Replies(Vec<Reply>);

impl Replies {
    /// Decodes replies.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        delegate::replies(bytes).map(Self)
    }

    /// Encodes the same replies.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for one in &self.0 {
            encoder.reply(one);
        }
        encoder.into_bytes()
    }
}
