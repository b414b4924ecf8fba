//! A worker: one process that sends requests in a closed loop.
//!
//! It opens the database, prints `ready`, reads the window from its standard input,
//! sends requests until the end, and prints its share as one line of JSON. If it is to
//! send only one request, it opens the database only when the window starts.

use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use crate::clock;
use crate::look_up::{self, LookUps};
use crate::peer::access::Access;
use crate::peer::client::Outcome;
use crate::peer::setting::Setting;
use crate::peer::sqlite;
use crate::share::Share;
use crate::system;
use crate::tally::Tally;
use crate::task::Task;
use crate::window::Window;
use crate::workload::requests::Requests;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A setting as JSON
    setting: String,
}

/// The arguments that start a worker.
pub(crate) fn arguments(setting: &Setting) -> Result<[String; 2], Box<dyn Error>> {
    Ok(["worker".into(), serde_json::to_string(setting)?])
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    system::end_with_parent()?;
    let setting: Setting = serde_json::from_str(&args.setting)?;
    let share = match setting.task {
        Task::HoldSnapshot(hold) => hold_snapshots(&setting, hold)?,
        _ if setting.once => once(&setting)?,
        _ if setting.threads > 1 => threaded(&setting)?,
        _ => looped(&setting)?,
    };
    print_line(&serde_json::to_string(&share)?)
}

fn requests(setting: &Setting) -> Box<dyn Requests> {
    match setting.task {
        Task::Workload(workload) => workload.requests(setting.number),
        _ => Box::new(LookUps),
    }
}

/// Opens the database and sends one request when the window starts. Every error counts
/// as a failed one.
fn once(setting: &Setting) -> Result<Share, Box<dyn Error>> {
    print_line("ready")?;
    thread::sleep(clock::left(read_window()?.start));
    let begun = clock::now();
    let outcome = Access::open(setting)
        .and_then(|access| access.client())
        .and_then(|mut client| requests(setting).send(&mut *client));
    let longest = clock::now() - begun;
    let done = matches!(outcome, Ok(Outcome::Written | Outcome::Read));
    Ok(Share {
        acknowledged: matches!(outcome, Ok(Outcome::Written)).into(),
        done: done.into(),
        failed: (!done).into(),
        latencies: vec![(longest, 1)],
        longest,
        cpu_time: clock::cpu_time(),
        error: outcome.err().map(|error| error.to_string()),
    })
}

/// Sends requests from the main thread.
fn looped(setting: &Setting) -> Result<Share, Box<dyn Error>> {
    let access = Access::open(setting)?;
    repeat(setting, &access, || {
        print_line("ready")?;
        read_window()
    })
}

/// Sends requests from several threads, and counts them together.
fn threaded(setting: &Setting) -> Result<Share, Box<dyn Error>> {
    let access = Access::open(setting)?;
    thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let mut launches = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..setting.threads {
            let (launch, launched) = mpsc::channel();
            let (access, ready) = (&access, ready.clone());
            launches.push(launch);
            threads.push(scope.spawn(move || one_thread(setting, access, ready, &launched)));
        }
        drop(ready);
        let launched = launch(&is_ready, launches);
        let shares = threads.into_iter().map(joined).collect::<Result<_, _>>()?;
        launched.map(|()| Share::joined(shares))
    })
}

/// Waits until all threads are ready, and tells them the window. If one fails, the
/// others end because their channels are closed.
fn launch(is_ready: &Receiver<()>, launches: Vec<Sender<Window>>) -> Result<(), Box<dyn Error>> {
    for _ in &launches {
        is_ready.recv()?;
    }
    print_line("ready")?;
    let window = read_window()?;
    for launch in launches {
        launch.send(window)?;
    }
    Ok(())
}

/// Its error is a text, because it goes to another thread.
fn one_thread(
    setting: &Setting,
    access: &Access,
    ready: Sender<()>,
    launched: &Receiver<Window>,
) -> Result<Share, String> {
    let share = repeat(setting, access, move || {
        ready.send(())?;
        drop(ready);
        Ok(launched.recv()?)
    });
    share.map_err(|error| error.to_string())
}

fn joined(thread: ScopedJoinHandle<'_, Result<Share, String>>) -> Result<Share, String> {
    let panicked = |_| Err("a thread panicked".to_owned());
    thread.join().unwrap_or_else(panicked)
}

/// Sends requests in a closed loop until the end of the window, which `window` waits
/// for when the client is open.
fn repeat(
    setting: &Setting,
    access: &Access,
    window: impl FnOnce() -> Result<Window, Box<dyn Error>>,
) -> Result<Share, Box<dyn Error>> {
    let mut client = access.client()?;
    let mut requests = requests(setting);
    let mut tally = Tally::new()?;
    let window = window()?;
    thread::sleep(clock::left(window.start));
    loop {
        let begun = clock::now();
        if begun >= window.end {
            return Ok(tally.share());
        }
        let outcome = requests.send(&mut *client)?;
        tally.count(window, begun, outcome);
        setting.pause.sleep();
    }
}

/// Opens one snapshot after the other, and holds each; the last one until the end.
fn hold_snapshots(setting: &Setting, hold: Duration) -> Result<Share, Box<dyn Error>> {
    let connection = sqlite::connect(setting)?;
    print_line("ready")?;
    let window = read_window()?;
    thread::sleep(clock::left(window.start));
    while clock::now() < window.end {
        connection.execute_batch("BEGIN")?;
        look_up::read(&connection)?;
        thread::sleep(hold.min(clock::left(window.end)));
        connection.execute_batch("COMMIT")?;
    }
    Ok(Share::default())
}

fn print_line(line: &str) -> Result<(), Box<dyn Error>> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

fn read_window() -> Result<Window, Box<dyn Error>> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    line.parse()
}
