//! Records what a thread tells `tracing` and `metrics`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

/// The events, spans and metrics of a piece of work.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    lines: Arc<Mutex<String>>,
    numbers: Arc<Mutex<BTreeMap<String, u64>>>,
    spans: Arc<AtomicU64>,
}

impl Recorder {
    /// Runs `work` and records what this thread reports meanwhile.
    pub fn record(work: impl FnOnce()) -> Self {
        let recorder = Self::default();
        metrics::with_local_recorder(&recorder, || {
            tracing::subscriber::with_default(recorder.clone(), work);
        });
        recorder
    }

    /// Returns all events and spans, one a line.
    pub fn text(&self) -> String {
        self.lines.lock().unwrap().clone()
    }

    /// Returns the value of a counter, or how many values a histogram got.
    pub fn number(&self, name: &str) -> u64 {
        let numbers = self.numbers.lock().unwrap();
        numbers.get(name).copied().unwrap_or(0)
    }

    fn push_line(&self, mut line: String, record: impl FnOnce(&mut Line<'_>)) {
        record(&mut Line(&mut line));
        let mut lines = self.lines.lock().unwrap();
        writeln!(lines, "{line}").unwrap();
    }
}

/// Writes the fields of an event to a line.
struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // The message comes first, so that a space separates every other field.
        match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        }
        .unwrap();
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "penholder"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let name = span.metadata().name();
        self.push_line(format!("span {name}"), |line| span.record(line));
        Id::from_u64(self.spans.fetch_add(1, Relaxed) + 1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = event.metadata().level();
        self.push_line(format!("{level} "), |line| event.record(line));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// A counter or a histogram of a recorder.
struct Number {
    name: String,
    recorder: Recorder,
}

impl Number {
    fn new(key: &Key, recorder: &Recorder) -> Arc<Self> {
        Arc::new(Self {
            name: key.name().to_owned(),
            recorder: recorder.clone(),
        })
    }

    fn add(&self, value: u64) {
        let mut numbers = self.recorder.numbers.lock().unwrap();
        *numbers.entry(self.name.clone()).or_default() += value;
    }
}

impl CounterFn for Number {
    fn increment(&self, value: u64) {
        self.add(value);
    }

    fn absolute(&self, _value: u64) {}
}

impl HistogramFn for Number {
    fn record(&self, _value: f64) {
        self.add(1);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _name: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn describe_gauge(&self, _name: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn describe_histogram(&self, _name: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(Number::new(key, self))
    }

    fn register_gauge(&self, _key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Number::new(key, self))
    }
}
