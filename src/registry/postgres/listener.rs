//! The right to be the one daemon that listens to the devices: a row of `lease` beside that of the work. Nothing is
//! fenced by it, because it says who has a connection to the broker, and not who writes.

use std::rc::Rc;

use super::super::{ExclusionFailure, Listening};
use super::connection::Connection;
use super::fault::Fault;
use super::idle::Idle;
use super::lease::{Renewer, TTL};
use super::settings::Settings;
use crate::model::text::sanitize_line;

/// The name of the row.
const NAME: &str = "listen";

/// The right to listen, until it is dropped.
pub(super) struct Listener {
    connection: Rc<Connection>,
    idle: Idle,
    epoch: i64,
    renewer: Renewer,
}

impl Listener {
    /// Takes the right for an owner.
    pub fn take(
        (connection, idle): (Rc<Connection>, &Idle),
        settings: &Settings,
        owner: &str,
    ) -> Result<Listener, ExclusionFailure> {
        let fail = |fault: Fault| ExclusionFailure::Failed(fault.into_error(&settings.location, "begin to listen"));
        let epoch = match take(&connection, owner).map_err(fail)? {
            Ok(epoch) => epoch,
            Err(holder) => {
                idle.keep(&connection);
                return Err(ExclusionFailure::Held(holder));
            }
        };
        let renewer = Renewer::start(settings, NAME, epoch).map_err(ExclusionFailure::Failed)?;
        Ok(Listener { connection, idle: idle.clone(), epoch, renewer })
    }
}

impl Listening for Listener {
    fn is_lost(&self) -> bool {
        self.renewer.has_lost()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.renewer.end();
        // It runs out by itself when the connection is gone.
        let text = "UPDATE lease SET until = clock_timestamp() WHERE name = $2 AND epoch = $1";
        drop(self.connection.execute(text, &[&self.epoch, &NAME]));
        self.idle.keep(&self.connection);
    }
}

/// Returns the epoch of the owner, or else who has the right.
fn take(connection: &Connection, owner: &str) -> Result<Result<i64, Option<String>>, Fault> {
    let text = "INSERT INTO lease (name, owner, epoch, until, former, server, is_synchronous)
                VALUES ($1, '', 0, '-infinity', '{}', '', false) ON CONFLICT (name) DO NOTHING";
    connection.execute(text, &[&NAME])?;
    let text = format!(
        "UPDATE lease SET owner = $2, epoch = epoch + 1, until = clock_timestamp() + interval '{} s'
         WHERE name = $1 AND until <= clock_timestamp() RETURNING epoch",
        TTL.as_secs()
    );
    if let Some(row) = connection.row(&text, &[&NAME, &owner])? {
        return Ok(Ok(row.try_get(0)?));
    }
    let row = connection.row("SELECT owner FROM lease WHERE name = $1", &[&NAME])?;
    let holder = row.map(|row| row.try_get::<_, String>(0)).transpose()?;
    Ok(Err(holder.map(|name| sanitize_line(&name).into_owned()).filter(|name| !name.is_empty())))
}
