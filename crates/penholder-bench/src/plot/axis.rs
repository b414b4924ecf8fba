//! The vertical axis of a plot: the position of a value, and the labelled ticks.

use crate::text;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Linear, from zero.
    Count,
    /// Logarithmic, in microseconds.
    Time,
}

#[derive(Debug)]
pub(crate) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Creates an axis that fits these values, with room for a label above the largest.
    pub(crate) fn over(scale: Scale, values: &[f64]) -> Self {
        let largest = values.iter().copied().fold(1.0, f64::max);
        let least = values.iter().copied().filter(|value| *value > 0.0);
        let least = least.fold(largest, f64::min);
        match scale {
            Scale::Count => {
                let step = round_step(largest / 5.0);
                let high = step * (largest * 1.1 / step).ceil();
                Self {
                    scale,
                    low: 0.0,
                    high,
                    step,
                }
            }
            Scale::Time => Self {
                scale,
                low: 10_f64.powf((least * 0.9).log10().floor()),
                high: 10_f64.powf((largest * 2.5).log10().ceil()),
                step: 10.0,
            },
        }
    }

    /// The height of a value, from 0 to 1.
    pub(crate) fn position(&self, value: f64) -> f64 {
        let position = match self.scale {
            Scale::Count => value / self.high,
            Scale::Time => (value / self.low).log10() / (self.high / self.low).log10(),
        };
        position.clamp(0.0, 1.0)
    }

    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = Vec::new();
        let mut value = self.low;
        while value <= self.high * 1.001 {
            ticks.push((value, self.label(value)));
            value = match self.scale {
                Scale::Count => value + self.step,
                Scale::Time => value * self.step,
            };
        }
        ticks
    }

    pub(crate) fn label(&self, value: f64) -> String {
        match self.scale {
            Scale::Time => text::time(value),
            Scale::Count if value >= 9_950.0 => format!("{:.0}k", value / 1e3),
            Scale::Count if value >= 1_000.0 => format!("{:.1}k", value / 1e3),
            Scale::Count => format!("{value:.0}"),
        }
    }
}

/// Returns the smallest of 1, 2, 5 or 10 times a power of ten that is at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    steps
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        let axis = Axis::over(Scale::Count, &[85_000.0, 500.0]);
        let labels: Vec<String> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0", "20k", "40k", "60k", "80k", "100k"]);
        let axis = Axis::over(Scale::Time, &[300.0, 1_500_000.0]);
        let labels: Vec<String> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["100us", "1.0ms", "10ms", "100ms", "1.0s", "10s"]);
        assert!(axis.position(100.0) < 0.001 && axis.position(10_000_000.0) > 0.999);
    }
}
