//! How the threads of a process get their clients: as the users of each peer do.

use std::error::Error;

use penholder::Database;

use crate::peer::Peer;
use crate::peer::client::Client;
use crate::peer::database::{self, ByClosure};
use crate::peer::flock_blocking::FlockBlocking;
use crate::peer::naive::Naive;
use crate::peer::setting::Setting;
use crate::peer::sqlite::{Sqlite, Transaction};

/// What the threads of one process share: with penholder a `Database`, with the other
/// peers nothing.
pub(crate) struct Access {
    setting: Setting,
    database: Option<Database>,
}

impl Access {
    pub(crate) fn open(setting: &Setting) -> Result<Self, Box<dyn Error>> {
        let database = match setting.peer.is_penholder() {
            true => Some(database::open(setting)?),
            false => None,
        };
        Ok(Self {
            setting: setting.clone(),
            database,
        })
    }

    /// A client of the thread that calls this.
    pub(crate) fn client(&self) -> Result<Box<dyn Client>, Box<dyn Error>> {
        let setting = &self.setting;
        if let Some(database) = self.database.clone() {
            return Ok(match setting.by_closure {
                true => Box::new(ByClosure(database)),
                false => Box::new(database),
            });
        }
        Ok(match setting.peer {
            Peer::Naive => Box::new(Naive::open(setting)?),
            Peer::FlockBlocking => Box::new(FlockBlocking::open(setting)?),
            Peer::SqliteBusyPrepared => Box::new(Sqlite::open(setting, Transaction::Prepared)?),
            Peer::SqliteAutocommit => Box::new(Sqlite::open(setting, Transaction::IfSeveral)?),
            Peer::SqliteBusy1ms => Box::new(Sqlite::open_retrying(setting)?),
            Peer::PythonSqlite3 => return Err("Python runs in a process of its own".into()),
            _ => Box::new(Sqlite::open(setting, Transaction::Parsed)?),
        })
    }
}
