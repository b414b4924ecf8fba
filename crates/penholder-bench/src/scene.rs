//! Writers in a closed loop, and the company that they have: what `outsider` and
//! `readers` measure.

pub(crate) mod figures;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use crate::availability::available;
use crate::clock;
use crate::closed_loop;
use crate::closures::Closures;
use crate::company::{Company, Reads};
use crate::directory::Directory;
use crate::machine::Machine;
use crate::peer::{Peer, Peers};
use crate::report;
use crate::scene::figures::Figures;
use crate::synchronous::Synchronous;
use crate::text;
use crate::trial::Trial;
use crate::turns;
use crate::workload::Workload;

#[derive(clap::Args)]
pub(crate) struct Scene {
    /// Number of processes that write in a closed loop
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    writers: u32,
    /// What each transaction does
    #[arg(long, value_enum, default_value_t = Workload::Insert)]
    workload: Workload,
    /// Value of `PRAGMA synchronous`
    #[arg(long, value_enum, default_value_t = Synchronous::Normal)]
    sync: Synchronous,
    #[arg(long, default_value = "penholder,sqlite-busy", help = Peers::help())]
    peers: Peers,
    /// Number of processes that read one row after the other, by its key
    #[arg(long, value_name = "K", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000))]
    readers: u32,
    /// Number of processes that open a snapshot, hold it, and open the next one
    #[arg(long, value_name = "K", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1_000))]
    long_readers: u32,
    /// How long these hold each snapshot
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = clock::parse)]
    hold: Duration,
    /// Duration of each trial, in seconds
    #[arg(long, default_value = "10", value_parser = clock::parse_seconds)]
    seconds: Duration,
    /// How often each trial is run; medians are reported
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Write the figures to this file as a JSON array, one object for each trial
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    directory: Directory,
}

/// One of the trials that alternate.
struct Case {
    peer: Peer,
    company: Company,
}

impl Scene {
    /// Measures each peer of writers, with each peer of readers.
    pub(crate) fn measure(
        &self,
        outsider: Option<Duration>,
        reads: &[Reads],
    ) -> Result<Vec<Figures>, Box<dyn Error>> {
        let mut cases = Vec::new();
        for peer in available(&self.peers, self.workload) {
            cases.extend(reads.iter().map(|reads| Case {
                peer,
                company: self.company(outsider, *reads),
            }));
        }
        let runs = turns::alternate(&cases, self.runs as usize, |case| self.run(case))?;
        let figures: Vec<Figures> = runs
            .iter()
            .filter_map(|runs| Figures::median(runs))
            .collect();
        if let Some(path) = &self.json {
            report::write_json(path, &figures)?;
        }
        Ok(figures)
    }

    fn company(&self, outsider: Option<Duration>, reads: Reads) -> Company {
        Company {
            outsider,
            readers: self.readers,
            reads,
            long_readers: self.long_readers,
            hold: self.hold,
        }
    }

    fn run(&self, case: &Case) -> Result<Figures, Box<dyn Error>> {
        let trial = Trial {
            peer: case.peer,
            workload: self.workload,
            sync: self.sync,
            processes: self.writers,
            threads: case.peer.threads().unwrap_or(1),
            closures: Closures::NONE,
            think: Duration::ZERO,
            seconds: self.seconds,
        };
        let readers = match case.company.reads {
            _ if self.readers == 0 => "no readers",
            Reads::Sqlite => "readers with SQLite alone",
            Reads::Penholder => "readers with Database::read",
        };
        eprintln!("{}, {readers}", case.peer);
        let measured = closed_loop::measure(&trial, &case.company, self.directory.path());
        let measured = measured.map_err(|e| format!("{}: {e}", case.peer))?;
        Figures::of(&trial, &case.company, &measured)
    }

    /// Prints the machine and the method.
    pub(crate) fn print_head(&self) {
        let machine = Machine::here(self.directory.path());
        println!("{}\n{}", machine.hardware, machine.software);
        println!(
            "{} in a closed loop, synchronous={}, {}",
            text::processes(self.writers),
            self.sync,
            self.workload.summary()
        );
        print!("readers: {}", self.readers);
        if self.long_readers > 0 {
            print!(", and {} that hold snapshots", self.long_readers);
            print!(" for {:?} each", self.hold);
        }
        println!(
            "; {} s per trial, medians of {} runs\n",
            self.seconds.as_secs_f64(),
            self.runs
        );
    }
}
