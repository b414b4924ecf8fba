//! How many lines each part of the screen has: in a small window the less important parts go.

/// Up to this many events are shown.
const EVENTS: u16 = 6;
/// The title, three lines of bars, the axis of time.
const CHART: u16 = 5;

/// What there is to show, in lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    /// Processes in the way: the holder, and a process that writes without the lock.
    pub(crate) in_way: u16,
    /// Another line for the command of the first of them, which is too long for its row.
    pub(crate) command: u16,
    pub(crate) waiting: u16,
    /// The names of the columns.
    pub(crate) names: u16,
    /// Results and errors.
    pub(crate) messages: u16,
    pub(crate) figures: u16,
    pub(crate) has_chart: bool,
    pub(crate) events: u16,
}

/// The lines of each part, from the top of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Heights {
    pub(crate) head: u16,
    pub(crate) title: u16,
    pub(crate) names: u16,
    /// The processes, with the line of the command and empty ones at the end.
    pub(crate) processes: u16,
    /// Whether the first process has another line for its command.
    pub(crate) has_command: bool,
    pub(crate) chart: u16,
    pub(crate) figures: u16,
    pub(crate) events: u16,
    pub(crate) messages: u16,
    pub(crate) keys: u16,
}

impl Heights {
    /// Gives `height` lines to the parts, the most important first.
    pub(crate) fn of(wanted: Wanted, height: u16) -> Self {
        let mut lines = Self::default();
        let mut left = Left(height);
        // A process is in the way, with its command, and the first one waits for it.
        let first = left.take((wanted.in_way + wanted.waiting).min(1));
        if first == 0 {
            lines.title = left.take(1);
        }
        lines.messages = left.take(wanted.messages);
        let mut in_way = first.min(wanted.in_way);
        let mut waiting = first - in_way;
        in_way += left.take(wanted.in_way - in_way);
        waiting += left.take(wanted.waiting.min(1) - waiting);
        lines.title += left.take(1 - lines.title);
        let command = left.take(wanted.command);
        lines.keys = left.take(1);
        let mut more = |left: &mut Left, most: u16| {
            waiting += left.take(wanted.waiting.min(most).saturating_sub(waiting));
        };
        more(&mut left, 3);
        lines.head = left.take(1);
        lines.names = left.take(wanted.names);
        lines.figures = left.take(wanted.figures);
        more(&mut left, 5);
        lines.chart = left.take_all(if wanted.has_chart { CHART } else { 0 });
        if wanted.events > 0 && (lines.chart > 0 || !wanted.has_chart) {
            lines.events = left.take_all(2);
        }
        let mut add_events = |left: &mut Left, most: u16| {
            if lines.events > 0 {
                let most = 1 + wanted.events.min(most);
                lines.events += left.take(most.saturating_sub(lines.events));
            }
        };
        add_events(&mut left, EVENTS / 2);
        more(&mut left, u16::MAX);
        add_events(&mut left, EVENTS);
        lines.has_command = command > 0;
        lines.processes = in_way + waiting + command + left.take(u16::MAX);
        lines
    }
}

/// The lines that no part has yet.
struct Left(u16);

impl Left {
    /// As many of these as there are.
    fn take(&mut self, wanted: u16) -> u16 {
        let taken = wanted.min(self.0);
        self.0 -= taken;
        taken
    }

    /// All of these or none.
    fn take_all(&mut self, wanted: u16) -> u16 {
        if wanted > self.0 {
            0
        } else {
            self.take(wanted)
        }
    }
}

/// Which of the processes are shown in this many lines: those in the way, and of those that wait
/// the first ones up to the selected one, or the last ones before it.
pub(crate) fn visible(
    in_way: usize,
    waiting: usize,
    lines: usize,
    selected: Option<usize>,
) -> Vec<usize> {
    let count = in_way + waiting;
    let selected = selected.filter(|&index| index < count).unwrap_or(0);
    if lines == 0 || count == 0 {
        return Vec::new();
    }
    // The last line is for a process that waits.
    let kept = in_way.min(lines - usize::from(waiting > 0 && lines > 1));
    if kept == lines {
        let first = (selected + 1).saturating_sub(lines);
        return (first..count).take(lines).collect();
    }
    let rest = lines - kept;
    let first = in_way.max((selected + 1).saturating_sub(rest));
    let shown = (first..count).take(rest);
    let mut kept: Vec<usize> = (0..kept).collect();
    if selected < in_way && !kept.contains(&selected) {
        kept.pop();
        kept.push(selected);
    }
    kept.into_iter().chain(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wanted = Wanted {
        in_way: 1,
        command: 0,
        waiting: 30,
        names: 1,
        messages: 0,
        figures: 5,
        has_chart: true,
        events: 20,
    };

    fn sum(lines: Heights) -> u16 {
        let parts = [lines.head, lines.title, lines.names, lines.processes];
        let others = [lines.chart, lines.figures, lines.events];
        let end = [lines.messages, lines.keys];
        parts.iter().chain(&others).chain(&end).sum()
    }

    #[test]
    fn every_line_of_the_screen_is_of_one_part() {
        for height in 0..200 {
            for waiting in [0, 1, 2, 6, 300] {
                for (in_way, command) in [(0, 0), (1, 0), (1, 1), (2, 1)] {
                    for (messages, figures) in [(0, 0), (1, 3), (3, 5)] {
                        let wanted = Wanted {
                            in_way,
                            command,
                            waiting,
                            messages,
                            figures,
                            ..ALL
                        };
                        let lines = Heights::of(wanted, height);
                        assert_eq!(sum(lines), height, "{wanted:?} {lines:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn less_important_parts_go_first() {
        let of = |height| Heights::of(ALL, height);
        assert_eq!((of(1).processes, sum(of(1))), (1, 1));
        assert_eq!(of(2).processes, 2);
        assert_eq!((of(3).processes, of(3).title, of(3).keys), (2, 1, 0));
        assert_eq!((of(4).processes, of(4).title, of(4).keys), (2, 1, 1));
        let parts = |height| {
            let lines = of(height);
            (lines.figures > 0, lines.chart > 0, lines.events > 0)
        };
        let mut before = parts(0);
        let mut order = vec![before];
        for height in 1..60 {
            let now = parts(height);
            if now != before {
                order.push(now);
                before = now;
            }
        }
        let expected = [
            (false, false, false),
            (true, false, false),
            (true, true, false),
            (true, true, true),
        ];
        assert_eq!(order, expected);
        assert!(of(24).processes >= 6, "{:?}", of(24));
    }

    #[test]
    fn a_message_is_shown_from_the_second_line_on() {
        let wanted = Wanted { messages: 1, ..ALL };
        assert_eq!(Heights::of(wanted, 1).processes, 1);
        assert_eq!(Heights::of(wanted, 2).messages, 1);
    }

    #[test]
    fn those_in_the_way_and_the_selected_one_stay_visible() {
        assert_eq!(visible(1, 5, 3, None), [0, 1, 2]);
        assert_eq!(visible(1, 5, 3, Some(5)), [0, 4, 5]);
        assert_eq!(visible(1, 5, 1, Some(0)), [0]);
        assert_eq!(visible(1, 5, 1, Some(3)), [3]);
        assert_eq!(visible(2, 5, 2, None), [0, 2]);
        assert_eq!(visible(2, 5, 2, Some(1)), [1, 2]);
        assert_eq!(visible(2, 0, 1, Some(1)), [1]);
        assert_eq!(visible(0, 0, 9, None), [] as [usize; 0]);
        for in_way in 0..3 {
            for waiting in 0..9 {
                for lines in 1..12 {
                    for selected in 0..in_way + waiting {
                        let shown = visible(in_way, waiting, lines, Some(selected));
                        assert!(
                            shown.contains(&selected),
                            "{in_way} {waiting} {lines} {selected}"
                        );
                        assert!(shown.is_sorted() && shown.len() <= lines);
                        assert!(shown.len() == lines.min(in_way + waiting));
                    }
                }
            }
        }
    }
}
