//! What the nodes of a cluster say of themselves.

use crate::wire::NodeStatus;

/// The address of a node, and what it says.
pub(crate) type NodeResult = (String, Result<NodeStatus, String>);

/// One line for each node.
pub(crate) fn text(statuses: &[NodeResult]) -> String {
    let mut text = String::from("node\taddress\trole\tterm\tlog\tapplied\n");
    let mut answering = statuses.iter().flat_map(|(_, status)| status);
    let leads = answering.find(|status| status.leads());
    // A node is not told that it was removed.
    let is_member = |status: &NodeStatus| match leads {
        Some(leads) => leads.members.iter().any(|member| member.id == status.node),
        None => status.is_member(),
    };
    for (address, status) in statuses {
        text += &match status {
            Ok(status) => {
                let role = match (status.leads(), status.votes()) {
                    _ if !is_member(status) => "no member",
                    (true, _) => "leads",
                    (false, true) => "follows",
                    (false, false) => "learns",
                };
                let number = |number: Option<u64>| {
                    number.map_or("-".to_owned(), |number| number.to_string())
                };
                format!(
                    "{}\t{address}\t{role}\t{}\t{}\t{}\n",
                    status.node,
                    status.term,
                    number(status.last_log),
                    number(status.last_applied)
                )
            }
            Err(why) => format!("?\t{address}\t{why}\n"),
        };
    }
    text
}

/// One object.
pub(crate) fn json(statuses: &[NodeResult]) -> String {
    let nodes = statuses.iter().map(|(address, status)| match status {
        Ok(status) => serde_json::json!({
            "address": address,
            "node": status.node,
            "leader": status.leader,
            "term": status.term,
            "last_log": status.last_log,
            "last_applied": status.last_applied,
            "voters": status.members.iter().filter(|member| member.is_voter).map(|member| member.id).collect::<Vec<_>>(),
            "since_majority_ms": status.since_majority,
        }),
        Err(why) => serde_json::json!({ "address": address, "error": why }),
    });
    serde_json::json!({ "nodes": nodes.collect::<Vec<_>>() }).to_string() + "\n"
}
