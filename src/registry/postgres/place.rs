//! The database of a registry that is not open.

use std::rc::Rc;

use jiff::Timestamp;

use super::super::{ExclusionFailure, Exclusive, Listening, RegistryError, Store, StorePlace, sqlite};
use super::connection::Connection;
use super::idle::Idle;
use super::lease::{self, Held, Lease};
use super::listener::Listener;
use super::settings::Settings;
use super::{PostgresStore, UrlError, migrations};

/// The registry of a fleet in a database. Stores that one place has opened write under the lease that it has taken.
pub struct PostgresPlace {
    settings: Settings,
    fleet: String,
    held: Rc<Held>,
    /// Connections to the server that takes writes.
    writing: Idle,
    reading: Idle,
}

impl PostgresPlace {
    /// Returns the place of a fleet's registry.
    ///
    /// # Errors
    /// The URL is none, or it names files that cannot be used.
    pub fn new(url: &str, fleet: &str) -> Result<PostgresPlace, UrlError> {
        Ok(PostgresPlace {
            settings: Settings::parse(url)?,
            fleet: fleet.to_string(),
            held: Rc::default(),
            writing: Idle::default(),
            reading: Idle::default(),
        })
    }
}

impl PostgresPlace {
    /// Connects to the server that takes writes, with a schema that is up to date.
    fn prepared(&self) -> Result<(Rc<Connection>, Settings), RegistryError> {
        let settings = self.settings.for_writing();
        let location = &settings.location;
        let connection = self.writing.connect(&settings)?;
        let prepared = migrations::prepare(&connection, location, &self.fleet);
        prepared.map_err(|fault| fault.into_error(location, "prepare it"))?;
        Ok((connection, settings))
    }
}

impl StorePlace for PostgresPlace {
    fn location(&self) -> String {
        self.settings.location.clone()
    }

    fn is_there(&self) -> Result<bool, RegistryError> {
        let location = &self.settings.location;
        let connection = self.reading.connect(&self.settings)?;
        let found = connection.one("SELECT to_regclass('fleetform.meta') IS NOT NULL", &[]);
        self.reading.keep(&connection);
        found.and_then(|row| Ok(row.try_get(0)?)).map_err(|fault| fault.into_error(location, "look for it"))
    }

    fn open(&self) -> Result<Box<dyn Store>, RegistryError> {
        let (connection, settings) = self.prepared()?;
        let connection = (connection, &self.writing);
        Ok(Box::new(PostgresStore::open(settings, &self.fleet, Rc::clone(&self.held), connection)?))
    }

    fn open_for_reading(&self) -> Result<Box<dyn Store>, RegistryError> {
        match PostgresStore::open_for_reading(self.settings.clone(), &self.fleet, &self.reading)? {
            Some(store) => Ok(Box::new(store)),
            // Nothing is made: a registry in memory that is as empty.
            None => Ok(Box::new(sqlite::SqliteStore::in_memory(self.location(), &self.fleet)?)),
        }
    }

    fn keep_open(&self) {
        // Connections to a server are kept anyway.
    }

    fn close_kept(&self) {}

    fn state(&self, _: Timestamp) -> Option<String> {
        // Others write there at any time.
        None
    }

    fn holder(&self) -> Option<String> {
        let connection = self.writing.connect(&self.settings.for_writing()).ok()?;
        let holder = lease::holder(&connection);
        self.writing.keep(&connection);
        holder.ok().flatten()
    }

    fn exclude(&self, owner: &str) -> Result<Rc<dyn Exclusive>, ExclusionFailure> {
        let (connection, settings) = self.prepared().map_err(ExclusionFailure::Failed)?;
        Ok(Rc::new(Lease::take((connection, &self.writing), &settings, Rc::clone(&self.held), owner)?))
    }

    fn listen(&self, owner: &str) -> Result<Rc<dyn Listening>, ExclusionFailure> {
        let (connection, settings) = self.prepared().map_err(ExclusionFailure::Failed)?;
        Ok(Rc::new(Listener::take((connection, &self.writing), &settings, owner)?))
    }
}
