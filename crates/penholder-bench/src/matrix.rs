//! All the trials of a comparison, measured in turns: the machine is shared and
//! noisy, so each run goes through the peers the other way round, and the median
//! of the runs counts.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::figures::Figures;
use crate::peer::python;
use crate::peer::{Peer, Sync};
use crate::trial::Trial;

/// How long, how often, where, and where the results go.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// How long each trial is measured
    #[arg(long, default_value = "5", value_parser = clock::parse_seconds)]
    pub(crate) seconds: Duration,
    /// How long each process sleeps between its writes, for example 200us
    #[arg(long, default_value = "0us", value_parser = clock::parse)]
    pub(crate) think: Duration,
    /// How often each trial is measured; medians are reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Writes the figures as a JSON array, one object a trial
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draws the figures into this folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) svg: Option<PathBuf>,
    /// Where the databases go: the file system decides the figures
    #[arg(long, default_value = ".")]
    pub(crate) folder: PathBuf,
}

pub(crate) struct Matrix<'a> {
    pub(crate) peers: Vec<Peer>,
    pub(crate) processes: &'a [u32],
    pub(crate) syncs: &'a [Sync],
    pub(crate) plan: &'a Plan,
}

impl Matrix<'_> {
    /// The median figures of each trial; the peers of a trial stand together.
    pub(crate) fn measure(&self) -> Result<Vec<Figures>, Box<dyn Error>> {
        let mut runs = Vec::new();
        for run in 0..self.plan.runs {
            for trial in self.trials(run) {
                eprintln!(
                    "run {} of {}: {}, {} processes, {}",
                    run + 1,
                    self.plan.runs,
                    trial.sync,
                    trial.processes,
                    trial.peer
                );
                let figures = trial.measure(&self.plan.folder);
                let figures = figures.map_err(|e| format!("{}: {e}", trial.peer))?;
                runs.push((trial, figures));
            }
        }
        Ok(self.medians(&runs))
    }

    fn medians(&self, runs: &[(Trial, Figures)]) -> Vec<Figures> {
        let of = |trial: Trial| {
            let same = runs.iter().filter(|(other, _)| *other == trial);
            let figures: Vec<Figures> = same.map(|(_, figures)| figures.clone()).collect();
            Figures::median(&figures)
        };
        self.trials(0).into_iter().filter_map(of).collect()
    }

    /// All trials in the order of a run.
    fn trials(&self, run: u32) -> Vec<Trial> {
        let mut trials = Vec::new();
        for sync in self.syncs {
            for processes in self.processes {
                let peers = self.in_turn(run).into_iter();
                trials.extend(peers.map(|peer| self.trial(peer, *sync, *processes)));
            }
        }
        trials
    }

    /// The peers, every other run the other way round.
    pub(crate) fn in_turn(&self, run: u32) -> Vec<Peer> {
        let mut peers = self.peers.clone();
        if run % 2 == 1 {
            peers.reverse();
        }
        peers
    }

    pub(crate) fn trial(&self, peer: Peer, sync: Sync, processes: u32) -> Trial {
        Trial {
            peer,
            sync,
            processes,
            think: self.plan.think,
            seconds: self.plan.seconds,
        }
    }
}

/// Those of the peers that can take part here; the others are named aloud.
pub(crate) fn present(mut peers: Vec<Peer>) -> Vec<Peer> {
    if peers.contains(&Peer::PythonSqlite3)
        && let Err(why) = python::version()
    {
        eprintln!("SKIPPED: {}: {why}", Peer::PythonSqlite3);
        peers.retain(|peer| *peer != Peer::PythonSqlite3);
    }
    peers
}

/// The folder must exist before anything is measured.
pub(crate) fn check_folder(folder: &Path) -> Result<(), Box<dyn Error>> {
    match folder.is_dir() {
        true => Ok(()),
        false => Err(format!("{} is no folder", folder.display()).into()),
    }
}
