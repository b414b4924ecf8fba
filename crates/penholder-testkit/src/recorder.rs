//! Records what a thread tells `tracing` and `metrics`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Once};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
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
        install();
        let recorder = Self::default();
        let _current = Current::set(recorder.clone());
        metrics::with_local_recorder(&recorder, work);
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

thread_local! {
    /// The recorder of the work that this thread is doing.
    static CURRENT: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Makes a recorder the current one of this thread until it is dropped.
struct Current;

impl Current {
    fn set(recorder: Recorder) -> Self {
        let outer = CURRENT.replace(Some(recorder));
        assert!(outer.is_none(), "recorders do not nest");
        Self
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Sends what every thread tells `tracing` to the thread's current recorder.
///
/// A subscriber of one thread would lose events: `tracing` remembers whether anybody is
/// interested in a call site, and while there is only one subscriber, it asks that of the
/// thread that reaches the call site first. So call this before any code that may report
/// something.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing::subscriber::set_global_default(CurrentRecorder).unwrap());
}

/// Passes everything to the current recorder of the thread.
struct CurrentRecorder;

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

impl Subscriber for CurrentRecorder {
    fn register_callsite(&self, _metadata: &'static tracing::Metadata<'static>) -> Interest {
        // Whether a thread has a recorder changes, so `enabled` is asked every time.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "penholder" && with_current(|_| ()).is_some()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let name = span.metadata().name();
        let id = with_current(|recorder| {
            recorder.push_line(format!("span {name}"), |line| span.record(line));
            recorder.spans.fetch_add(1, Relaxed) + 1
        });
        Id::from_u64(id.unwrap_or(u64::MAX))
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = event.metadata().level();
        with_current(|recorder| recorder.push_line(format!("{level} "), |line| event.record(line)));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

fn with_current<T>(work: impl FnOnce(&Recorder) -> T) -> Option<T> {
    CURRENT.with_borrow(|current| current.as_ref().map(work))
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn report() {
        tracing::info!(target: "penholder", "something happened");
    }

    /// The only test, because another recorder in the process would hide the fault.
    #[test]
    fn an_event_is_recorded_although_another_thread_reported_it_first() {
        let recorded = Recorder::record(|| {
            thread::spawn(report).join().unwrap();
            report();
        });
        assert_eq!(recorded.text(), "INFO something happened\n");
    }
}
