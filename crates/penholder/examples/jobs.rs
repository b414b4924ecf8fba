//! A queue of jobs in a database: any number of processes add jobs, and any number of workers take
//! them, in Rust or in another language. A worker without a job waits for the next commit, and so
//! begins a new job at once, without asking the database again and again.
//!
//! ```text
//! jobs DB add N          add N jobs
//! jobs DB work SECONDS   work until there was no job for so long; print how many were done
//! jobs DB show           print how many jobs each worker has done
//! ```
//!
//! `bindings/python/recipes/job_worker.py` is such a worker in Python.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]

use std::process::ExitCode;
use std::time::Duration;

use penholder::{Database, OpenOptions, Result, params};

const USAGE: &str = "usage: jobs DB add N | work SECONDS | show";

/// A job that a worker has claimed.
struct Job {
    id: i64,
    input: i64,
}

/// The queue, with all of its SQL.
struct Jobs {
    db: Database,
    worker: String,
}

impl Jobs {
    fn open(path: &str) -> Result<Self> {
        let db = OpenOptions::new()
            .timeout(Duration::from_secs(10))
            .label("jobs")
            .open(path)?;
        db.migrate(&["CREATE TABLE job(
            id INTEGER PRIMARY KEY,
            input INTEGER NOT NULL,
            worker TEXT,
            output INTEGER
        )"])?;
        let worker = format!("rust {}", std::process::id());
        Ok(Self { db, worker })
    }

    fn add(&self, input: i64) -> Result<()> {
        self.db
            .execute("INSERT INTO job(input) VALUES (?1)", params![input])?;
        Ok(())
    }

    /// Claims the oldest job that no worker has. One statement claims it, so no two workers get it.
    fn claim(&self) -> Result<Option<Job>> {
        let sql = "UPDATE job SET worker = ?1
                   WHERE id = (SELECT min(id) FROM job WHERE worker IS NULL)
                   RETURNING id, input";
        let claimed = self.db.execute(sql, params![&self.worker])?.returned;
        let job = claimed.first().map(|row| {
            let (id, input) = (row.get("id")?, row.get("input")?);
            Result::Ok(Job { id, input })
        });
        job.transpose()
    }

    fn done(&self, job: &Job) -> Result<()> {
        let output = job.input * job.input;
        let sql = "UPDATE job SET output = ?2 WHERE id = ?1";
        self.db.execute(sql, params![job.id, output])?;
        Ok(())
    }

    /// Works until there was no job for `idle`. Returns how many were done.
    fn work(&self, idle: Duration) -> Result<u64> {
        // Before the first look: a job that is added after it ends the wait.
        let mut commits = self.db.commits()?;
        let mut done = 0;
        loop {
            while let Some(job) = self.claim()? {
                self.done(&job)?;
                done += 1;
            }
            if commits.wait(idle)?.is_none() {
                return Ok(done);
            }
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        [path, "add", count] => {
            let (jobs, count) = (Jobs::open(path)?, count.parse().unwrap_or(0));
            (0..count).try_for_each(|input| jobs.add(input))?;
        }
        [path, "work", seconds] => {
            let idle = Duration::from_secs_f64(seconds.parse().unwrap_or(1.0));
            println!("{} done", Jobs::open(path)?.work(idle)?);
        }
        [path, "show"] => {
            let sql =
                "SELECT ifnull(worker, 'nobody'), count(*), count(output) FROM job GROUP BY 1";
            for (worker, claimed, done) in Jobs::open(path)?
                .db
                .query_as::<(String, i64, i64)>(sql, [])?
            {
                println!("{worker}: {claimed} claimed, {done} done");
            }
        }
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&arguments).unwrap_or_else(|error| {
        eprintln!("jobs: {error}");
        ExitCode::FAILURE
    })
}
