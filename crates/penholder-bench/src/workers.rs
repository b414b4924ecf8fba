//! The worker processes of a trial, from the side of the process that starts them.

use std::error::Error;
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::peer::setting::Setting;
use crate::peer::{Peer, python};
use crate::process::{self, Process};
use crate::share::Share;
use crate::window::Window;
use crate::worker;

pub(crate) struct Workers(Vec<Process>);

impl Workers {
    pub(crate) fn start(settings: &[Setting]) -> Result<Self, Box<dyn Error>> {
        process::raise_file_limit(u32::try_from(settings.len())?)?;
        let start = |setting: &Setting| match setting.peer {
            Peer::PythonSqlite3 => Process::start(&mut python::worker(setting)?),
            _ => Process::of_this_program(&worker::arguments(setting)?),
        };
        let processes: Result<_, _> = settings.iter().map(start).collect();
        processes.map(Self)
    }

    /// Waits until all workers are ready, and tells them when to start and for how long
    /// to count.
    pub(crate) fn launch(&mut self, duration: Duration) -> Result<Window, Box<dyn Error>> {
        // Hundreds of processes open the database in turn on a few CPUs.
        let deadline = clock::after(Duration::from_secs(60));
        for worker in &mut self.0 {
            let line = worker.receive(deadline)?;
            if line != "ready" {
                return Err(format!("a worker printed {line:?} instead of \"ready\"").into());
            }
        }
        let window = Window::soon(self.0.len(), duration);
        for worker in &mut self.0 {
            worker.send(&window.line())?;
        }
        Ok(window)
    }

    /// Reads the share of each worker, and waits until all have exited.
    pub(crate) fn finish(mut self, deadline: Nanos) -> Result<Vec<Share>, Box<dyn Error>> {
        let share = |worker: &mut Process| Ok(serde_json::from_str(&worker.receive(deadline)?)?);
        let shares = self.0.iter_mut().map(share);
        let shares = shares.collect::<Result<_, Box<dyn Error>>>()?;
        let deadline = clock::after(Duration::from_secs(60));
        for worker in self.0 {
            worker.finish(deadline)?;
        }
        Ok(shares)
    }
}
