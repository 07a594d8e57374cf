//! The versions of the registry's schema. A migration is never changed once it was released; a new one is added.

use rusqlite::Connection;

use super::super::RegistryError;
use super::failure;

/// Marks the file as ours (`PRAGMA application_id`): the letters "flee".
const APPLICATION_ID: i64 = 0x666c_6565;

/// One script for each version, from 1.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/001.sql"),
    include_str!("migrations/002.sql"),
    include_str!("migrations/003.sql"),
    include_str!("migrations/004.sql"),
    include_str!("migrations/005.sql"),
    include_str!("migrations/006.sql"),
    include_str!("migrations/007.sql"),
    include_str!("migrations/008.sql"),
    include_str!("migrations/009.sql"),
    include_str!("migrations/010.sql"),
    include_str!("migrations/011.sql"),
    include_str!("migrations/012.sql"),
    include_str!("migrations/013.sql"),
];

/// The version of the schema that this fleetform reads and writes.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the schema to the newest version, in one transaction, and marks whose registry it is.
pub(super) fn migrate(connection: &mut Connection, location: &str, fleet: &str) -> Result<(), RegistryError> {
    let fail = |e| failure(location, "bring its schema up to date", e);
    let version = version(connection, location)?;
    if version >= SCHEMA_VERSION {
        return check_version(connection, location);
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fail)?;
    // Another process may have migrated between the look and the lock.
    let current: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    if current >= SCHEMA_VERSION {
        return Ok(());
    }
    for (at, script) in MIGRATIONS.iter().enumerate() {
        let at = i64::try_from(at).expect("there are few migrations");
        if at >= current {
            transaction.execute_batch(script).map_err(fail)?;
        }
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(fail)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(fail)?;
    transaction.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('fleet', ?1)", [fleet]).map_err(fail)?;
    transaction.commit().map_err(fail)
}

/// Refuses a file that is no registry or that is of another version.
pub(super) fn check_version(connection: &Connection, location: &str) -> Result<(), RegistryError> {
    let version = version(connection, location)?;
    let (location, known) = (location.to_string(), SCHEMA_VERSION);
    match version.cmp(&known) {
        std::cmp::Ordering::Greater => Err(RegistryError::Newer { location, version, known }),
        std::cmp::Ordering::Less => Err(RegistryError::Older { location, version, known }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// Refuses a file that is no registry.
pub(super) fn check_ours(connection: &Connection, location: &str) -> Result<(), RegistryError> {
    version(connection, location).map(drop)
}

/// Returns the version of the file, 0 for an empty one.
fn version(connection: &Connection, location: &str) -> Result<i64, RegistryError> {
    let fail = |e| failure(location, "read its version", e);
    let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fail)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM main.sqlite_master", [], |row| row.get(0)).map_err(fail)?;
    if id != APPLICATION_ID && (id != 0 || tables > 0) {
        return Err(RegistryError::NotARegistry { location: location.to_string() });
    }
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)
}
