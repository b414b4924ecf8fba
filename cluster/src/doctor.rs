//! What is wrong with a cluster, why that matters, and what to do. Only looks.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use penholder_core::shell_path;
use serde::Serialize;

use crate::address::Address;
use crate::node_file::host_of;
use crate::status::NodeResult;
use crate::wire::NodeStatus;

/// How many entries a node may be behind, as it is under load.
const LAG: u64 = 1000;
/// How long a majority may be silent, in milliseconds: two heartbeats are lost then.
const SILENCE: u64 = 1500;

/// How bad a finding is, as in the doctor of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Ok,
    Warning,
    Error,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    pub(crate) finding: String,
    pub(crate) why: &'static str,
    pub(crate) next: Option<String>,
}

/// Examines a cluster by what its nodes say; the worst findings come first.
pub(crate) fn examine(address: &Address, nodes: &[NodeResult]) -> Vec<Finding> {
    let (members_of, former): (Vec<&NodeResult>, Vec<&NodeResult>) =
        nodes.iter().partition(|node| !was_removed(node, nodes));
    let nodes: Vec<NodeResult> = members_of.into_iter().cloned().collect();
    let known: Vec<&NodeStatus> = nodes.iter().flat_map(|(_, status)| status).collect();
    let mut findings = reachable(&nodes);
    findings.extend(removed(&former));
    findings.push(leader(&known));
    findings.push(majority(&known));
    findings.push(members(&nodes, &known));
    findings.push(lag(&known));
    findings.push(machines(&nodes));
    findings.extend(secrets(address));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Whether a node is no member, as the one that leads says. What a node itself believes says nothing: it is not told
/// that it was removed.
fn was_removed((address, status): &NodeResult, nodes: &[NodeResult]) -> bool {
    let mut answering = nodes.iter().flat_map(|(_, status)| status);
    let Some(leads) = answering.find(|status| status.leads()) else {
        return status.as_ref().is_ok_and(|status| !status.is_member());
    };
    match status {
        Ok(status) => leads.members.iter().all(|member| member.id != status.node),
        // Only an address can be compared, if all members have told theirs.
        Err(_) => leads.members.iter().all(|member| {
            member
                .client
                .as_ref()
                .is_some_and(|client| client != address)
        }),
    }
}

fn reachable(nodes: &[NodeResult]) -> Vec<Finding> {
    let missing = nodes.iter().filter(|(_, status)| status.is_err()).count();
    // Without a majority nothing works.
    let severity = match missing * 2 < nodes.len() {
        true => Severity::Warning,
        false => Severity::Error,
    };
    let of = |(node, status): &NodeResult| match status {
        Ok(_) => Finding {
            check: "node",
            severity: Severity::Ok,
            finding: format!("{node} answers"),
            why: "",
            next: None,
        },
        Err(why) => Finding {
            check: "node",
            severity,
            finding: format!("{node} does not answer: {why}"),
            why: "a cluster works as long as a majority of its nodes runs",
            next: Some(
                "start it with `penholder serve` on its machine, or look at what it says there"
                    .to_owned(),
            ),
        },
    };
    nodes.iter().map(of).collect()
}

/// Nodes that are no members, running or not.
fn removed(former: &[&NodeResult]) -> Option<Finding> {
    let names: Vec<&str> = former.iter().map(|(address, _)| address.as_str()).collect();
    (!names.is_empty()).then(|| Finding {
        check: "members",
        severity: Severity::Warning,
        finding: format!("no members, or not yet: {}", names.join(", ")),
        why: "a node that was removed gets nothing more, and answers stale reads with old rows",
        next: Some(
            "end those that were removed, and take them out of client.toml; one that is new becomes a member soon"
                .to_owned(),
        ),
    })
}

fn leader(known: &[&NodeStatus]) -> Finding {
    let leaders: BTreeSet<u64> = known.iter().filter_map(|status| status.leader).collect();
    let (severity, finding) = match leaders.first() {
        None => (Severity::Error, "no node leads".to_owned()),
        Some(leader) if leaders.len() == 1 => (Severity::Ok, format!("node {leader} leads")),
        Some(_) => (
            Severity::Warning,
            format!("the nodes name different leaders: {}", list(&leaders)),
        ),
    };
    Finding {
        check: "leader",
        severity,
        finding,
        why: "the node that leads takes all writes; an election takes some seconds",
        next: (severity > Severity::Ok).then(|| {
            "look again after some seconds; then start the nodes that do not run".to_owned()
        }),
    }
}

fn majority(known: &[&NodeStatus]) -> Finding {
    let leads = known.iter().find(|status| status.leads());
    let silence = leads.and_then(|status| status.since_majority);
    let (severity, finding) = match (leads, silence) {
        (None, _) => (Severity::Error, "no node that leads answers".to_owned()),
        (Some(_), Some(silence)) if silence > SILENCE => (
            Severity::Error,
            format!("the leader has not heard from a majority for {silence} ms"),
        ),
        _ => (Severity::Ok, "a majority answers the leader".to_owned()),
    };
    Finding {
        check: "majority",
        severity,
        finding,
        why: "a write is acknowledged when a majority has it on disk",
        next: (severity > Severity::Ok)
            .then(|| "start the other nodes, or mend the network between them".to_owned()),
    }
}

/// Whether those that vote are those that clients know.
fn members(nodes: &[NodeResult], known: &[&NodeStatus]) -> Finding {
    let leads = known.iter().find(|status| status.leads());
    let voters: BTreeSet<u64> = leads
        .iter()
        .flat_map(|status| &status.members)
        .filter(|member| member.is_voter)
        .map(|member| member.id)
        .collect();
    let answering: BTreeSet<u64> = known.iter().map(|status| status.node).collect();
    let unknown = voters.len() > nodes.len();
    let learning: BTreeSet<u64> = answering.difference(&voters).copied().collect();
    let (severity, finding, next) = match leads {
        None => (Severity::Warning, "who votes is not known".to_owned(), None),
        Some(_) if unknown => (
            Severity::Warning,
            format!(
                "{} nodes vote, and the address names {}",
                voters.len(),
                nodes.len()
            ),
            Some("copy the newest client.toml"),
        ),
        Some(_) if !learning.is_empty() => (
            Severity::Warning,
            format!("these run, and do not vote: {}", list(&learning)),
            Some("look again when they have caught up"),
        ),
        Some(_) if voters.len() < nodes.len() => (
            Severity::Warning,
            format!("only these nodes vote: {}", list(&voters)),
            Some(
                "start the others, if they are new: each becomes a member when it starts for the first time",
            ),
        ),
        Some(_) => (
            Severity::Ok,
            format!("these nodes vote: {}", list(&voters)),
            None,
        ),
    };
    Finding {
        check: "members",
        severity,
        finding,
        why: "how many nodes may be lost is decided by how many vote: one of 3, two of 5",
        next: next.map(str::to_owned),
    }
}

fn lag(known: &[&NodeStatus]) -> Finding {
    let last = known
        .iter()
        .filter_map(|status| status.last_log)
        .max()
        .unwrap_or(0);
    let behind =
        |status: &&&NodeStatus| last.saturating_sub(status.last_applied.unwrap_or(0)) > LAG;
    let late: BTreeSet<u64> = known
        .iter()
        .filter(behind)
        .map(|status| status.node)
        .collect();
    let severity = if late.is_empty() {
        Severity::Ok
    } else {
        Severity::Warning
    };
    let finding = match late.is_empty() {
        true => "all nodes that answer are up to date".to_owned(),
        false => format!("more than {LAG} entries behind: {}", list(&late)),
    };
    Finding {
        check: "lag",
        severity,
        finding,
        why: "a node that is behind answers stale reads with old rows, and cannot replace another at once",
        next: (severity > Severity::Ok)
            .then(|| "look again; if it stays behind, its disk or network is too slow".to_owned()),
    }
}

/// Whether the loss of one machine is survived.
fn machines(nodes: &[NodeResult]) -> Finding {
    let hosts: BTreeSet<&str> = nodes.iter().filter_map(|(node, _)| host_of(node)).collect();
    let is_one = nodes.len() > 1 && hosts.len() == 1;
    let is_own = hosts.first().is_some_and(|host| {
        *host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    });
    let (severity, finding) = match (is_one, is_own) {
        (true, true) => (
            Severity::Warning,
            "all nodes are on this machine".to_owned(),
        ),
        (true, false) => (Severity::Warning, "all nodes are on one machine".to_owned()),
        (false, _) => (
            Severity::Ok,
            format!("the nodes are on {} machines", hosts.len()),
        ),
    };
    Finding {
        check: "machines",
        severity,
        finding,
        why: "the loss of one machine ends all nodes on it",
        next: is_one.then(|| {
            "to try it out, this is right; otherwise give `cluster init` a --host for each node"
                .to_owned()
        }),
    }
}

/// Whether others can read the token.
fn secrets(address: &Address) -> Option<Finding> {
    let Address::ClientFile(path) = address else {
        return None;
    };
    let mode = fs::metadata(path).ok()?.mode() & 0o777;
    let is_open = mode & 0o077 != 0;
    Some(Finding {
        check: "secrets",
        severity: if is_open {
            Severity::Warning
        } else {
            Severity::Ok
        },
        finding: match is_open {
            true => format!("{} may be read by other users: mode {mode:o}", name(path)),
            false => format!("only its owner can read {}", name(path)),
        },
        why: "who has the token can read and write everything",
        next: is_open.then(|| format!("run `chmod 600 {}`", shell_path(path))),
    })
}

fn name(path: &Path) -> String {
    penholder_core::shown_name(path).to_string()
}

fn list(ids: &BTreeSet<u64>) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("node {id}")).collect();
    ids.join(", ")
}

/// The findings, for people.
pub(crate) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = finding.severity.name();
        text += &format!("{severity:8} {:9} {}\n", finding.check, finding.finding);
        if finding.severity > Severity::Ok {
            text += &format!("{:18} why: {}\n", "", finding.why);
            if let Some(next) = &finding.next {
                text += &format!("{:18} do: {next}\n", "");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Member;

    fn status(node: u64, leader: Option<u64>) -> NodeStatus {
        let member = |id| Member {
            id,
            is_voter: true,
            client: None,
        };
        NodeStatus {
            node,
            leader,
            term: 1,
            last_log: Some(10),
            last_applied: Some(10),
            members: (1..=3).map(member).collect(),
            since_majority: (leader == Some(node)).then_some(20),
        }
    }

    fn cluster(change: impl Fn(&mut [NodeResult])) -> Vec<Finding> {
        let node = |id| (format!("10.0.0.{id}:7000"), Ok(status(id, Some(1))));
        let mut nodes: Vec<NodeResult> = (1..=3).map(node).collect();
        change(&mut nodes);
        let address = Address::Hosts(Vec::new());
        let mut findings = examine(&address, &nodes);
        findings.retain(|finding| finding.severity > Severity::Ok);
        findings
    }

    fn found(findings: &[Finding]) -> Vec<(&str, Severity)> {
        let pair = |finding: &Finding| (finding.check, finding.severity);
        findings.iter().map(pair).collect()
    }

    #[test]
    fn each_fault_is_found_and_nothing_else() {
        use Severity::{Error, Warning};
        let down = || Err("refused".to_owned());
        assert_eq!(cluster(|_| {}), []);
        let one_down = cluster(|nodes| nodes[2].1 = down());
        assert_eq!(found(&one_down), [("node", Warning)]);
        let two_down = cluster(|nodes| {
            (nodes[1].1, nodes[2].1) = (down(), down());
            if let Ok(status) = &mut nodes[0].1 {
                status.since_majority = Some(60_000);
            }
        });
        let expected = [("node", Error), ("node", Error), ("majority", Error)];
        assert_eq!(found(&two_down), expected);
        let behind = cluster(|nodes| {
            if let Ok(status) = &mut nodes[0].1 {
                status.last_log = Some(10_000);
                status.last_applied = Some(10_000);
            }
        });
        assert_eq!(found(&behind), [("lag", Warning)]);
        let learning = cluster(|nodes| {
            if let Ok(status) = &mut nodes[0].1 {
                status.members[2].is_voter = false;
            }
        });
        assert_eq!(found(&learning), [("members", Warning)]);
        let removed = cluster(|nodes| {
            for status in nodes.iter_mut().flat_map(|node| &mut node.1) {
                status.members.truncate(2);
            }
            if let Ok(status) = &mut nodes[2].1 {
                status.leader = Some(3);
            }
        });
        assert_eq!(found(&removed), [("members", Warning)]);
        // Also if it is ended.
        let ended = cluster(|nodes| {
            for status in nodes.iter_mut().flat_map(|node| &mut node.1) {
                status.members.truncate(2);
                for member in &mut status.members {
                    member.client = Some(format!("10.0.0.{}:7000", member.id));
                }
            }
            nodes[2].1 = down();
        });
        assert_eq!(found(&ended), [("members", Warning)]);
        let one_machine = cluster(|nodes| {
            nodes
                .iter_mut()
                .for_each(|node| node.0 = "10.0.0.1:7000".to_owned());
        });
        assert_eq!(found(&one_machine), [("machines", Warning)]);
        let leaderless = cluster(|nodes| {
            for status in nodes.iter_mut().flat_map(|node| &mut node.1) {
                status.leader = None;
            }
        });
        let expected = [("leader", Error), ("majority", Error), ("members", Warning)];
        assert_eq!(found(&leaderless), expected);
        for finding in two_down
            .iter()
            .chain(&leaderless)
            .filter(|one| one.severity == Error)
        {
            assert!(finding.next.is_some(), "{finding:?}");
        }
    }
}
