//! Plots of the figures as SVG: the rate and the longest wait by the number of
//! processes, as grouped bars or as lines.

mod axis;

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::figures::Figures;
use crate::machine::Machine;
use crate::peer::Peer;
use crate::plan::Plan;
use crate::plot::axis::{Axis, Scale};
use crate::report;
use crate::synchronous::Synchronous;
use crate::workload::Workload;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 88.0;
const BOTTOM: f64 = 74.0;
/// The width of an entry of the legend, and the number of entries in a row.
const ENTRY_WIDTH: f64 = 170.0;
const ENTRIES: usize = 5;

/// The figure that a plot shows of each trial.
#[derive(Clone, Copy)]
struct Measure {
    file: &'static str,
    title: &'static str,
    scale: Scale,
    value: fn(&Figures) -> f64,
}

const MEASURES: [Measure; 2] = [
    Measure {
        file: "rate",
        title: "Transactions per second, all processes together (more is better)",
        scale: Scale::Count,
        value: |row| row.rate,
    },
    Measure {
        file: "longest",
        title: "Longest wait of one transaction, logarithmic scale (less is better)",
        scale: Scale::Time,
        value: |row| row.max_us,
    },
];

/// How a plot shows the trials.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// A group of bars for each number of processes.
    Bars,
    /// A line for each peer.
    Lines,
}

impl Shape {
    /// The beginning of the file names, after that for the workload: `rate-normal.svg`,
    /// `scale-rate-normal.svg`, `pages-scale-rate-normal.svg`.
    fn prefix(self) -> &'static str {
        match self {
            Self::Bars => "",
            Self::Lines => "scale-",
        }
    }
}

/// Writes the plots to a directory.
pub(crate) fn write(
    directory: &Path,
    shape: Shape,
    machine: &Machine,
    plan: &Plan,
    figures: &[Figures],
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    for sync in [Synchronous::Normal, Synchronous::Full] {
        let rows: Vec<&Figures> = figures.iter().filter(|row| row.sync == sync).collect();
        if rows.is_empty() {
            continue;
        }
        for measure in MEASURES {
            let mut plot = Plot::new(&rows, measure);
            plot.frame(sync, machine, plan);
            match shape {
                Shape::Bars => plot.bars(),
                Shape::Lines => plot.lines(),
            }
            let prefix = format!("{}{}", workload_prefix(plan.workload), shape.prefix());
            let name = format!("{prefix}{}-{sync}.svg", measure.file);
            fs::write(directory.join(name), plot.svg + "</svg>\n")?;
        }
    }
    Ok(())
}

/// The plots of the default workload have no prefix; those of others have its name.
fn workload_prefix(workload: Workload) -> String {
    match workload {
        Workload::Insert => String::new(),
        other => format!("{other}-"),
    }
}

struct Plot<'a> {
    rows: &'a [&'a Figures],
    measure: Measure,
    peers: Vec<Peer>,
    processes: Vec<u32>,
    axis: Axis,
    svg: String,
}

impl<'a> Plot<'a> {
    fn new(rows: &'a [&'a Figures], measure: Measure) -> Self {
        let mut peers = Vec::new();
        let mut processes = Vec::new();
        for row in rows {
            if !peers.contains(&row.peer) {
                peers.push(row.peer);
            }
            if !processes.contains(&row.processes) {
                processes.push(row.processes);
            }
        }
        let values: Vec<f64> = rows.iter().map(|row| (measure.value)(row)).collect();
        Self {
            rows,
            measure,
            peers,
            processes,
            axis: Axis::over(measure.scale, &values),
            svg: head(),
        }
    }

    /// Draws everything but the figures themselves.
    fn frame(&mut self, sync: Synchronous, machine: &Machine, plan: &Plan) {
        let title = format!("{}, synchronous={sync}", self.measure.title);
        self.text(LEFT, 24.0, "title", &title);
        self.text(
            WIDTH / 2.0,
            HEIGHT - 40.0,
            "middle",
            "processes that write at the same time",
        );
        let method = format!("{}; {}", machine.software, report::method(plan));
        self.text(LEFT, HEIGHT - 21.0, "foot", &machine.hardware);
        self.text(LEFT, HEIGHT - 8.0, "foot", &method);
        self.legend();
        for (value, label) in self.axis.ticks() {
            let y = self.y(value);
            let right = WIDTH - RIGHT;
            self.shape(format_args!(
                r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}"/>"#
            ));
            self.text(LEFT - 8.0, y + 4.0, "end", &label);
        }
        for group in 0..self.processes.len() {
            let processes = self.processes[group].to_string();
            let x = self.middle(group);
            self.text(x, HEIGHT - BOTTOM + 17.0, "middle", &processes);
        }
    }

    fn legend(&mut self) {
        for (number, peer) in self.peers.clone().into_iter().enumerate() {
            let x = LEFT + ENTRY_WIDTH * float(number % ENTRIES);
            let y = 38.0 + 18.0 * float(number / ENTRIES);
            let colour = colour(peer);
            self.shape(format_args!(
                r#"<rect x="{x}" y="{y}" width="12" height="12" rx="2" fill="{colour}"/>"#
            ));
            self.text(x + 18.0, y + 10.5, "entry", &peer.to_string());
        }
    }

    fn bars(&mut self) {
        let width = (self.group() * 0.86 / float(self.peers.len())).min(44.0);
        let total = width * float(self.peers.len());
        for row in self.rows {
            let (Some(group), Some(position)) = (self.group_of(row), self.position_of(row)) else {
                continue;
            };
            let x = self.middle(group) - total / 2.0 + width * float(position);
            let value = (self.measure.value)(row);
            let y = self.y(value);
            let (height, inner) = ((HEIGHT - BOTTOM - y).max(1.0), (width - 2.0).max(1.0));
            let colour = colour(row.peer);
            let tooltip = self.tooltip(row);
            self.shape(format_args!(
                r#"<rect x="{x:.1}" y="{y:.1}" width="{inner:.1}" height="{height:.1}" rx="1.5" fill="{colour}"><title>{tooltip}</title></rect>"#
            ));
            let (x, y) = (x + width / 2.0 + 2.0, y - 5.0);
            let label = self.axis.label(value);
            self.shape(format_args!(
                r#"<text class="value" transform="translate({x:.1} {y:.1}) rotate(-90)">{label}</text>"#
            ));
        }
    }

    fn lines(&mut self) {
        for peer in self.peers.clone() {
            let mut points = Vec::new();
            for row in self.rows.iter().filter(|row| row.peer == peer) {
                let group = self.group_of(row).unwrap_or(0);
                let y = self.y((self.measure.value)(row));
                points.push((self.middle(group), y, self.tooltip(row)));
            }
            self.line(colour(peer), &points);
        }
    }

    fn line(&mut self, colour: &str, points: &[(f64, f64, String)]) {
        let path: Vec<String> = points
            .iter()
            .map(|(x, y, _)| format!("{x:.1},{y:.1}"))
            .collect();
        let path = path.join(" ");
        self.shape(format_args!(
            r#"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5" stroke-linejoin="round"/>"#
        ));
        for (x, y, tooltip) in points {
            self.shape(format_args!(
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"><title>{tooltip}</title></circle>"#
            ));
        }
    }

    /// The text that a browser shows for the element under the pointer.
    fn tooltip(&self, row: &Figures) -> String {
        let value = self.axis.label((self.measure.value)(row));
        format!("{}, {} processes: {value}", row.peer, row.processes)
    }

    fn group_of(&self, row: &Figures) -> Option<usize> {
        self.processes.iter().position(|n| *n == row.processes)
    }

    /// The position of a bar in its group.
    fn position_of(&self, row: &Figures) -> Option<usize> {
        self.peers.iter().position(|peer| *peer == row.peer)
    }

    /// The width of a group of bars.
    fn group(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / float(self.processes.len())
    }

    fn middle(&self, group: usize) -> f64 {
        LEFT + self.group() * (float(group) + 0.5)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.axis.position(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.shape(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#
        ));
    }

    fn shape(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing into a String does not fail.
        let _ = writeln!(self.svg, "{shape}");
    }
}

fn head() -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, 'DejaVu Sans', sans-serif">
<style>
text {{ font-size: 12px; fill: #333 }}
.title {{ font-size: 15px; font-weight: 600; fill: #111 }}
.middle {{ text-anchor: middle }}
.end {{ text-anchor: end }}
.foot {{ font-size: 10px; fill: #777 }}
.value {{ font-size: 10px; fill: #555 }}
.grid {{ stroke: #e3e3e3 }}
</style>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
"##
    )
}

/// penholder has strong colours, SQLite blues, and the other peers greys and browns.
fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Penholder => "#d9480f",
        Peer::PenholderFifo => "#f7a072",
        Peer::PenholderAlone => "#b5651d",
        Peer::PenholderThreads => "#8c2f00",
        Peer::SqliteBusy => "#1c5d99",
        Peer::SqliteBusyPrepared => "#4c8dc9",
        Peer::SqliteAutocommit => "#8fbce6",
        Peer::SqliteBusy1ms => "#2a9d8f",
        Peer::FlockBlocking => "#8a8d91",
        Peer::PythonSqlite3 => "#c9a227",
        Peer::Naive => "#3b3b3b",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few dozen elements in a plot")]
fn float(number: usize) -> f64 {
    number as f64
}
