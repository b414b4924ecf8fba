//! Three nodes of penholder-cluster.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use penholder::Store as _;
use penholder_cluster::Cluster;
use rustix::process::Signal;

use crate::Result;
use crate::process::{self, Process};

const COUNT: usize = 3;

/// Three nodes, with the options that `cluster init` gives them.
#[derive(Debug)]
pub(crate) struct Nodes {
    directory: PathBuf,
    processes: Vec<Process>,
}

impl Nodes {
    /// Makes the files of a new cluster.
    pub(crate) fn init(directory: &Path) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["cluster", "init"]).arg(directory);
        command.args(["--nodes", &COUNT.to_string()]);
        process::run("cluster init", &mut command)?;
        Ok(Self {
            directory: directory.to_owned(),
            processes: Vec::new(),
        })
    }

    /// Returns a file of the cluster.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Adds a setting to the file of each node.
    pub(crate) fn set(&self, line: &str) -> Result<()> {
        for id in 1..=COUNT {
            let path = self.file(&format!("node-{id}.toml"));
            // What follows a table would belong to it.
            let text = format!("{line}\n{}", fs::read_to_string(&path)?);
            fs::write(&path, text)?;
        }
        Ok(())
    }

    /// Starts them, and returns a client once a majority runs.
    pub(crate) async fn start(&mut self, name: &str) -> Result<Cluster> {
        for id in 1..=COUNT {
            let mut command = Command::new(env::current_exe()?);
            command
                .arg("serve")
                .arg(self.file(&format!("node-{id}.toml")));
            let name = format!("{name}-{id}");
            // They take ten seconds to end by themselves.
            let started = Process::start(&name, &self.directory, Signal::KILL, &mut command);
            self.processes.push(started?);
        }
        let address = format!("cluster:{}", self.text_of("client.toml")?);
        process::until(
            "the nodes elect a leader",
            &mut self.processes,
            async || {
                let client = Cluster::connect(&address).await?;
                client.query("SELECT 1", ()).await?;
                Ok(client)
            },
        )
        .await
    }

    /// Connects the engine's own client to the same nodes.
    pub(crate) async fn engine_client(&self) -> Result<hiqlite::Client> {
        let text = fs::read_to_string(self.file("node-1.toml"))?;
        let file: toml::Table = text.parse()?;
        let missing = || "node-1.toml has no secret or no nodes";
        let secret = file.get("secret").and_then(toml::Value::as_str);
        let nodes = file.get("nodes").and_then(toml::Value::as_array);
        let address = |node: &toml::Value| Some(node.get("management")?.as_str()?.to_owned());
        let nodes: Option<Vec<String>> = nodes.ok_or_else(missing)?.iter().map(address).collect();
        let secret = secret.ok_or_else(missing)?.to_owned();
        let nodes = nodes.ok_or_else(missing)?;
        Ok(hiqlite::Client::remote(nodes, true, false, secret, false, None).await?)
    }

    fn text_of(&self, name: &str) -> Result<String> {
        let path = self.file(name);
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| "the directory for temporary files is no UTF-8".into())
    }
}
