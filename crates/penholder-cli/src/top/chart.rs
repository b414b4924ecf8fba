//! A chart of what happened lately: bars on a scale that begins at zero, and an axis of time.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Paragraph, Sparkline};

use super::trend::{Sample, Trend};
use crate::text;

/// What the bars measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Acquired,
    LongestWait,
}

/// A chart of the latest samples, the newest at its right end.
pub(crate) struct Chart<'a> {
    pub(crate) measure: Measure,
    pub(crate) style: Style,
    pub(crate) trend: &'a Trend,
    pub(crate) interval: Duration,
}

impl Measure {
    fn value(self, sample: &Sample) -> u64 {
        match self {
            Self::Acquired => sample.acquired,
            Self::LongestWait => sample.longest_micros(),
        }
    }

    fn title(self, now: &Sample) -> String {
        match self {
            Self::Acquired => {
                format!(
                    "acquired {}/s, {} after a wait",
                    now.acquired, now.contended
                )
            }
            Self::LongestWait => {
                let (p99, longest) = (text::duration(now.p99), text::duration(now.longest));
                format!("longest wait {longest}, p99 {p99}")
            }
        }
    }

    /// The name of a round number on the scale.
    fn label(self, number: u64) -> String {
        match (self, number) {
            (Self::Acquired, 0..10_000) => format!("{number}/s"),
            (Self::Acquired, 10_000..1_000_000) => format!("{}k/s", number / 1000),
            (Self::Acquired, 1_000_000..1_000_000_000) => format!("{}M/s", number / 1_000_000),
            (Self::Acquired, _) => format!("{:.0e}/s", number as f64),
            (Self::LongestWait, 0..1000) => format!("{number} µs"),
            (Self::LongestWait, 1000..1_000_000) => format!("{} ms", number / 1000),
            (Self::LongestWait, _) => {
                text::age(Duration::from_micros(number)).replace(".0 s", " s")
            }
        }
    }
}

impl Chart<'_> {
    pub(crate) fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let [title, bars, time] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        let now = self.trend.latest().copied().unwrap_or_default();
        let block = Block::new().borders(Borders::TOP);
        let block = block.title(format!("{} ", self.measure.title(&now)));
        frame.render_widget(block, title);
        // The scale takes as much as it needs, but the number of bars decides what it is.
        let most = self.top(usize::from(area.width));
        let width = label_width(&self.measure.label(most));
        let [scale, bars] =
            Layout::horizontal([Constraint::Length(width), Constraint::Fill(1)]).areas(bars);
        let count = usize::from(bars.width);
        let most = self.top(count);
        self.draw_scale(frame, scale, most);
        self.draw_bars(frame, bars, most);
        let time = Rect {
            x: bars.x,
            width: bars.width,
            ..time
        };
        self.draw_time(frame, time, count);
    }

    /// The end of the scale for this many samples.
    fn top(&self, count: usize) -> u64 {
        let values = self.trend.last(count);
        let values = values.map(|sample| self.measure.value(sample));
        round_up(values.max().unwrap_or(0))
    }

    fn draw_scale(&self, frame: &mut Frame<'_>, area: Rect, most: u64) {
        let rows = usize::from(area.height);
        let mut lines = vec![Line::default(); rows];
        if let Some(last) = lines.last_mut() {
            *last = Line::from("0 ");
        }
        if rows > 1 {
            lines[0] = Line::from(format!("{} ", self.measure.label(most)));
        }
        let lines: Vec<Line<'_>> = lines.into_iter().map(Line::right_aligned).collect();
        frame.render_widget(Paragraph::new(lines).style(dim()), area);
    }

    fn draw_bars(&self, frame: &mut Frame<'_>, area: Rect, most: u64) {
        let count = usize::from(area.width);
        let values = self.trend.last(count);
        // Not zero, however small it is: an eighth of a line.
        let least = most.div_ceil(8 * u64::from(area.height.max(1)));
        let values = values.map(|sample| match self.measure.value(sample) {
            0 => Some(0),
            value => Some(value.max(least)),
        });
        let values: Vec<Option<u64>> = values.collect();
        let missing = std::iter::repeat_n(None, count - values.len());
        let bars = Sparkline::default()
            .style(self.style)
            .max(most)
            .data(missing.chain(values));
        frame.render_widget(bars, area);
    }

    fn draw_time(&self, frame: &mut Frame<'_>, area: Rect, count: usize) {
        let samples = self.trend.last(count);
        let known: Duration = samples.map(|sample| sample.elapsed).sum();
        let missing = count - self.trend.last(count).count();
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let time = known.saturating_add(self.interval.saturating_mul(missing));
        let start = format!("{} ago", coarse(time));
        let width = usize::from(area.width);
        let line = match width.checked_sub(start.len() + "now".len()) {
            Some(space @ 1..) => format!("{start}{}now", " ".repeat(space)),
            _ => start,
        };
        frame.render_widget(Paragraph::new(line).style(dim()), area);
    }
}

/// The smallest of 1, 2, 5, 10, 20, 50, … that is not less.
fn round_up(value: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for factor in [1, 2, 5] {
            match unit.checked_mul(factor) {
                Some(round) if round >= value => return round,
                Some(_) => {}
                None => return value,
            }
        }
        match unit.checked_mul(10) {
            Some(next) => unit = next,
            None => return value,
        }
    }
}

/// A length of time that need not be exact.
fn coarse(time: Duration) -> String {
    match time.as_secs() {
        0..10 => text::age(time),
        10..100 => format!("{} s", time.as_secs()),
        _ => text::age(time),
    }
}

fn label_width(label: &str) -> u16 {
    u16::try_from(label.chars().count() + 1).unwrap_or(u16::MAX)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Cell;

    use super::*;

    fn draw(measure: Measure, samples: &[(u64, Duration)], width: u16) -> Vec<String> {
        let mut trend = Trend::default();
        for &(acquired, longest) in samples {
            trend.add(Sample {
                acquired,
                longest,
                elapsed: Duration::from_secs(2),
                ..Sample::default()
            });
        }
        let chart = Chart {
            measure,
            style: Style::new(),
            trend: &trend,
            interval: Duration::from_secs(2),
        };
        let mut terminal = Terminal::new(TestBackend::new(width, 5)).unwrap();
        terminal
            .draw(|frame| chart.draw(frame, frame.area()))
            .unwrap();
        let cells = terminal.backend().buffer().content();
        cells
            .chunks(usize::from(width))
            .map(|row| row.iter().map(Cell::symbol).collect())
            .collect()
    }

    #[test]
    fn the_scale_begins_at_zero_and_names_its_end_and_its_time() {
        let samples = [0, 30, 15, 1].map(|rate| (rate, Duration::from_millis(rate * 7)));
        let lines = draw(Measure::Acquired, &samples, 30);
        assert_eq!(
            lines[1..],
            [
                "50/s                          ",
                "                           ▆  ",
                "   0                       █▇▁",
                "     50 s ago              now",
            ]
        );
        let lines = draw(Measure::LongestWait, &samples, 30);
        assert!(lines[1].starts_with("500 ms "), "{lines:?}");
        assert!(lines[3].starts_with("     0 "), "{lines:?}");
        assert!(lines[4].ends_with("now"), "{lines:?}");
    }

    #[test]
    fn a_chart_without_samples_has_a_scale_too() {
        let lines = draw(Measure::LongestWait, &[], 30);
        assert!(lines[1].starts_with("1 µs "), "{lines:?}");
        assert!(lines[4].contains("50 s ago"), "{lines:?}");
    }

    #[test]
    fn any_number_has_a_scale_and_any_size_is_drawn() {
        let numbers = [0, 1, 2, 3, 5, 6, 99, 1_000_001, u64::MAX / 2, u64::MAX];
        let rounded = [1, 1, 2, 5, 5, 10, 100, 2_000_000];
        for (number, rounded) in numbers.into_iter().zip(rounded) {
            assert_eq!(round_up(number), rounded);
        }
        for number in numbers {
            assert!(round_up(number) >= number);
            for measure in [Measure::Acquired, Measure::LongestWait] {
                let samples = [(number, Duration::from_micros(number))];
                for width in 1..40 {
                    draw(measure, &samples, width);
                }
                let label = measure.label(round_up(number));
                assert!(number > 1_000_000_000 || label.len() <= 7, "{label}");
            }
        }
        assert_eq!(Measure::LongestWait.label(2_000_000), "2 s");
        assert_eq!(Measure::LongestWait.label(20_000), "20 ms");
        assert_eq!(Measure::Acquired.label(20_000), "20k/s");
    }
}
