//! penholder: all threads of a process share one `Database`.

use std::error::Error;

use penholder::lock::QueuePolicy;
use penholder::{Database, GroupCommit};

use crate::peer::Peer;
use crate::peer::client::{Client, Outcome, Values, Work};
use crate::peer::setting::Setting;

/// Opens the database with the options of the peer.
pub(crate) fn open(setting: &Setting) -> penholder::Result<Database> {
    let options = penholder::OpenOptions::new()
        .timeout(setting.timeout)
        .synchronous(setting.sync.into());
    let options = match setting.peer {
        Peer::PenholderFifo => options.policy(QueuePolicy::Fifo),
        Peer::PenholderAlone => options.group_commit(GroupCommit::Off),
        _ => options,
    };
    options.open(&setting.database)
}

impl Client for Database {
    fn read(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        settle(
            Database::read(self, |connection| Ok(work(connection)?)),
            Outcome::Read,
        )
    }

    fn write(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        settle(Database::write(self, |tx| Ok(work(tx)?)), Outcome::Written)
    }

    fn execute(&mut self, sql: &str, values: Values<'_>) -> Result<Outcome, Box<dyn Error>> {
        let executed = Database::execute(self, sql, values);
        settle(executed.map(drop), Outcome::Written)
    }
}

/// A database that is written by closures only.
pub(crate) struct ByClosure(pub(crate) Database);

impl Client for ByClosure {
    fn read(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        Client::read(&mut self.0, work)
    }

    fn write(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        Client::write(&mut self.0, work)
    }
}

fn settle(result: penholder::Result<()>, success: Outcome) -> Result<Outcome, Box<dyn Error>> {
    match result {
        Ok(()) => Ok(success),
        Err(error) if error.is_timeout() || error.is_sqlite_busy() => Ok(Outcome::Failed),
        Err(error) => Err(error.into()),
    }
}
