//! What stands on the screen, and what the keys change of it.

use std::time::{Duration, SystemTime};

use penholder::lock::{Holder, LockError, PageState, ProcessState, Status, Waiter};
use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::keys::Key;
use super::trend::Sample;
use super::watch::Watch;
use crate::output;

/// So many lines of events, if there are so many.
const EVENTS: usize = 6;
const KEYS: &str = "q quit   p pause   up/down select   d detail";

pub(crate) struct View {
    interval: Duration,
    has_colours: bool,
    is_paused: bool,
    shows_detail: bool,
    /// The process that is selected; the first one if it is gone, or none was.
    selected: Option<u32>,
    /// Why the last look failed.
    trouble: Option<String>,
}

/// A process that holds or waits, as a row shows it.
struct Entry {
    /// `pen` for the holder, the place in line of the others.
    place: String,
    pid: Option<u32>,
    state: ProcessState,
    since: Option<SystemTime>,
    time: Option<Duration>,
    left: Option<Duration>,
    label: String,
    cmd: String,
    /// What it runs, or ran last.
    statement: Option<String>,
}

impl View {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            is_paused: false,
            shows_detail: false,
            selected: None,
            trouble: None,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// What became of the last look.
    pub(crate) fn tell(&mut self, trouble: Option<LockError>) {
        self.trouble = trouble.map(|error| error.to_string());
    }

    /// Whether this key ends it. Escape closes the detail first.
    pub(crate) fn is_end(&self, key: Key) -> bool {
        match key {
            Key::Interrupt | Key::Letter('q') => true,
            Key::Escape => !self.shows_detail,
            _ => false,
        }
    }

    pub(crate) fn press(&mut self, key: Key, watch: &Watch) {
        match key {
            Key::Letter('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Letter('d') | Key::Enter => {
                self.shows_detail = !self.shows_detail;
                // It stays the one shown when others come and go.
                self.select(watch, |place| place);
            }
            Key::Escape => self.shows_detail = false,
            Key::Up | Key::Letter('k') => self.select(watch, |place| place.saturating_sub(1)),
            Key::Down | Key::Letter('j') => self.select(watch, |place| place + 1),
            Key::Interrupt | Key::Letter(_) => {}
        }
    }

    fn select(&mut self, watch: &Watch, next: impl FnOnce(usize) -> usize) {
        let entries = entries(&watch.glance().status);
        let next = next(self.place(&entries)).min(entries.len().saturating_sub(1));
        self.selected = entries.get(next).and_then(|entry| entry.pid);
    }

    /// Where the selected process stands.
    fn place(&self, entries: &[Entry]) -> usize {
        let place = entries.iter().position(|entry| self.is_selected(entry));
        place.unwrap_or(0)
    }

    fn is_selected(&self, entry: &Entry) -> bool {
        entry.pid.is_some() && entry.pid == self.selected
    }

    pub(crate) fn draw(&self, frame: &mut Frame<'_>, watch: &Watch) {
        let status = &watch.glance().status;
        let figures = watch.figures();
        let lines = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let [head, people, busy, counted, events, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(4),
            Constraint::Length(lines(figures.len())),
            Constraint::Length(lines(1 + status.events.len().clamp(1, EVENTS))),
            Constraint::Length(if self.trouble.is_some() { 2 } else { 1 }),
        ])
        .areas(frame.area());
        self.draw_head(frame, head, watch);
        self.draw_people(frame, people, status);
        self.draw_trend(frame, busy, watch);
        frame.render_widget(Paragraph::new(figures.join("\n")), counted);
        self.draw_events(frame, events, status);
        frame.render_widget(self.foot(), keys);
        if self.shows_detail {
            self.draw_detail(frame, status);
        }
    }

    /// What the keys do, or why the last look failed.
    fn foot(&self) -> Paragraph<'_> {
        match &self.trouble {
            Some(trouble) => Paragraph::new(trouble.as_str())
                .wrap(Wrap { trim: true })
                .style(Style::new().add_modifier(Modifier::REVERSED)),
            None => Paragraph::new(KEYS).style(dim()),
        }
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
        let right = if self.is_paused {
            " PAUSED ".to_owned()
        } else {
            format!(" every {} ", output::duration(self.interval))
        };
        let width = u16::try_from(right.chars().count()).unwrap_or(u16::MAX);
        let [left, end] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(width)]).areas(area);
        let name = format!("penholder top  {}", watch.database().display());
        let bold = Style::new().add_modifier(Modifier::BOLD);
        frame.render_widget(Paragraph::new(name).style(bold), left);
        let alert = Style::new().add_modifier(Modifier::REVERSED);
        let style = if self.is_paused { alert } else { Style::new() };
        frame.render_widget(Paragraph::new(right).style(style), end);
    }

    fn draw_people(&self, frame: &mut Frame<'_>, area: Rect, status: &Status) {
        let entries = entries(status);
        let title = match (&status.holder, status.page) {
            (_, PageState::None) => {
                "free, or held by one who does not queue: no queue yet".to_owned()
            }
            (None, PageState::InUse) => format!("free, {} in line", status.queue.len()),
            (Some(holder), PageState::InUse) => {
                let last = holder.statement.as_ref();
                let last = last.map(|last| format!(", last: {last}"));
                let waiting = status.queue.len();
                format!("held, {waiting} in line{}", last.unwrap_or_default())
            }
            _ => "what stands in the queue's place is none, or may not be read".to_owned(),
        };
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
        let selected = Some(self.place(&entries)).filter(|_| !entries.is_empty());
        let mut state = TableState::new().with_selected(selected);
        frame.render_stateful_widget(table, area, &mut state);
    }

    fn row(&self, entry: &Entry) -> Row<'static> {
        let time = |time: Option<Duration>| time.map(output::duration).unwrap_or_default();
        let pid = entry.pid.map(|pid| pid.to_string());
        let state = short(entry.state);
        let cells = [
            entry.place.clone(),
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
            _ if entry.place == PEN => row.style(self.coloured(Color::Green)),
            _ => row,
        }
    }

    fn draw_trend(&self, frame: &mut Frame<'_>, area: Rect, watch: &Watch) {
        let halves = Layout::horizontal([Constraint::Fill(1); 2]).spacing(1);
        let [left, right] = halves.areas(area);
        let samples = |area: Rect| watch.trend().last(usize::from(area.width));
        let now = watch.trend().latest().copied().unwrap_or_default();
        let title = format!("taken {}/s, {} waited for", now.taken, now.waited);
        let taken = samples(left).map(|sample| sample.taken);
        frame.render_widget(self.line(&title, Color::Green, taken), left);
        let (p99, longest) = (output::duration(now.p99), output::duration(now.longest));
        let title = format!("longest wait {longest}, p99 {p99}");
        let waits = samples(right).map(Sample::longest_micros);
        frame.render_widget(self.line(&title, Color::Yellow, waits), right);
    }

    fn line(
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

    /// All that is known of the selected process.
    fn draw_detail(&self, frame: &mut Frame<'_>, status: &Status) {
        let entries = entries(status);
        let shown = entries.iter().find(|entry| self.is_selected(entry));
        let lines = match (shown, self.selected) {
            (Some(entry), _) => entry.lines(),
            (None, Some(pid)) => vec![Line::from(format!(
                "pid:{pid} neither holds the lock nor waits for it now"
            ))],
            (None, None) => vec![Line::from("nobody holds the lock or waits for it")],
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

/// What stands in the place of the holder.
const PEN: &str = "pen";

/// The holder, then the line.
fn entries(status: &Status) -> Vec<Entry> {
    let waiters = status.queue.iter().enumerate();
    let waiters = waiters.map(|(place, waiter)| Entry::waiting(place + 1, waiter));
    let holder = status.holder.as_ref().map(Entry::holding);
    holder.into_iter().chain(waiters).collect()
}

impl Entry {
    fn holding(holder: &Holder) -> Self {
        Self {
            place: PEN.to_owned(),
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

    fn waiting(place: usize, waiter: &Waiter) -> Self {
        Self {
            place: place.to_string(),
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
        let does = match &*self.place {
            PEN => "holds the lock".to_owned(),
            place => format!("is number {place} in line"),
        };
        let mut facts = vec![
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("does", Some(does)),
            ("state", Some(self.state.to_string())),
            ("since", self.since.map(output::timestamp)),
            ("for", self.time.map(output::duration)),
            ("left", self.left.map(output::duration)),
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
