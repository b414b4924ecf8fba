#![expect(unreachable_pub, reason = "the codes are part of the C interface")]
//! Why a function of the C interface failed, and its code.

use std::ffi::c_int;

use penholder_core::LockError;
use serde_json::json;

/// It is done.
pub const PENHOLDER_OK: c_int = 0;
/// It is not done yet: call the function again.
pub const PENHOLDER_AGAIN: c_int = 1;
/// The time is over.
pub const PENHOLDER_TIMEOUT: c_int = 2;
/// The function was called in a way that makes no sense.
pub const PENHOLDER_MISUSE: c_int = 3;
/// The lock file is on a network file system.
pub const PENHOLDER_NETWORK: c_int = 4;
/// This user may not use the lock file.
pub const PENHOLDER_PERMISSION: c_int = 5;
/// Anything else: the text says what.
pub const PENHOLDER_FAILED: c_int = 6;

/// Why a function of the C interface failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: c_int,
    text: String,
    /// `None` if it was not the lock that failed.
    lock: Option<LockError>,
}

impl Failure {
    pub(crate) fn misuse(text: &str) -> Self {
        Self {
            code: PENHOLDER_MISUSE,
            text: text.to_owned(),
            lock: None,
        }
    }

    pub(crate) fn other(text: String) -> Self {
        Self {
            code: PENHOLDER_FAILED,
            text,
            lock: None,
        }
    }

    pub(crate) fn code(&self) -> c_int {
        self.code
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns it as JSON.
    pub(crate) fn json(&self) -> String {
        let lock = self.lock.as_ref();
        json!({
            "message": self.text,
            "lock_file": lock.map(|error| error.lock_file().to_string_lossy()),
            "holder": lock.and_then(LockError::holder),
        })
        .to_string()
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let code = if error.is_timeout() {
            PENHOLDER_TIMEOUT
        } else if error.is_network_file_system() {
            PENHOLDER_NETWORK
        } else if error.is_not_permitted() {
            PENHOLDER_PERMISSION
        } else {
            PENHOLDER_FAILED
        };
        Self {
            code,
            text: error.to_string(),
            lock: Some(error),
        }
    }
}
