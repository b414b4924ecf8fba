//! Copying the whole database from a node.

use std::time::{Duration, Instant};

use penholder::{Error, ErrorKind, Result};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::time::timeout_at;

use super::{
    Attempt, Cluster, ONE_NODE, Route, deadline_after, exchange, milliseconds, not_leader,
};
use crate::transport::Stream;
use crate::wire::{self, ANSWER_MAX, Answer, Request};

const WHAT: &str = "copy the database";

/// Why there is no copy.
enum CopyError {
    /// Another node may have one.
    NotFromThisNode(String),
    /// There is none.
    Failed(Error),
}

impl Cluster {
    /// Copies the database of one moment, with every write that was acknowledged before, into an empty
    /// file, and returns its length. The timeout is for the beginning, and then for each part.
    /// `progress` is told how much of how many bytes is there.
    pub(crate) async fn copy(
        &self,
        file: &mut File,
        progress: impl Fn(u64, u64) + Send,
    ) -> Result<u64> {
        let deadline = deadline_after(self.timeout);
        let mut attempts = Vec::new();
        let mut route = self.inner.route();
        loop {
            let place = route.place;
            let why = match self.copy_from(&mut route, file, &progress, deadline).await {
                Ok(bytes) => return Ok(bytes),
                Err(CopyError::Failed(error)) => return Err(error),
                Err(CopyError::NotFromThisNode(why)) => why,
            };
            attempts.push(Attempt {
                node: self.inner.nodes.at(place).address.clone(),
                why,
            });
            if !route.advance(&self.inner.nodes, deadline).await {
                return Err(self.not_copied(&attempts));
            }
        }
    }

    async fn copy_from(
        &self,
        route: &mut Route,
        file: &mut File,
        progress: &(impl Fn(u64, u64) + Send),
        deadline: Instant,
    ) -> Result<u64, CopyError> {
        let mut connection = match self.inner.connection(route.place, deadline).await {
            Ok(connection) => connection,
            Err(error) => return Err(CopyError::NotFromThisNode(error.why())),
        };
        let within = milliseconds(deadline);
        let request = Request::Copy { within };
        let answer = exchange(&mut connection.stream, &request, deadline).await;
        let bytes = match answer.map_err(|error| CopyError::NotFromThisNode(error.why()))? {
            Answer::Copy { bytes } => bytes,
            Answer::NotLeader { leader } => {
                route.hint = self.inner.place_of(leader, route.place, deadline).await;
                return Err(CopyError::NotFromThisNode(not_leader(leader)));
            }
            Answer::Failed { kind, text } => {
                let error = self.failed(WHAT, kind.error_kind(), &text);
                return Err(CopyError::Failed(error));
            }
            _ => {
                let why = "it answered something else".to_owned();
                return Err(CopyError::NotFromThisNode(why));
            }
        };
        self.empty(file).await.map_err(CopyError::Failed)?;
        let each = self.timeout.max(ONE_NODE);
        let mut done = 0;
        while done < bytes {
            let part = receive_part(&mut connection.stream, each)
                .await
                .map_err(CopyError::NotFromThisNode)?;
            let written = file.write_all(&part).await;
            written.map_err(|error| CopyError::Failed(self.not_written(&error)))?;
            done += part.len() as u64;
            progress(done, bytes);
        }
        let synced = file.sync_all().await;
        synced.map_err(|error| CopyError::Failed(self.not_written(&error)))?;
        self.inner.keep(route.place, connection);
        Ok(done)
    }

    /// Removes what another node may have sent before it was lost.
    async fn empty(&self, file: &mut File) -> Result<()> {
        let emptied = async {
            file.set_len(0).await?;
            file.rewind().await.map(drop)
        };
        emptied.await.map_err(|error| self.not_written(&error))
    }

    fn not_copied(&self, attempts: &[Attempt]) -> Error {
        let mut text = format!("{WHAT}: {}: no node sent all of it", self.inner.address);
        super::list(&mut text, attempts);
        text.push_str("\n  try again, or look at `penholder status` of the same address");
        Error::of_engine(ErrorKind::Timeout, text)
    }

    fn not_written(&self, error: &std::io::Error) -> Error {
        let text = format!("write the copy: {error}: make room, or choose another directory");
        self.failed(WHAT, ErrorKind::Io, &text)
    }
}

async fn receive_part(stream: &mut Box<dyn Stream>, within: Duration) -> Result<Vec<u8>, String> {
    let until = Instant::now() + within;
    match timeout_at(until.into(), wire::receive(stream, ANSWER_MAX)).await {
        Ok(Ok(Some(Answer::Part(part)))) if !part.is_empty() => Ok(part),
        Ok(Ok(Some(_))) => Err("it answered something else".to_owned()),
        Ok(Ok(None)) => Err("it closed the connection".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it sent no more of the copy".to_owned()),
    }
}
