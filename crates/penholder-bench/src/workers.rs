//! The worker processes of a trial, from the side of the process that starts them.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::peer::setting::Setting;
use crate::peer::{Peer, python};
use crate::process::{self, Process};
use crate::share::Share;
use crate::trial::Trial;
use crate::window::Window;
use crate::worker;

pub(crate) struct Workers(Vec<Process>);

impl Workers {
    /// Starts one worker for each process of the trial. With `once`, each opens
    /// the database only when the trial starts, and writes one row.
    pub(crate) fn start(
        trial: &Trial,
        database: &Path,
        timeout: Duration,
        once: bool,
    ) -> Result<Self, Box<dyn Error>> {
        process::raise_file_limit(trial.processes)?;
        let start = |number| {
            let setting = Setting {
                peer: trial.peer,
                sync: trial.sync,
                database: database.to_owned(),
                number,
                timeout,
            };
            if trial.peer == Peer::PythonSqlite3 {
                return Process::start(&mut python::worker(&setting, trial.think, once));
            }
            Process::of_this_program(&worker::arguments(&setting, trial.think, once))
        };
        (0..trial.processes)
            .map(start)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Waits until all workers are ready, and tells them when to start.
    pub(crate) fn launch(&mut self, trial: &Trial) -> Result<Window, Box<dyn Error>> {
        // Hundreds of processes open the database in turn on a few CPUs.
        let deadline = clock::after(Duration::from_secs(60));
        for worker in &mut self.0 {
            let line = worker.receive(deadline)?;
            if line != "ready" {
                return Err(format!("{} printed {line:?} instead of \"ready\"", trial.peer).into());
            }
        }
        let window = trial.window();
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
