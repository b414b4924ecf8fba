//! Prints what a program's writes report: spans and events of `tracing`, counters and
//! histograms of `metrics`. This example prints both with little code. A real program uses
//! `tracing-subscriber` and an exporter for `metrics`.
//!
//! ```text
//! events DB   write a few rows, one of them slowly, and print what is reported
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use penholder::{Database, OpenOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: events DB");
        return ExitCode::from(2);
    };
    match run(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("events: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &str) -> Result<(), Box<dyn Error>> {
    tracing::subscriber::set_global_default(Printer::default())?;
    let numbers = Numbers::default();
    metrics::set_global_recorder(numbers.clone()).map_err(|error| error.to_string())?;
    let db = OpenOptions::new()
        .timeout(Duration::from_secs(10))
        .label("events")
        .long_hold_threshold(Duration::from_millis(20))
        .open(path)?;
    db.execute("CREATE TABLE IF NOT EXISTS event(text)", ())?;
    db.execute("INSERT INTO event VALUES (?1)", ["quick"])?;
    slowly(&db)?;
    numbers.print();
    Ok(())
}

fn slowly(db: &Database) -> penholder::Result<()> {
    db.write(|tx| {
        tx.execute("INSERT INTO event VALUES (?1)", ["slow"])?;
        thread::sleep(Duration::from_millis(50));
        Ok(())
    })
}

/// Prints events, and spans when they begin.
#[derive(Default)]
struct Printer {
    spans: AtomicU64,
}

impl Subscriber for Printer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "penholder"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = format!("span  {}:", span.metadata().name());
        span.record(&mut Line(&mut line));
        println!("{line}");
        Id::from_u64(self.spans.fetch_add(1, Relaxed) + 1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = format!("{:<5} ", event.metadata().level());
        event.record(&mut Line(&mut line));
        println!("{line}");
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// Writes fields as `name=value`.
struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// The value of each counter, and the number and sum of the values of each histogram.
#[derive(Clone, Default)]
struct Numbers(Arc<Mutex<BTreeMap<String, (u64, f64)>>>);

impl Numbers {
    fn add(&self, name: &str, count: u64, sum: f64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = all.entry(name.to_owned()).or_default();
        number.0 += count;
        number.1 += sum;
    }

    fn print(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, (count, sum)) in all.iter() {
            if name.ends_with("_seconds") {
                println!("{name} count {count} sum {sum:.6}");
            } else {
                println!("{name} {count}");
            }
        }
    }

    fn number(&self, key: &Key) -> Arc<Number> {
        Arc::new(Number {
            name: key.name().to_owned(),
            all: self.clone(),
        })
    }
}

struct Number {
    name: String,
    all: Numbers,
}

impl CounterFn for Number {
    fn increment(&self, value: u64) {
        self.all.add(&self.name, value, 0.0);
    }

    fn absolute(&self, _value: u64) {}
}

impl HistogramFn for Number {
    fn record(&self, value: f64) {
        self.all.add(&self.name, 1, value);
    }
}

impl Recorder for Numbers {
    fn describe_counter(&self, _name: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn describe_gauge(&self, _name: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn describe_histogram(&self, _name: KeyName, _unit: Option<Unit>, _text: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key))
    }

    fn register_gauge(&self, _key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.number(key))
    }
}
