//! The nodes that a client knows: those of its address, and those of which it has learned.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::silence::Silence;

/// The nodes that a client knows. Each has a place, which stays the same.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    inner: Mutex<Inner>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct KnownNode {
    pub(crate) address: String,
    /// Whether it answers.
    pub(crate) silence: Silence,
}

#[derive(Debug, Default)]
struct Inner {
    known: Vec<Arc<KnownNode>>,
    /// Which place each node has, by what the nodes said.
    places: HashMap<u64, usize>,
}

impl Nodes {
    /// Begins with those of an address; there is one at least.
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        let nodes = Self::default();
        for address in addresses {
            nodes.inner().add(address);
        }
        nodes
    }

    pub(crate) fn len(&self) -> usize {
        self.inner().known.len()
    }

    pub(crate) fn all(&self) -> Vec<Arc<KnownNode>> {
        self.inner().known.clone()
    }

    /// Returns the node at a place.
    pub(crate) fn at(&self, place: usize) -> Arc<KnownNode> {
        Arc::clone(&self.inner().known[place])
    }

    /// Returns the place after one in turn, past the nodes that are silent. If all are, it is the next one.
    pub(crate) fn after(&self, place: usize) -> usize {
        let all = self.all();
        let mut others = (1..=all.len()).map(|step| (place + step) % all.len());
        let found = others.find(|&other| all[other].silence.may_ask());
        found.unwrap_or((place + 1) % all.len())
    }

    /// Notes which node answers at a place.
    pub(crate) fn note(&self, node: u64, place: usize) {
        self.inner().places.insert(node, place);
    }

    /// Returns the place of a node. One that has not said its number yet is guessed: `init` lists them in
    /// order.
    pub(crate) fn place_of(&self, node: u64) -> Option<usize> {
        let inner = self.inner();
        if let Some(&place) = inner.places.get(&node) {
            return Some(place);
        }
        let guess = usize::try_from(node).ok()?.checked_sub(1)?;
        let is_of_another = inner.places.values().any(|&place| place == guess);
        (guess < inner.known.len() && !is_of_another).then_some(guess)
    }

    /// Adds a node of which another one has told, unless it is known. A client may reach the nodes that it
    /// knows by other addresses than those which the nodes tell.
    pub(crate) fn learn(&self, node: u64, address: &str) {
        if self.place_of(node).is_some() {
            return;
        }
        let mut inner = self.inner();
        let place = inner.add(address.to_owned());
        inner.places.insert(node, place);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, address: String) -> usize {
        let silence = Silence::default();
        self.known.push(Arc::new(KnownNode { address, silence }));
        self.known.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Nodes {
        Nodes::new(["a", "b", "c"].map(str::to_owned).to_vec())
    }

    #[test]
    fn a_node_is_found_by_what_it_said_and_otherwise_by_its_number() {
        let nodes = three();
        assert_eq!(nodes.place_of(2), Some(1));
        nodes.note(7, 1);
        assert_eq!((nodes.place_of(7), nodes.place_of(2)), (Some(1), None));
        assert_eq!(
            (nodes.place_of(3), nodes.place_of(0), nodes.place_of(4)),
            (Some(2), None, None)
        );
    }

    #[test]
    fn only_a_node_that_is_not_known_is_added() {
        let nodes = three();
        nodes.learn(2, "elsewhere");
        assert_eq!(nodes.len(), 3);
        nodes.learn(4, "d");
        nodes.learn(4, "e");
        assert_eq!((nodes.len(), nodes.place_of(4)), (4, Some(3)));
        assert_eq!(nodes.at(3).address, "d");
    }

    #[test]
    fn silent_nodes_are_passed_over() {
        let nodes = three();
        nodes.at(1).silence.begin();
        assert_eq!((nodes.after(0), nodes.after(2)), (2, 0));
        for place in [0, 2] {
            nodes.at(place).silence.begin();
        }
        assert_eq!(nodes.after(0), 1);
    }
}
