//! Listens to what a thread does: to `tracing` and to `metrics`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

/// What was heard.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    lines: Arc<Mutex<String>>,
    numbers: Arc<Mutex<BTreeMap<String, u64>>>,
    spans: Arc<AtomicU64>,
}

impl Heard {
    /// What this thread tells meanwhile.
    pub(crate) fn during(work: impl FnOnce()) -> Self {
        let heard = Self::default();
        metrics::with_local_recorder(&heard, || {
            tracing::subscriber::with_default(heard.clone(), work);
        });
        heard
    }

    /// All lines.
    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().clone()
    }

    /// What a counter counted, or how many values a histogram has.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let numbers = self.numbers.lock().unwrap();
        numbers.get(name).copied().unwrap_or(0)
    }

    fn line(&self, mut line: String, record: impl FnOnce(&mut Line<'_>)) {
        record(&mut Line(&mut line));
        let mut lines = self.lines.lock().unwrap();
        writeln!(lines, "{line}").unwrap();
    }
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // The message is the first field.
        match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        }
        .unwrap();
    }
}

impl Subscriber for Heard {
    fn enabled(&self, of: &tracing::Metadata<'_>) -> bool {
        of.target() == "penholder"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let name = span.metadata().name();
        self.line(format!("span {name}"), |line| span.record(line));
        Id::from_u64(self.spans.fetch_add(1, Relaxed) + 1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = event.metadata().level();
        self.line(format!("{level} "), |line| event.record(line));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

struct Number {
    name: String,
    heard: Heard,
}

impl Number {
    fn of(key: &Key, heard: &Heard) -> Arc<Self> {
        Arc::new(Self {
            name: key.name().to_owned(),
            heard: heard.clone(),
        })
    }

    fn add(&self, value: u64) {
        let mut numbers = self.heard.numbers.lock().unwrap();
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

impl Recorder for Heard {
    fn describe_counter(&self, _name: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn describe_gauge(&self, _name: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn describe_histogram(&self, _name: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(Number::of(key, self))
    }

    fn register_gauge(&self, _key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Number::of(key, self))
    }
}
