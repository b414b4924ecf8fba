//! What is on the screen, and how keys change it.

use std::time::Duration;

use penholder::lock::{LockError, ProcessState};
use penholder_core::one_line;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table, TableState};
use unicode_width::UnicodeWidthStr;

use super::chart::{Chart, Measure};
use super::content::Content;
use super::entry::{Entry, Place};
use super::keys::Key;
use super::layout::{Heights, Wanted, visible};
use super::question::{Question, Sent};
use super::wrap::{end_of, start_of, wrap};
use super::{help, popup};
use crate::sys::sent_signal::SentSignal;
use crate::text;

/// The keys, the most important first.
const KEYS: [&str; 8] = [
    "q quit",
    "? help",
    "up/down select",
    "d details",
    "t TERM",
    "c CONT",
    "K KILL",
    "p pause",
];
/// A narrower window has no columns, and the command of the first process on another line.
const COLUMNS_FROM: u16 = 44;
/// A narrower window has one chart or none.
const TWO_CHARTS_FROM: u16 = 60;
const CHART_FROM: u16 = 30;
/// A message has at most this many lines.
const MESSAGE_LINES: usize = 3;

pub(crate) struct View {
    interval: Duration,
    has_colours: bool,
    is_paused: bool,
    over: Over,
    /// The selected process. If there is none, the first one is selected.
    selected: Option<Entry>,
    /// Why the last update failed.
    error: Option<String>,
    notice: Option<Notice>,
}

/// What is over the processes.
enum Over {
    Nothing,
    Details,
    /// The help, from this page on.
    Help(usize),
    Question {
        question: Question,
        /// Whether all of it is on the screen.
        is_shown: bool,
        /// Whether the details are shown again after it.
        is_over_details: bool,
    },
}

/// What a key has led to.
enum Notice {
    Refused(String),
    Sent(Sent),
}

impl View {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            is_paused: false,
            over: Over::Nothing,
            selected: None,
            error: None,
            notice: None,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.over, Over::Question { .. })
    }

    /// Takes the result of an update.
    pub(crate) fn update(&mut self, content: &Content, error: Option<LockError>) {
        self.error = error.map(|error| one_line(error.to_string().replace('\n', ";")).to_string());
        let has_ended = |selected: &Entry| {
            let state = selected.identity.map(|identity| identity.state());
            content.find(selected).is_none()
                && state.is_none_or(|state| state == ProcessState::Gone)
        };
        if matches!(self.over, Over::Nothing) && self.selected.as_ref().is_some_and(has_ended) {
            self.selected = None;
        }
    }

    /// Whether this key ends `top`. What is over the processes is closed first.
    pub(crate) fn ends_by(&self, key: Key) -> bool {
        matches!(
            (key, &self.over),
            (Key::Interrupt, _)
                | (Key::Letter('q'), Over::Nothing | Over::Details)
                | (Key::Escape, Over::Nothing)
        )
    }

    /// Acts on a key. `is_alone` says that no other key came with it.
    pub(crate) fn press(&mut self, key: Key, is_alone: bool, content: &Content) {
        self.notice = None;
        match std::mem::replace(&mut self.over, Over::Nothing) {
            // Closed by most keys; the pages are counted when it is drawn.
            Over::Help(page) if key != Key::Escape => self.over = Over::Help(page + 1),
            Over::Help(_) => {}
            Over::Question {
                question,
                is_shown,
                is_over_details,
            } => {
                if is_over_details {
                    self.over = Over::Details;
                }
                self.answer(&question, key == Key::Letter('y') && is_alone, is_shown);
            }
            over => {
                self.over = over;
                self.press_on_processes(key, content);
            }
        }
    }

    fn answer(&mut self, question: &Question, is_yes: bool, is_shown: bool) {
        self.notice = Some(if !is_yes {
            Notice::Refused("nothing was sent".to_owned())
        } else if !is_shown {
            let why = "nothing was sent: the window is too small for the question";
            Notice::Refused(why.to_owned())
        } else {
            match question.send() {
                Ok(sent) => Notice::Sent(sent),
                Err(why) => Notice::Refused(why),
            }
        });
    }

    fn press_on_processes(&mut self, key: Key, content: &Content) {
        match key {
            Key::Letter('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Letter('d') | Key::Enter => {
                self.over = match self.over {
                    Over::Details => Over::Nothing,
                    _ => Over::Details,
                };
                // Keeps this process selected when others come and go.
                self.keep_selected(content);
            }
            Key::Escape => self.over = Over::Nothing,
            Key::Up | Key::Letter('k') => self.select(content, |index| index.saturating_sub(1)),
            Key::Down | Key::Letter('j') => self.select(content, |index| index + 1),
            Key::Letter('?' | 'h') | Key::Function(1) => self.over = Over::Help(0),
            Key::Letter('t') | Key::Function(9) => self.ask(SentSignal::Term, content),
            Key::Letter('c') => self.ask(SentSignal::Cont, content),
            Key::Letter('K') => self.ask(SentSignal::Kill, content),
            Key::Interrupt | Key::Letter(_) | Key::Function(_) => {}
        }
    }

    fn ask(&mut self, signal: SentSignal, content: &Content) {
        self.keep_selected(content);
        let Some(selected) = &self.selected else {
            let why = "nothing is sent: no process is selected";
            self.notice = Some(Notice::Refused(why.to_owned()));
            return;
        };
        let does = content.find(selected).map(Entry::does);
        let does = does.unwrap_or_else(|| "neither holds the lock nor waits now".to_owned());
        match Question::new(signal, selected, does) {
            Ok(question) => {
                let is_over_details = matches!(self.over, Over::Details);
                self.over = Over::Question {
                    question,
                    is_shown: false,
                    is_over_details,
                };
            }
            Err(why) => self.notice = Some(Notice::Refused(why)),
        }
    }

    fn keep_selected(&mut self, content: &Content) {
        let first = || content.entries.first().cloned();
        self.selected = self.selected.take().or_else(first);
    }

    fn select(&mut self, content: &Content, next: impl FnOnce(usize) -> usize) {
        let entries = &content.entries;
        let next = match self.selected_index(entries) {
            Some(index) => next(index).min(entries.len().saturating_sub(1)),
            None => 0,
        };
        self.selected = entries.get(next).cloned();
    }

    /// The place of the selected process, if it is shown.
    fn selected_index(&self, entries: &[Entry]) -> Option<usize> {
        match &self.selected {
            Some(selected) => entries.iter().position(|one| one.is_same_process(selected)),
            None if entries.is_empty() => None,
            None => Some(0),
        }
    }

    pub(crate) fn draw(&mut self, frame: &mut Frame<'_>, content: &Content) {
        let area = frame.area();
        if area.is_empty() {
            return;
        }
        let messages = self.messages(content, area.width);
        let heights = Heights::of(wanted(content, messages.len(), area.width), area.height);
        let parts = [
            heights.head,
            heights.title,
            heights.names + heights.processes,
            heights.chart,
            heights.figures,
            heights.events,
            heights.messages,
            heights.keys,
        ];
        let parts = Layout::vertical(parts.map(Constraint::Length)).areas(area);
        let [head, title, processes, chart, figures, events, foot, keys] = parts;
        self.draw_head(frame, head, content);
        self.draw_title(frame, title, content, heights.head == 0);
        self.draw_processes(frame, processes, content, heights);
        self.draw_charts(frame, chart, content);
        frame.render_widget(Paragraph::new(shortened(&content.figures, area)), figures);
        draw_events(frame, events, content);
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        let messages: Vec<Line<'_>> = messages.into_iter().map(Line::raw).collect();
        frame.render_widget(Paragraph::new(messages).style(reversed), foot);
        frame.render_widget(Paragraph::new(key_names(area.width)).style(dim()), keys);
        self.draw_over(frame, content);
    }

    /// The result of the last key, why the last update failed, and why there is no queue.
    fn messages(&self, content: &Content, width: u16) -> Vec<String> {
        let notice = self.notice.as_ref().map(|notice| match notice {
            Notice::Refused(why) => why.clone(),
            Notice::Sent(sent) => sent.text(),
        });
        let all = [notice, self.error.clone(), content.fault.clone()];
        let lines = all.into_iter().flatten().flat_map(|message| {
            let lines = wrap(&message, usize::from(width), 0).into_iter();
            lines.take(MESSAGE_LINES)
        });
        lines.collect()
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect, content: &Content) {
        let right = if self.is_paused {
            " PAUSED ".to_owned()
        } else {
            format!(" every {} ", text::age(self.interval))
        };
        let width = u16::try_from(right.width()).unwrap_or(u16::MAX);
        let [left, end] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
        let name = format!("penholder top  {}", content.database);
        let room = usize::from(left.width);
        // The end of a path says most.
        let name = if name.width() > room {
            end_of(&content.database, room)
        } else {
            name
        };
        let bold = Style::new().add_modifier(Modifier::BOLD);
        frame.render_widget(Paragraph::new(name).style(bold), left);
        let alert = Style::new().add_modifier(Modifier::REVERSED);
        let style = if self.is_paused { alert } else { Style::new() };
        frame.render_widget(Paragraph::new(right).style(style), end);
    }

    fn draw_title(&self, frame: &mut Frame<'_>, area: Rect, content: &Content, says_pause: bool) {
        let pause = if says_pause && self.is_paused {
            "PAUSED, "
        } else {
            ""
        };
        let title = format!("{pause}{}", content.title);
        let room = usize::from(area.width.saturating_sub(1));
        frame.render_widget(titled(&start_of(&title, room)), area);
    }

    fn draw_processes(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        content: &Content,
        heights: Heights,
    ) {
        let entries = &content.entries;
        let selected = self.selected_index(entries);
        let in_way = entries.iter().filter(|entry| !entry.is_waiting()).count();
        let used = heights.names + u16::from(heights.has_command);
        let lines = usize::from(area.height.saturating_sub(used));
        let shown = visible(in_way, entries.len() - in_way, lines, selected);
        let place = |index: usize| shown.iter().position(|&one| one == index);
        let selected = selected.and_then(place);
        let shown: Vec<&Entry> = shown.iter().map(|&index| &entries[index]).collect();
        if area.width < COLUMNS_FROM {
            self.draw_lines(frame, area, &shown, selected, heights.has_command);
            return;
        }
        let with_left = area.width >= 56;
        let with_label = area.width >= 72;
        let rows = shown
            .iter()
            .map(|entry| self.row(entry, with_left, with_label));
        let mut widths = vec![Constraint::Length(3)];
        widths.extend([Constraint::Length(8); 3]);
        let mut names = vec!["", "PID", "STATE", "TIME"];
        if with_left {
            widths.push(Constraint::Length(8));
            names.push("LEFT");
        }
        if with_label {
            widths.push(Constraint::Fill(1));
            names.push("LABEL");
        }
        widths.push(Constraint::Fill(3));
        names.push("COMMAND");
        let mut table = Table::new(rows, widths)
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        if heights.names > 0 {
            table = table.header(Row::new(names).style(dim()));
        }
        let mut state = TableState::new().with_selected(selected);
        frame.render_stateful_widget(table, area, &mut state);
    }

    fn row(&self, entry: &Entry, with_left: bool, with_label: bool) -> Row<'static> {
        let age = |time: Option<Duration>| time.map(text::age).unwrap_or_default();
        let pid = entry.pid.map(|pid| pid.to_string());
        let mut cells = vec![
            entry.place_name(),
            pid.unwrap_or_default(),
            entry.state_name().to_owned(),
            age(entry.time),
        ];
        cells.extend(with_left.then(|| age(entry.left)));
        cells.extend(with_label.then(|| entry.label.clone()));
        cells.push(entry.cmd.clone());
        Row::new(cells).style(self.style_of(entry))
    }

    /// Draws the processes without columns.
    fn draw_lines(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        shown: &[&Entry],
        selected: Option<usize>,
        has_command: bool,
    ) {
        let mut lines = Vec::new();
        for (index, entry) in shown.iter().enumerate() {
            let mut style = self.style_of(entry);
            if selected == Some(index) {
                style = style.add_modifier(Modifier::REVERSED);
            }
            lines.push(Line::styled(line_of(entry), style));
            if index == 0 && has_command {
                lines.push(Line::styled(
                    format!("  {}", entry.cmd),
                    self.style_of(entry),
                ));
            }
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn style_of(&self, entry: &Entry) -> Style {
        match (entry.state, entry.place) {
            (ProcessState::Stopped, _) | (_, Place::Outside) => self.coloured(Color::Red),
            (_, Place::Holding) => self.coloured(Color::Green),
            _ => Style::new(),
        }
    }

    fn draw_charts(&self, frame: &mut Frame<'_>, area: Rect, content: &Content) {
        if area.is_empty() {
            return;
        }
        let chart = |measure, colour| Chart {
            measure,
            style: self.coloured(colour),
            trend: &content.trend,
            interval: self.interval,
        };
        let waits = chart(Measure::LongestWait, Color::Yellow);
        if area.width < TWO_CHARTS_FROM {
            waits.draw(frame, area);
            return;
        }
        let halves = Layout::horizontal([Constraint::Fill(1); 2]).spacing(1);
        let [left, right] = halves.areas(area);
        chart(Measure::Acquired, Color::Green).draw(frame, left);
        waits.draw(frame, right);
    }

    fn draw_over(&mut self, frame: &mut Frame<'_>, content: &Content) {
        let room = popup::room(frame.area());
        match &mut self.over {
            Over::Nothing => {}
            Over::Details => {
                let lines = details(self.selected.as_ref(), content, usize::from(room.width));
                popup::draw(frame, "process", &lines);
            }
            Over::Help(page) => {
                let pages = help::pages(room);
                let Some(lines) = pages.get(*page) else {
                    self.over = Over::Nothing;
                    return;
                };
                let title = match pages.len() {
                    1 => "help: any key closes it".to_owned(),
                    count => format!("help {} of {count}: any key, Esc closes", *page + 1),
                };
                popup::draw(frame, &title, lines);
            }
            Over::Question {
                question, is_shown, ..
            } => {
                let lines = question.lines(room);
                *is_shown = lines.is_some();
                let width = usize::from(room.width).max(2);
                let lines = lines.unwrap_or_else(|| wrap("too small to ask: any key", width, 0));
                popup::draw(frame, "signal", &lines);
            }
        }
    }

    fn coloured(&self, colour: Color) -> Style {
        if self.has_colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}

fn wanted(content: &Content, messages: usize, width: u16) -> Wanted {
    let lines = |count: usize| {
        u16::try_from(count)
            .unwrap_or(u16::MAX / 4)
            .min(u16::MAX / 4)
    };
    let in_way = content.entries.iter().filter(|entry| !entry.is_waiting());
    let in_way = in_way.count();
    let has_columns = width >= COLUMNS_FROM;
    let first = content.entries.first();
    let first = first.filter(|entry| !entry.is_waiting());
    let is_cut = |entry: &Entry| line_of(entry).width() > usize::from(width);
    Wanted {
        in_way: lines(in_way),
        command: u16::from(!has_columns && first.is_some_and(is_cut)),
        waiting: lines(content.entries.len() - in_way),
        names: u16::from(has_columns),
        messages: lines(messages),
        figures: lines(content.figures.len()),
        has_chart: width >= CHART_FROM,
        events: lines(content.events.len()),
    }
}

/// A process without columns. Its state is shown only if it is unusual.
fn line_of(entry: &Entry) -> String {
    let pid = entry.pid.map(|pid| pid.to_string());
    let state = match entry.state {
        ProcessState::Running | ProcessState::Sleeping | ProcessState::Unknown => "",
        _ => entry.state_name(),
    };
    let age = entry.time.map(text::age).unwrap_or_default();
    let place = format!("{:<3}", entry.place_name());
    let words = [place, pid.unwrap_or_default(), age.replace(' ', "")];
    let more = [state.to_owned(), entry.cmd.clone()];
    let mut words: Vec<String> = words.into_iter().chain(more).collect();
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

fn shortened(lines: &[String], area: Rect) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let lines = lines.iter().map(|line| Line::raw(start_of(line, width)));
    lines.collect()
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, content: &Content) {
    if area.is_empty() {
        return;
    }
    let count = usize::from(area.height - 1);
    let events = &content.events[..content.events.len().min(count)];
    let lines = Paragraph::new(shortened(events, area));
    frame.render_widget(lines.block(titled("lately")), area);
}

/// All that is known of the selected process.
fn details(selected: Option<&Entry>, content: &Content, width: usize) -> Vec<String> {
    let shown = selected.and_then(|selected| content.find(selected));
    let width = width.max(2);
    match (shown, selected.and_then(|selected| selected.pid)) {
        (Some(entry), _) => {
            let facts = entry.facts().into_iter();
            let lines = facts.flat_map(|(name, fact)| wrap(&format!("{name:<8} {fact}"), width, 9));
            lines.collect()
        }
        (None, Some(pid)) => {
            let text = format!("pid:{pid} neither holds the lock nor waits for it now");
            wrap(&text, width, 0)
        }
        (None, None) => wrap("no process holds the lock or waits for it", width, 0),
    }
}

/// As many keys as there is room for.
fn key_names(width: u16) -> String {
    let mut line = String::new();
    for key in KEYS {
        let space = if line.is_empty() { "" } else { "  " };
        if line.len() + space.len() + key.len() > usize::from(width) {
            break;
        }
        line.push_str(space);
        line.push_str(key);
    }
    line
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn titled(title: &str) -> Block<'static> {
    Block::new()
        .borders(Borders::TOP)
        .title(format!("{title} "))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Cell;

    use super::*;

    fn entry(place: Place, pid: u32) -> Entry {
        Entry {
            place,
            pid: Some(pid),
            identity: None,
            state: ProcessState::Sleeping,
            since: None,
            time: Some(Duration::from_secs(3)),
            left: None,
            label: "nightly".to_owned(),
            cmd: "sync --all --of-the-tables".to_owned(),
            database: None,
            statement: None,
        }
    }

    fn content() -> Content {
        let mut entries = vec![entry(Place::Holding, 4242)];
        let waiting = (1..10)
            .zip(5001..)
            .map(|(place, pid)| entry(Place::Waiting(place), pid));
        entries.extend(waiting);
        Content {
            database: "/srv/app/app.db".to_owned(),
            title: "held, 9 waiting".to_owned(),
            entries,
            figures: vec!["figures".to_owned(); 4],
            events: vec!["event".to_owned(); 9],
            ..Content::default()
        }
    }

    fn draw(view: &mut View, content: &Content, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame, content)).unwrap();
        let cells = terminal.backend().buffer().content();
        let rows = cells.chunks(usize::from(width)).map(|row| {
            let row: String = row.iter().map(Cell::symbol).collect();
            row + "\n"
        });
        rows.collect()
    }

    #[test]
    fn every_size_is_drawn_and_holder_and_first_waiter_stay() {
        for (content, is_full) in [(content(), true), (Content::default(), false)] {
            for over in [Key::Escape, Key::Letter('d'), Key::Letter('?')] {
                for width in 1..=120 {
                    for height in 1..=50 {
                        // All small sizes, and a sample of the others.
                        let is_plain = over == Key::Escape && is_full;
                        let sample = if is_plain { 11 } else { 31 };
                        if !(is_plain && height <= 8) && (width * 7 + height) % sample != 0 {
                            continue;
                        }
                        let mut view = View::new(Duration::from_secs(1));
                        view.press(over, true, &content);
                        let screen = draw(&mut view, &content, (width, height));
                        if is_plain && width >= 12 && height >= 2 {
                            let shown = screen.contains("4242") && screen.contains("5001");
                            assert!(shown, "{width}x{height}:\n{screen}");
                        }
                        if is_plain && width >= 20 && height >= 5 {
                            let shown = screen.contains("sync --all") && screen.contains("q quit");
                            assert!(shown, "{width}x{height}:\n{screen}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn figures_charts_and_events_go_before_the_queue() {
        let mut view = View::new(Duration::from_secs(1));
        let content = content();
        let large = draw(&mut view, &content, (80, 40));
        for part in [
            "figures",
            "longest wait",
            "now",
            "lately",
            "every 1.0 s",
            "5009",
        ] {
            assert!(large.contains(part), "{part}:\n{large}");
        }
        let small = draw(&mut view, &content, (80, 7));
        for part in ["figures", "longest wait", "lately"] {
            assert!(!small.contains(part), "{part}:\n{small}");
        }
        assert!(small.contains("5003"), "{small}");
    }

    #[test]
    fn a_process_that_cannot_be_identified_gets_no_question() {
        let mut view = View::new(Duration::from_secs(1));
        view.press(Key::Letter('K'), true, &content());
        assert!(!view.is_asking());
        let screen = draw(&mut view, &content(), (80, 24));
        assert!(screen.contains("nothing is sent: "), "{screen}");
    }
}
