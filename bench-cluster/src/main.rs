//! Durable writes of one row each: three hiqlite nodes through penholder, through hiqlite's own client,
//! three etcd nodes, one PostgreSQL, and a database on this machine, one after another on loopback.
//!
//! It starts every server itself, in a directory for temporary files, and ends it. Each trial is a closed
//! loop: every client writes its next row when its last one is acknowledged as durable.
//!
//! The nodes are this program, too: with `serve` and `cluster` it is `penholder-cluster`.

mod arguments;
mod etcd;
mod nodes;
mod peer;
mod postgres;
mod process;
mod report;
mod rounds;
mod trial;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser as _;
use nodes::Nodes;
use peer::Peers;
use rounds::Rounds;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The variable from which hiqlite's client takes the authority of the nodes.
const AUTHORITIES: &str = "SSL_CERT_FILE";

fn main() -> ExitCode {
    let is_of_node = |word: &str| matches!(word, "cluster" | "serve");
    if env::args().nth(1).as_deref().is_some_and(is_of_node) {
        return penholder_cluster::command::run();
    }
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let directory = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let shared = Nodes::init(&directory.path().join("shared"))?;
    set_authority(&shared);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let rounds = unless_ended(&runtime, async {
        let peers = Peers::start(directory.path(), shared, arguments).await?;
        let rounds = Rounds::run(&peers, arguments).await?;
        peers.check(&rounds).await?;
        Ok(rounds)
    })?;
    print!(
        "{}",
        match arguments.json {
            true => report::json(&rounds),
            false => report::text(&rounds),
        }
    );
    Ok(())
}

/// Runs work until SIGTERM or Ctrl-C, so that all servers are ended then, too.
fn unless_ended<T>(runtime: &Runtime, work: impl Future<Output = Result<T>>) -> Result<T> {
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            result = work => result,
            _ = terminate.recv() => Err("ended by SIGTERM".into()),
            _ = interrupt.recv() => Err("ended by Ctrl-C".into()),
        }
    })
}

#[expect(
    unsafe_code,
    reason = "hiqlite's client takes its authority from the environment only"
)]
fn set_authority(nodes: &Nodes) {
    // SAFETY: `main` has started no other thread yet.
    unsafe { env::set_var(AUTHORITIES, nodes.file("ca.pem")) };
}
