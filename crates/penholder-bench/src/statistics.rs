//! Statistics that several benchmarks need.

/// The median; of an even number of values, the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2);
    let lower = values.get(values.len().saturating_sub(1) / 2);
    f64::midpoint(*upper.unwrap_or(&f64::NAN), *lower.unwrap_or(&f64::NAN))
}

/// Jain's fairness index, (Σx)² / (n Σx²): 1 if all values are equal, 1/n if only
/// one is not zero.
#[expect(clippy::cast_precision_loss, reason = "a few hundred values")]
pub(crate) fn jain(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (values.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jains_index_is_one_if_all_values_are_equal() {
        assert!((jain(&[3.0, 3.0, 3.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
        assert!((jain(&[0.0, 0.0]) - 1.0).abs() < 1e-9);
    }
}
