//! Removing a node.

use penholder::{Error, ErrorKind, Result};

use super::{Asked, Attempt, Cluster, deadline_after, not_leader};
use crate::wire::{Answer, NodeStatus, Request};

const WHAT: &str = "remove node";

impl Cluster {
    /// Ends the membership of a node: it gets nothing more, and does not count for a majority.
    pub(crate) async fn remove(&self, node: u64) -> Result<()> {
        self.check_removal(node).await?;
        let deadline = deadline_after(self.timeout);
        let mut attempts = Vec::new();
        let mut route = self.inner.route();
        loop {
            let place = route.place;
            let why = match self
                .inner
                .ask(place, &Request::Remove { node }, deadline)
                .await
            {
                Asked::Answer(Answer::Removed) => return Ok(()),
                Asked::Answer(Answer::NotLeader { leader }) => {
                    route.hint = self.inner.place_of(leader, place, deadline).await;
                    not_leader(leader)
                }
                Asked::Answer(Answer::Unknown { text } | Answer::Failed { text, .. }) => text,
                Asked::Answer(_) => "it answered something else".to_owned(),
                Asked::NoAnswer(why) | Asked::NotSent(why) => why,
            };
            attempts.push(Attempt {
                node: self.inner.nodes.at(place).address.clone(),
                why,
            });
            if !route.advance(&self.inner.nodes, deadline).await {
                return Err(self.not_removed(node, &attempts));
            }
        }
    }

    /// Refuses what would leave a cluster without a majority.
    async fn check_removal(&self, node: u64) -> Result<()> {
        let statuses = self.statuses().await;
        let known: Vec<NodeStatus> = statuses
            .into_iter()
            .filter_map(|(_, status)| status.ok())
            .collect();
        let leads = known.iter().find(|status| status.leads());
        let refused = |why: &str| Err(self.failed(WHAT, ErrorKind::Refused, why));
        let Some(leads) = leads else {
            return refused("no node that leads answers: start a majority of the nodes first");
        };
        if leads.members.iter().all(|member| member.id != node) {
            let members: Vec<String> = leads
                .members
                .iter()
                .map(|member| member.id.to_string())
                .collect();
            return refused(&format!(
                "{node} is no member: the members are {}",
                members.join(", ")
            ));
        }
        let voters: Vec<u64> = leads
            .members
            .iter()
            .filter(|member| member.is_voter)
            .map(|member| member.id)
            .collect();
        let rest: Vec<u64> = voters.iter().copied().filter(|&id| id != node).collect();
        if rest.is_empty() {
            return refused(
                "it is the only node: to give a cluster up, end it and remove its data",
            );
        }
        let silent = leads
            .members
            .iter()
            .find(|member| member.id != node && member.is_voter && member.client.is_none());
        if let Some(silent) = silent {
            return refused(&format!(
                "node {} has not told the others yet where it takes clients: try again in some seconds",
                silent.id
            ));
        }
        // The members that there are now have to agree, and those that will be left must go on.
        for (of, when) in [(&voters, "there are now"), (&rest, "would be left")] {
            let answering = of
                .iter()
                .filter(|&&id| known.iter().any(|status| status.node == id));
            let answering = answering.count();
            if answering * 2 <= of.len() {
                return refused(&format!(
                    "{answering} of the {} nodes that {when} answer, which is no majority: start them first",
                    of.len()
                ));
            }
        }
        Ok(())
    }

    fn not_removed(&self, node: u64, attempts: &[Attempt]) -> Error {
        let mut text = format!(
            "{WHAT}: {}: it is not known whether node {node} is a member: `penholder status` of the same address \
             shows it",
            self.inner.address
        );
        super::list(&mut text, attempts);
        Error::of_engine(ErrorKind::OutcomeUnknown, text)
    }
}
