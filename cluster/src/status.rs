//! What the nodes of a cluster say of themselves.

use crate::wire::NodeStatus;

/// The address of a node, and what it says.
pub(crate) type NodeResult = (String, Result<NodeStatus, String>);

/// One line for each node.
pub(crate) fn text(statuses: &[NodeResult]) -> String {
    let mut text = String::from("node\taddress\trole\tterm\tlog\tapplied\n");
    for (address, status) in statuses {
        text += &match status {
            Ok(status) => {
                let role = match (status.leads(), status.votes()) {
                    (true, _) => "leads",
                    (false, true) => "follows",
                    (false, false) if status.is_member() => "learns",
                    (false, false) => "no member",
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
