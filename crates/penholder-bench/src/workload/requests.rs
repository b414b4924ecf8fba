//! The requests that a writer or a reader sends, one after the other.

use std::error::Error;

use crate::peer::client::{Client, Outcome};

pub(crate) trait Requests {
    /// Sends the next request.
    fn send(&mut self, client: &mut dyn Client) -> Result<Outcome, Box<dyn Error>>;
}
