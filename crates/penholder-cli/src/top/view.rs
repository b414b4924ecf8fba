//! What is on the screen, and how keys change it.

use std::time::{Duration, SystemTime};

use penholder::lock::{
    Holder, LockError, ProcessState, QueueFileState, SqliteHolder, Status, Waiter,
};
use penholder_core::shown_path;
use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::keys::Key;
use super::trend::Sample;
use super::watch::Watch;
use crate::summary::why_no_queue;
use crate::text;

/// The number of events to show.
const EVENTS: usize = 6;
const KEYS: &str = "q quit   p pause   up/down select   d details";

pub(crate) struct View {
    interval: Duration,
    has_colours: bool,
    is_paused: bool,
    shows_details: bool,
    /// The selected process. If there is none, or it is gone, the first one is selected.
    selected: Option<u32>,
    /// Why the last update failed.
    error: Option<String>,
}

/// A process that holds the lock or waits for it.
struct Entry {
    /// The place in the queue, or zero for the holder.
    place: usize,
    pid: Option<u32>,
    state: ProcessState,
    since: Option<SystemTime>,
    time: Option<Duration>,
    left: Option<Duration>,
    label: String,
    cmd: String,
    /// The statement that it runs, or ran last.
    statement: Option<String>,
}

impl View {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            is_paused: false,
            shows_details: false,
            selected: None,
            error: None,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Sets the error of the last update.
    pub(crate) fn set_error(&mut self, error: Option<LockError>) {
        self.error = error.map(|error| error.to_string());
    }

    /// Whether this key ends `top`. Escape closes the details first.
    pub(crate) fn ends_by(&self, key: Key) -> bool {
        match key {
            Key::Interrupt | Key::Letter('q') => true,
            Key::Escape => !self.shows_details,
            _ => false,
        }
    }

    pub(crate) fn press(&mut self, key: Key, watch: &Watch) {
        match key {
            Key::Letter('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Letter('d') | Key::Enter => {
                self.shows_details = !self.shows_details;
                // Keeps this process selected when others come and go.
                self.select(watch, |index| index);
            }
            Key::Escape => self.shows_details = false,
            Key::Up | Key::Letter('k') => self.select(watch, |index| index.saturating_sub(1)),
            Key::Down | Key::Letter('j') => self.select(watch, |index| index + 1),
            Key::Interrupt | Key::Letter(_) => {}
        }
    }

    fn select(&mut self, watch: &Watch, next: impl FnOnce(usize) -> usize) {
        let entries = entries(&watch.snapshot().status);
        let next = next(self.selected_index(&entries)).min(entries.len().saturating_sub(1));
        self.selected = entries.get(next).and_then(|entry| entry.pid);
    }

    fn selected_index(&self, entries: &[Entry]) -> usize {
        let index = entries.iter().position(|entry| self.is_selected(entry));
        index.unwrap_or(0)
    }

    fn is_selected(&self, entry: &Entry) -> bool {
        entry.pid.is_some() && entry.pid == self.selected
    }

    pub(crate) fn draw(&self, frame: &mut Frame<'_>, watch: &Watch) {
        let status = &watch.snapshot().status;
        let figures = watch.figures();
        let lines = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let [head, processes, trend, counted, events, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(4),
            Constraint::Length(lines(figures.len())),
            Constraint::Length(lines(1 + status.events.len().clamp(1, EVENTS))),
            Constraint::Length(if self.error.is_some() { 2 } else { 1 }),
        ])
        .areas(frame.area());
        self.draw_head(frame, head, watch);
        self.draw_processes(frame, processes, status);
        self.draw_trend(frame, trend, watch);
        frame.render_widget(Paragraph::new(figures.join("\n")), counted);
        self.draw_events(frame, events, status);
        frame.render_widget(self.foot(), foot);
        if self.shows_details {
            self.draw_details(frame, status);
        }
    }

    /// The keys, or why the last update failed.
    fn foot(&self) -> Paragraph<'_> {
        match &self.error {
            Some(error) => Paragraph::new(error.as_str())
                .wrap(Wrap { trim: true })
                .style(Style::new().add_modifier(Modifier::REVERSED)),
            None => Paragraph::new(KEYS).style(dim()),
        }
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
        let right = if self.is_paused {
            " PAUSED ".to_owned()
        } else {
            format!(" every {} ", text::duration(self.interval))
        };
        let width = u16::try_from(right.chars().count()).unwrap_or(u16::MAX);
        let [left, end] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
        let name = format!("penholder top  {}", shown_path(watch.database()));
        let bold = Style::new().add_modifier(Modifier::BOLD);
        frame.render_widget(Paragraph::new(name).style(bold), left);
        let alert = Style::new().add_modifier(Modifier::REVERSED);
        let style = if self.is_paused { alert } else { Style::new() };
        frame.render_widget(Paragraph::new(right).style(style), end);
    }

    fn draw_processes(&self, frame: &mut Frame<'_>, area: Rect, status: &Status) {
        let entries = entries(status);
        let title = title(status);
        let rows = entries.iter().map(|entry| self.row(entry));
        let widths = [
            Constraint::Length(3),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Fill(1),
            Constraint::Fill(3),
        ];
        let names = ["", "PID", "STATE", "TIME", "LEFT", "LABEL", "COMMAND"];
        let table = Table::new(rows, widths)
            .header(Row::new(names).style(dim()))
            .block(titled(&title))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let selected = Some(self.selected_index(&entries)).filter(|_| !entries.is_empty());
        let mut state = TableState::new().with_selected(selected);
        frame.render_stateful_widget(table, area, &mut state);
    }

    fn row(&self, entry: &Entry) -> Row<'static> {
        let time = |time: Option<Duration>| time.map(text::duration).unwrap_or_default();
        let pid = entry.pid.map(|pid| pid.to_string());
        let state = short(entry.state);
        let place = match entry.place {
            HOLDER => "pen".to_owned(),
            OUTSIDER => "out".to_owned(),
            place => place.to_string(),
        };
        let cells = [
            place,
            pid.unwrap_or_default(),
            state.to_owned(),
            time(entry.time),
            time(entry.left),
            entry.label.clone(),
            entry.cmd.clone(),
        ];
        let row = Row::new(cells);
        match entry.state {
            ProcessState::Stopped => row.style(self.coloured(Color::Red)),
            _ if entry.place == OUTSIDER => row.style(self.coloured(Color::Red)),
            _ if entry.place == HOLDER => row.style(self.coloured(Color::Green)),
            _ => row,
        }
    }

    fn draw_trend(&self, frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
        let halves = Layout::horizontal([Constraint::Fill(1); 2]).spacing(1);
        let [left, right] = halves.areas(area);
        let samples = |area: Rect| watch.trend().last(usize::from(area.width));
        let now = watch.trend().latest().copied().unwrap_or_default();
        let title = format!(
            "acquired {}/s, {} after a wait",
            now.acquired, now.contended
        );
        let acquired = samples(left).map(|sample| sample.acquired);
        frame.render_widget(self.sparkline(&title, Color::Green, acquired), left);
        let (p99, longest) = (text::duration(now.p99), text::duration(now.longest));
        let title = format!("longest wait {longest}, p99 {p99}");
        let waits = samples(right).map(Sample::longest_micros);
        frame.render_widget(self.sparkline(&title, Color::Yellow, waits), right);
    }

    fn sparkline(
        &self,
        title: &str,
        colour: Color,
        values: impl Iterator<Item = u64>,
    ) -> Sparkline<'static> {
        Sparkline::default()
            .block(titled(title))
            .style(self.coloured(colour))
            .data(values)
    }

    fn draw_events(&self, frame: &mut Frame<'_>, area: Rect, status: &Status) {
        let events = status.events.iter().take(usize::from(area.height));
        let lines: Vec<Line<'_>> = events.map(|event| Line::from(event.to_string())).collect();
        frame.render_widget(Paragraph::new(lines).block(titled("lately")), area);
    }

    /// Shows all that is known of the selected process.
    fn draw_details(&self, frame: &mut Frame<'_>, status: &Status) {
        let entries = entries(status);
        let shown = entries.iter().find(|entry| self.is_selected(entry));
        let lines = match (shown, self.selected) {
            (Some(entry), _) => entry.lines(),
            (None, Some(pid)) => vec![Line::from(format!(
                "pid:{pid} neither holds the lock nor waits for it now"
            ))],
            (None, None) => vec![Line::from("no process holds the lock or waits for it")],
        };
        let [middle] = Layout::vertical([Constraint::Max(12)])
            .flex(Flex::Center)
            .areas(frame.area());
        let block = Block::bordered().title(" process ");
        let text = Paragraph::new(lines)
            .wrap(Wrap { trim: false })
            .block(block);
        frame.render_widget(Clear, middle);
        frame.render_widget(text, middle);
    }

    fn coloured(&self, colour: Color) -> Style {
        if self.has_colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}

/// The place of the holder.
const HOLDER: usize = 0;
/// The place of a process that writes without the lock.
const OUTSIDER: usize = usize::MAX;

/// The process that writes without the lock, the holder, then the queue.
fn entries(status: &Status) -> Vec<Entry> {
    let waiters = status.queue.iter().enumerate();
    let waiters = waiters.map(|(place, waiter)| Entry::waiting(place + 1, waiter));
    let holder = status.holder.as_ref().map(Entry::holding);
    let outsider = status.outsider().map(Entry::outside);
    outsider.into_iter().chain(holder).chain(waiters).collect()
}

impl Entry {
    fn holding(holder: &Holder) -> Self {
        Self {
            place: HOLDER,
            pid: holder.pid,
            state: holder.state,
            since: holder.since,
            time: holder.held,
            left: None,
            label: holder.label.clone().unwrap_or_default(),
            cmd: holder.cmd.clone().unwrap_or_default(),
            statement: holder.statement.clone(),
        }
    }

    fn outside(found: &SqliteHolder) -> Self {
        Self {
            place: OUTSIDER,
            pid: Some(found.process.pid),
            state: found.process.state,
            since: None,
            time: None,
            left: None,
            label: String::new(),
            cmd: found.process.cmd.clone().unwrap_or_default(),
            statement: None,
        }
    }

    fn waiting(place: usize, waiter: &Waiter) -> Self {
        Self {
            place,
            pid: Some(waiter.pid),
            state: waiter.state,
            since: Some(waiter.since),
            time: Some(waiter.waited),
            left: waiter.left,
            label: waiter.label.clone().unwrap_or_default(),
            cmd: waiter.cmd.clone().unwrap_or_default(),
            statement: None,
        }
    }

    fn lines(&self) -> Vec<Line<'static>> {
        let does = match self.place {
            HOLDER => "holds the lock".to_owned(),
            OUTSIDER => "has SQLite's own lock, without the write lock".to_owned(),
            place => format!("is number {place} in the queue"),
        };
        let mut facts = vec![
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("does", Some(does)),
            ("state", Some(self.state.to_string())),
            ("since", self.since.map(text::timestamp)),
            ("for", self.time.map(text::duration)),
            ("left", self.left.map(text::duration)),
            ("label", Some(self.label.clone())),
            ("command", Some(self.cmd.clone())),
            ("last", self.statement.clone()),
        ];
        facts.retain(|(_, fact)| fact.as_ref().is_some_and(|fact| !fact.is_empty()));
        let line = |(name, fact): (&'static str, Option<String>)| {
            Line::from(vec![
                Span::raw(format!("{name:<8} ")),
                Span::raw(fact.unwrap_or_default()),
            ])
        };
        facts.into_iter().map(line).collect()
    }
}

/// The title of the table of processes.
fn title(status: &Status) -> String {
    let waiting = status.queue.len();
    match (&status.holder, status.queue_file) {
        (_, QueueFileState::None) => "no queue yet: free, or the holder does not queue".to_owned(),
        (None, QueueFileState::InUse) if status.outsider().is_some() => {
            format!("free, but a process writes without the lock (out), {waiting} waiting")
        }
        (None, QueueFileState::InUse) => format!("free, {waiting} waiting"),
        (Some(holder), QueueFileState::InUse) if !holder.queues => {
            format!("held by a process that does not queue, {waiting} waiting")
        }
        (Some(_), QueueFileState::InUse) if status.outsider().is_some() => {
            format!("held, {waiting} waiting, all for a process that writes without the lock (out)")
        }
        (Some(holder), QueueFileState::InUse) => match &holder.statement {
            Some(last) => format!("held, {waiting} waiting, last: {last}"),
            None => format!("held, {waiting} waiting"),
        },
        _ => format!("no queue: {}", why_no_queue(status).unwrap_or_default()),
    }
}

fn short(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Running => "running",
        ProcessState::Sleeping => "sleeping",
        ProcessState::Stopped => "STOPPED",
        ProcessState::Gone => "gone",
        ProcessState::OtherNamespace => "outside",
        _ => "unknown",
    }
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn titled(title: &str) -> Block<'static> {
    Block::new()
        .borders(Borders::TOP)
        .title(format!("{title} "))
}
