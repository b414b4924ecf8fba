//! The order in which peers are measured in one round.

use std::error::Error;

/// Returns the indices of `count` peers; in reverse in every second round, so that
/// no peer always runs after the same one.
pub(crate) fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Measures each case as often as there are runs, in turns, and returns the results of
/// each case.
pub(crate) fn alternate<C, R>(
    cases: &[C],
    runs: usize,
    mut measure: impl FnMut(&C) -> Result<R, Box<dyn Error>>,
) -> Result<Vec<Vec<R>>, Box<dyn Error>> {
    let mut results: Vec<Vec<R>> = cases.iter().map(|_| Vec::new()).collect();
    for run in 0..runs {
        for number in order(cases.len(), run) {
            results[number].push(measure(&cases[number])?);
        }
    }
    Ok(results)
}
