//! The order in which peers are measured in one round.

/// Returns the indices of `count` peers; in reverse in every second round, so that
/// no peer always runs after the same one.
pub(crate) fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}
