//! The right to work on a registry: a row of `lease`, renewed by a thread, by the clock of the database.
//!
//! 1. A has the lease with epoch 4 and is suspended, say with its machine.
//! 2. Its lease runs out. B takes it with epoch 5.
//! 3. A wakes up and commits. Its transaction finds epoch 5 in the row, and is refused.
//!
//! A transaction holds a key-share lock on the row, which lets renewals pass and keeps a taker waiting until the
//! transaction is over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::{ExclusionFailure, Exclusive, RegistryError};
use super::connection::Connection;
use super::fault::Fault;
use super::idle::Idle;
use super::settings::Settings;
use crate::model::limits;
use crate::model::text::sanitize_line;

/// How long a lease holds after its last renewal.
pub(super) const TTL: Duration = limits::REGISTRY_LEASE;
/// The time between two renewals.
const RENEWAL: Duration = limits::REGISTRY_LEASE_RENEWAL;
/// The time between two tries when a renewal fails.
const RETRY: Duration = Duration::from_secs(1);
/// The most former owners that are kept.
const OWNERS_MAX: usize = 64;

/// The lease that this process has, for the stores that write under it: its epoch, 0 without one.
#[derive(Debug, Default)]
pub(super) struct Held(Cell<i64>);

impl Held {
    /// Returns the epoch; `None` without a lease.
    pub fn epoch(&self) -> Option<i64> {
        Some(self.0.get()).filter(|epoch| *epoch > 0)
    }
}

/// The lease, until it is dropped.
pub(super) struct Lease {
    connection: Rc<Connection>,
    idle: Idle,
    settings: Settings,
    epoch: i64,
    former: RefCell<Vec<String>>,
    held: Rc<Held>,
    renewer: Renewer,
}

impl Lease {
    /// Takes the lease for an owner.
    pub fn take(
        (connection, idle): (Rc<Connection>, &Idle),
        settings: &Settings,
        held: Rc<Held>,
        owner: &str,
    ) -> Result<Lease, ExclusionFailure> {
        let location = &settings.location;
        let taken = connection.transaction(|connection| take(connection, owner));
        let fail = |fault: Fault| ExclusionFailure::Failed(fault.into_error(location, "take the lease"));
        let (epoch, former) = match taken.map_err(fail)? {
            Taken::Now { epoch, former } => (epoch, former),
            Taken::By(holder) => {
                idle.keep(&connection);
                return Err(ExclusionFailure::Held(holder));
            }
        };
        held.0.set(epoch);
        let renewer = Renewer::start(settings, "work", epoch).map_err(ExclusionFailure::Failed)?;
        let (settings, former) = (settings.clone(), RefCell::new(former));
        Ok(Lease { connection, idle: idle.clone(), settings, epoch, former, held, renewer })
    }

    /// Executes a statement about this epoch, on a new connection when the old one is gone.
    fn execute(&self, text: &str) -> Result<(), Fault> {
        match self.connection.execute(text, &[&self.epoch]) {
            Err(fault) if fault.is_lost() => Connection::open(&self.settings)?.execute(text, &[&self.epoch]).map(drop),
            done => done.map(drop),
        }
    }
}

impl Exclusive for Lease {
    fn former(&self) -> Vec<String> {
        self.former.borrow().clone()
    }

    fn forget_former(&self) -> Result<(), RegistryError> {
        if self.former.take().is_empty() {
            return Ok(());
        }
        let text = "UPDATE lease SET former = '{}' WHERE name = 'work' AND epoch = $1";
        self.execute(text).map_err(|fault| fault.into_error(&self.settings.location, "forget former owners"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held.0.set(0);
        self.renewer.end();
        // It runs out by itself when the server is not there.
        drop(self.execute("UPDATE lease SET until = clock_timestamp() WHERE name = 'work' AND epoch = $1"));
        self.idle.keep(&self.connection);
    }
}

/// What came of a try.
enum Taken {
    Now { epoch: i64, former: Vec<String> },
    By(Option<String>),
}

/// Which server it is, in two parts. The identifier of its cluster and the numbers of the database and of this table: a
/// restored dump has others. And its timeline, which a promotion and a backup that is put back change
/// (<https://www.postgresql.org/docs/current/continuous-archiving.html>, 25.3.6). The control file has the timeline later
/// than the names of the WAL's files.
const SERVER: &str = "(SELECT system_identifier FROM pg_control_system())
    || '-' || (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    || '-' || 'fleetform.lease'::regclass::oid || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)";
/// Whether a standby has a commit before it is acknowledged.
const IS_SYNCHRONOUS: &str = "current_setting('synchronous_standby_names') <> ''";

fn take(connection: &Connection, owner: &str) -> Result<Taken, Fault> {
    let text = &format!(
        "SELECT owner, epoch, until > clock_timestamp(), former,
                server <> '' AND server <> {SERVER}
                AND NOT (is_synchronous AND split_part(server, '/', 1) = split_part({SERVER}, '/', 1))
         FROM lease WHERE name = 'work' FOR UPDATE"
    );
    let row = connection.one(text, &[])?;
    let (before, epoch, is_held): (String, i64, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if is_held {
        return Ok(Taken::By(Some(sanitize_line(&before).into_owned()).filter(|name| !name.is_empty())));
    }
    let mut former: Vec<String> = row.try_get(3)?;
    former.insert(0, before);
    former.retain(|name| !name.is_empty() && name != owner);
    former.truncate(OWNERS_MAX);
    if row.try_get(4)? {
        super::remembered::set_value(connection, super::identity::MAY_LACK, "1")?;
    }
    let text = format!(
        "UPDATE lease SET owner = $1, epoch = $2, former = $3, until = clock_timestamp() + interval '{} s',
                server = {SERVER}, is_synchronous = {IS_SYNCHRONOUS}
         WHERE name = 'work'",
        TTL.as_secs()
    );
    let epoch = epoch + 1;
    connection.execute(&text, &[&owner, &epoch, &former])?;
    Ok(Taken::Now { epoch, former: former.iter().map(|name| sanitize_line(name).into_owned()).collect() })
}

/// A thread that renews a row of `lease`.
pub(super) struct Renewer {
    running: Option<(Sender<()>, JoinHandle<()>)>,
    is_lost: Arc<AtomicBool>,
}

impl Renewer {
    /// Renews a row for as long as it has this epoch.
    pub fn start(settings: &Settings, name: &'static str, epoch: i64) -> Result<Renewer, RegistryError> {
        let (stop, stopped) = channel();
        let (of_thread, is_lost) = (settings.clone(), Arc::new(AtomicBool::new(false)));
        let lost = Arc::clone(&is_lost);
        let renewing = std::thread::Builder::new().name("lease".to_string()).spawn(move || {
            let (mut connection, mut pause): (Option<Connection>, _) = (None, RENEWAL);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pause = match renew(&mut connection, &of_thread, (name, epoch)) {
                    Ok(true) => RENEWAL,
                    // Another one has it: the next transaction is refused.
                    Ok(false) => return lost.store(true, Ordering::SeqCst),
                    Err(_) => {
                        connection = None;
                        RETRY
                    }
                };
            }
        });
        let failed = |source: std::io::Error| RegistryError::Failed {
            location: settings.location.clone(),
            doing: "renew the lease",
            source: source.into(),
        };
        Ok(Renewer { running: Some((stop, renewing.map_err(failed)?)), is_lost })
    }

    /// Returns true when another one has the row.
    pub fn has_lost(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst)
    }

    /// Ends the thread.
    pub fn end(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            drop(thread.join());
        }
    }
}

/// Renews a lease. Returns false when another one has it.
fn renew(connection: &mut Option<Connection>, settings: &Settings, (name, epoch): (&str, i64)) -> Result<bool, Fault> {
    if connection.is_none() {
        *connection = Some(Connection::open(settings)?);
    }
    let connection = connection.as_ref().expect("it was opened");
    let text = format!(
        "UPDATE lease SET until = clock_timestamp() + interval '{} s' WHERE name = $2 AND epoch = $1",
        TTL.as_secs()
    );
    Ok(connection.execute(&text, &[&epoch, &name])? > 0)
}

/// Returns the name of the owner of the lease, empty when it is not known; `None` when none has it.
pub(super) fn holder(connection: &Connection) -> Result<Option<String>, Fault> {
    let text = "SELECT owner FROM fleetform.lease WHERE name = 'work' AND until > clock_timestamp()";
    let row = connection.row(text, &[])?;
    let owner = row.map(|row| row.try_get::<_, String>(0)).transpose()?;
    Ok(owner.map(|owner| sanitize_line(&owner).into_owned()))
}

/// Returns the epoch of the lease, and keeps it in force until the transaction is over.
pub(super) const IN_FORCE: &str = "SELECT epoch FROM lease WHERE name = 'work' FOR KEY SHARE";

/// Returns true while the lease of an epoch is in force.
pub(super) fn is_in_force(connection: &Connection, epoch: i64) -> Result<bool, Fault> {
    let now: i64 = connection.one(IN_FORCE, &[])?.try_get(0)?;
    Ok(now == epoch)
}

/// Notes, in a transaction, that the owner goes on with another server that has all of its commits.
pub(super) fn note_server(connection: &Connection, epoch: i64) -> Result<(), Fault> {
    let text = format!(
        "UPDATE lease SET server = {SERVER}, is_synchronous = {IS_SYNCHRONOUS} WHERE name = 'work' AND epoch = $1"
    );
    connection.execute(&text, &[&epoch]).map(drop)
}

/// The time after which a commit must not be followed by anything sent, unless the lease is looked at again.
pub(super) fn is_stale(age: Duration) -> bool {
    age + Duration::from_secs(3) > TTL
}
