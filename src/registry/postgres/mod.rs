//! A registry in a PostgreSQL database, 14 or newer.
//!
//! Each thread has a connection of its own. Reading is in `devices`, `observe`, `journal`, `marks` and `remembered`;
//! writing in the same files, as functions over a connection within a transaction that `commit` began.
//!
//! A connection may be lost at any moment, also while it commits. A transaction is a value ([`Change`]), so it is done
//! again on another connection, unless the number that it wrote first is there: then it was committed (`writer`). Who
//! may work is a row (`lease`), because a session's lock ends with its connection, and the session's owner does not know.

mod answers;
mod claims;
mod commit;
mod connection;
mod connections;
mod devices;
mod fault;
mod fence;
mod heard;
mod identities;
mod identity;
mod idle;
mod import;
mod indexes;
mod journal;
pub mod json;
mod lease;
mod listener;
mod marks;
mod messages;
mod migrations;
mod observe;
mod outbox;
mod outcome_counts;
mod patch;
mod place;
mod port;
mod remembered;
mod residual;
mod rows;
mod scratch;
mod secrets;
mod settings;
mod single;
mod status;
mod transfer;
mod twin_rows;
mod twins;
mod write;
mod writer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{
    Answer, BranchCopy, Change, Devices, Fence, Flaw, Imports, Journal, NextFile, RegistryError, RegistryIdentity,
    RowSink, RowSource, Store,
};
use crate::model::limits;
use crate::model::secret::SecretKey;
use connection::Connection;
use fault::Fault;
use idle::Idle;
use lease::Held;
use settings::Settings;
use writer::Writer;

pub use migrations::SCHEMA_VERSION;
pub use place::PostgresPlace;
pub use settings::{UrlError, is_url};

/// The time between two tries to connect again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// An open registry in a database.
pub struct PostgresStore {
    settings: Settings,
    fleet: String,
    connection: RefCell<Rc<Connection>>,
    /// Where the connection is kept afterwards.
    idle: Idle,
    /// What this store has committed; `None` for one that only reads.
    writer: RefCell<Option<Writer>>,
    held: Rc<Held>,
    /// True when staged imports are laid over the devices: queries then read the view `fleet`.
    is_overlaid: bool,
    /// True when temporary tables hold what another connection would not have.
    has_staged: Cell<bool>,
}

impl PostgresStore {
    /// Opens for writing over a connection whose schema is up to date.
    fn open(
        settings: Settings,
        fleet: &str,
        held: Rc<Held>,
        (connection, idle): (Rc<Connection>, &Idle),
    ) -> Result<PostgresStore, RegistryError> {
        let writer = Writer::new(&connection).map_err(|fault| fault.into_error(&settings.location, "prepare it"))?;
        Ok(PostgresStore::over(settings, fleet, (connection, idle), Some(writer), held))
    }

    /// Opens for reading; `None` when the database has no registry.
    fn open_for_reading(settings: Settings, fleet: &str, idle: &Idle) -> Result<Option<PostgresStore>, RegistryError> {
        let connection = idle.connect(&settings)?;
        let checked = migrations::check(&connection, &settings.location, fleet);
        let is_there = checked.map_err(|fault| fault.into_error(&settings.location, "read whose it is"))?;
        Ok(is_there.then(|| PostgresStore::over(settings, fleet, (connection, idle), None, Rc::default())))
    }

    fn over(
        settings: Settings,
        fleet: &str,
        (connection, idle): (Rc<Connection>, &Idle),
        writer: Option<Writer>,
        held: Rc<Held>,
    ) -> PostgresStore {
        PostgresStore {
            settings,
            fleet: fleet.to_string(),
            connection: RefCell::new(connection),
            idle: idle.clone(),
            writer: RefCell::new(writer),
            held,
            is_overlaid: false,
            has_staged: Cell::new(false),
        }
    }

    /// Returns the open connection, or makes another one: a server that is restarted, or a standby that takes its place,
    /// is waited for.
    fn connection(&self) -> Result<Rc<Connection>, Fault> {
        let current = Rc::clone(&self.connection.borrow());
        if !current.is_closed() {
            return Ok(current);
        }
        if self.has_staged.get() {
            // What was staged is gone with the connection, so the caller has to begin again.
            return Err(Fault::Registry(RegistryError::Unreachable {
                location: self.settings.location.clone(),
                reason: "the connection was lost while imports were staged".to_string(),
            }));
        }
        let began = now();
        loop {
            match self.reconnect() {
                Ok(connection) => {
                    let connection = Rc::new(connection);
                    *self.connection.borrow_mut() = Rc::clone(&connection);
                    return Ok(connection);
                }
                Err(fault) if fault.may_pass() && began.elapsed() < limits::REGISTRY_PATIENCE => {
                    std::thread::sleep(RECONNECT_PAUSE);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    fn reconnect(&self) -> Result<Connection, Fault> {
        let connection = Connection::open(&self.settings)?;
        migrations::check(&connection, &self.settings.location, &self.fleet)?;
        if let Some(writer) = self.writer.borrow_mut().as_mut() {
            writer.take_over(&connection)?;
        }
        Ok(connection)
    }

    /// Reads, once more on another connection when the first one is lost.
    fn read<T>(&self, doing: &'static str, work: impl Fn(&Connection) -> Result<T, Fault>) -> Result<T, RegistryError> {
        let mut read = self.connection().and_then(|connection| work(&connection));
        if read.as_ref().is_err_and(Fault::is_lost) {
            self.forget_connection();
            read = self.connection().and_then(|connection| work(&connection));
        }
        read.map_err(|fault| self.error(doing, fault))
    }

    /// Does work that cannot be done again: a visitor is not called for the same row twice.
    fn visit<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, RegistryError> {
        let read = self.connection().and_then(|connection| work(&connection));
        read.map_err(|fault| self.error(doing, fault))
    }

    /// Makes sure that the connection is not used again.
    fn forget_connection(&self) {
        self.connection.borrow().forget();
    }

    fn error(&self, doing: &'static str, fault: Fault) -> RegistryError {
        if fault.is_lost() {
            self.forget_connection();
        }
        fault.into_error(&self.settings.location, doing)
    }

    /// Returns the table or view that queries over devices read.
    fn source(&self) -> &'static str {
        if self.is_overlaid { "pg_temp.fleet" } else { "device" }
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if !self.has_staged.get() && !self.is_overlaid {
            self.idle.keep(&self.connection.borrow());
        }
    }
}

impl Store for PostgresStore {
    fn devices(&self) -> &dyn Devices {
        self
    }

    fn journal(&self) -> &dyn Journal {
        self
    }

    fn imports(&self) -> &dyn Imports {
        self
    }

    fn imports_mut(&mut self) -> &mut dyn Imports {
        self
    }

    fn branch_copy(&self) -> &dyn BranchCopy {
        self
    }

    fn commit(&mut self, fence: Fence, changes: &[Change<'_>]) -> Result<Vec<Answer>, RegistryError> {
        self.commit_changes(fence, changes)
    }

    fn keep_files(&mut self, fence: Fence, next: &mut NextFile<'_>) -> Result<bool, RegistryError> {
        self.keep_each(fence, next)
    }

    fn enter_epoch(&mut self, epoch: u64) -> Result<Fence, RegistryError> {
        self.note_epoch(epoch)
    }

    fn identity(&self) -> Result<RegistryIdentity, RegistryError> {
        self.read("read which registry it is", identity::read)
    }

    fn noted_epoch(&self) -> Result<u64, RegistryError> {
        self.read("read the lease", fence::noted_epoch)
    }

    fn secret_key(&self) -> Result<Option<SecretKey>, RegistryError> {
        self.read("read the key of its secrets", secrets::key)
    }

    fn scratch_copy(&self) -> Result<Box<dyn Store>, RegistryError> {
        self.copy_to_scratch()
    }

    fn write_keyless(&self, path: &std::path::Path) -> Result<(), RegistryError> {
        self.copy_to_scratch()?.write_keyless(path)
    }

    fn unload(&self, sink: &mut RowSink<'_>) -> Result<(), RegistryError> {
        self.unload_rows(sink)
    }

    fn flaws(&self) -> Result<Vec<Flaw>, RegistryError> {
        self.contradictions()
    }

    fn load(&mut self, source: &mut RowSource<'_>) -> Result<(), RegistryError> {
        self.load_rows(source)
    }

    fn limit_growth(&mut self, _pages: u32) -> Result<(), RegistryError> {
        // The disk of a server is not ours to limit.
        Ok(())
    }
}

/// Connects, and refuses a server that does not fit.
fn connect(settings: &Settings) -> Result<Connection, RegistryError> {
    let connection = Connection::open(settings).map_err(|fault| fault.into_connect_error(&settings.location))?;
    let checked = migrations::check_server(&connection, &settings.location, wall_clock());
    checked.map_err(|fault| fault.into_error(&settings.location, "look at its server"))?;
    Ok(connection)
}

/// The monotonic clock: how long a server is waited for has nothing to do with the fleet's time.
#[expect(clippy::disallowed_methods, reason = "waiting for a server is outside the fleet's time")]
fn now() -> Instant {
    Instant::now()
}

/// The clock of this machine, which is held against that of the server.
#[expect(clippy::disallowed_methods, reason = "the clocks of two machines are compared")]
fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
