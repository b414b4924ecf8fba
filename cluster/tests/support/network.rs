//! A network for the nodes of a cluster: each has a network namespace of its own, and this process reaches
//! all by a bridge. Needs root.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use penholder_testkit::requirement;

/// No interface has it: what is sent there is lost without a word.
const NOBODY: &str = "02:00:00:00:00:00";
/// How many networks this process has made.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A network, which is removed at the end.
pub struct Network {
    /// What the names of its parts begin with.
    name: String,
    /// Its addresses, without the last number.
    subnet: String,
    nodes: usize,
}

impl Network {
    /// Makes one, or says why that cannot be done.
    pub fn new(nodes: usize) -> Option<Self> {
        if !requirement::is_root() {
            return None;
        }
        let (process, number) = (std::process::id(), NETWORKS.fetch_add(1, Ordering::SeqCst));
        // Of the range for benchmarks of networks.
        let place = (process + number * 64) % 512;
        let network = Self {
            name: format!("ph{process}{}", letter(number)),
            subnet: format!("198.{}.{}", 18 + place / 256, place % 256),
            nodes,
        };
        match network.make() {
            true => Some(network),
            false => {
                requirement::skip("network namespaces and bridges, which are not allowed here");
                None
            }
        }
    }

    /// Returns the address of a node.
    pub fn host(&self, id: usize) -> String {
        format!("{}.{id}", self.subnet)
    }

    /// Returns a command that runs a program where a node is.
    pub fn command(&self, id: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(id), program]);
        command
    }

    /// Loses everything between a node and some others, in both directions; the rest of the network goes on.
    pub fn separate(&self, id: usize, others: &[usize]) {
        for (at, from) in both_ways(id, others) {
            let host = self.host(from);
            let lost = ["lladdr", NOBODY, "nud", "permanent", "dev", "eth0"];
            self.inside(at, &[&["neigh", "replace", &host][..], &lost].concat());
        }
    }

    /// Ends what `separate` began.
    pub fn rejoin(&self, id: usize, others: &[usize]) {
        for (at, from) in both_ways(id, others) {
            self.inside(at, &["neigh", "del", &self.host(from), "dev", "eth0"]);
        }
    }

    /// Loses everything between a node and all others, also clients.
    pub fn unplug(&self, id: usize) {
        run(&["ip", "link", "set", &self.port(id), "down"]);
    }

    /// Ends what `unplug` began.
    pub fn plug(&self, id: usize) {
        run(&["ip", "link", "set", &self.port(id), "up"]);
    }

    /// Limits what a node sends and what it gets, as in `1mbit`.
    pub fn slow_down(&self, id: usize, rate: &str) {
        let limit = [
            "root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms",
        ];
        let (namespace, port) = (self.namespace(id), self.port(id));
        let inside = ["tc", "-n", &namespace, "qdisc", "replace", "dev", "eth0"];
        let outside = ["tc", "qdisc", "replace", "dev", &port];
        run(&[&inside[..], &limit].concat());
        run(&[&outside[..], &limit].concat());
    }

    /// Ends what `slow_down` began.
    pub fn speed_up(&self, id: usize) {
        let (namespace, port) = (self.namespace(id), self.port(id));
        run(&[
            "tc", "-n", &namespace, "qdisc", "del", "dev", "eth0", "root",
        ]);
        run(&["tc", "qdisc", "del", "dev", &port, "root"]);
    }

    fn make(&self) -> bool {
        let bridge = &self.name;
        let own = format!("{}.254/24", self.subnet);
        let begun = succeeds(&["ip", "link", "add", bridge, "type", "bridge"])
            && succeeds(&["ip", "addr", "add", &own, "dev", bridge])
            && succeeds(&["ip", "link", "set", bridge, "up"]);
        begun && (1..=self.nodes).all(|id| self.make_node(id))
    }

    fn make_node(&self, id: usize) -> bool {
        let (namespace, port) = (self.namespace(id), self.port(id));
        let address = format!("{}/24", self.host(id));
        let inside = ["ip", "-n", &namespace];
        succeeds(&["ip", "netns", "add", &namespace])
            && succeeds(&[
                "ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &namespace,
            ])
            && succeeds(&["ip", "link", "set", &port, "master", &self.name, "up"])
            && succeeds(&[&inside[..], &["addr", "add", &address, "dev", "eth0"]].concat())
            && succeeds(&[&inside[..], &["link", "set", "eth0", "up"]].concat())
            && succeeds(&[&inside[..], &["link", "set", "lo", "up"]].concat())
    }

    fn inside(&self, id: usize, words: &[&str]) {
        let namespace = self.namespace(id);
        run(&[&["ip", "-n", &namespace][..], words].concat());
    }

    fn namespace(&self, id: usize) -> String {
        format!("{}-{id}", self.name)
    }

    /// The end of a node's cable at the bridge.
    fn port(&self, id: usize) -> String {
        format!("{}.{id}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for id in 1..=self.nodes {
            succeeds(&["ip", "link", "del", &self.port(id)]);
            succeeds(&["ip", "netns", "del", &self.namespace(id)]);
        }
        succeeds(&["ip", "link", "del", &self.name]);
    }
}

fn both_ways(id: usize, others: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let pair = move |&other: &usize| [(id, other), (other, id)];
    others.iter().flat_map(pair)
}

/// Returns another letter for each network of this process.
fn letter(number: u32) -> char {
    char::from_digit(10 + number % 26, 36).unwrap()
}

#[track_caller]
fn run(words: &[&str]) {
    assert!(succeeds(words), "{words:?}");
}

fn succeeds(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
