//! Removing nodes from a cluster, by the engine's own interface for that.

use std::fs;
use std::time::Duration;

use reqwest::{Certificate, Client};
use serde::Serialize;

use crate::node_file::NodeFile;

/// How long the engine may take: it waits until all members know.
const WITHIN: Duration = Duration::from_secs(30);

/// What this node asks its own engine, if it leads.
#[derive(Clone)]
pub(crate) struct Membership {
    client: Client,
    url: String,
    secret: String,
}

/// As the engine reads it.
#[derive(Serialize)]
struct Leave {
    node_id: u64,
    stay_as_learner: bool,
}

impl Membership {
    pub(crate) fn new(file: &NodeFile) -> Result<Self, String> {
        let own = file.own().ok_or("it is not among its nodes")?;
        let mut builder = Client::builder()
            .no_proxy()
            .http2_prior_knowledge()
            .timeout(WITHIN);
        if let Some(tls) = &file.tls {
            let pem = fs::read(&tls.authority).map_err(|error| error.to_string())?;
            let authority = Certificate::from_pem(&pem).map_err(|error| error.to_string())?;
            builder = builder.tls_certs_only([authority]);
        }
        let scheme = if file.tls.is_some() { "https" } else { "http" };
        Ok(Self {
            client: builder.build().map_err(|error| error.to_string())?,
            url: format!("{scheme}://{}/cluster/membership/sqlite", own.management),
            secret: file.secret.clone(),
        })
    }

    /// Removes a member: it gets nothing more, and does not count for a majority. This node has to lead.
    pub(crate) async fn remove(&self, node: u64) -> Result<(), String> {
        let leave = Leave {
            node_id: node,
            stay_as_learner: false,
        };
        let asked = self
            .client
            .delete(&self.url)
            .header("X-API-SECRET", &self.secret)
            .json(&leave)
            .send();
        let answer = asked.await.map_err(|error| error.to_string())?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(answer
            .text()
            .await
            .unwrap_or_else(|error| error.to_string()))
    }
}
