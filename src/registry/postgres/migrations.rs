//! The versions of the registry's schema in a database. A migration is never changed once it was released; a new one is
//! added.

use tokio_postgres::error::SqlState;

use super::super::RegistryError;
use super::connection::{Connection, SCHEMA};
use super::fault::Fault;

/// One script for each version, from 1.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/001.sql"),
    include_str!("migrations/002.sql"),
    include_str!("migrations/003.sql"),
    include_str!("migrations/004.sql"),
    include_str!("migrations/005.sql"),
    include_str!("migrations/006.sql"),
];

/// The version of the schema that this fleetform reads and writes.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// The lock under which the schema is changed: "fleetfor" as a number. No other program has a reason to take it.
const MIGRATION_LOCK: i64 = 0x666c_6565_7466_6f72;

/// The oldest server that is used: `gen_random_uuid()` and hashed `= ANY` are newer than those before.
const SERVER_MIN: i32 = 140_000;
/// A clock that is further away than this is not set.
const CLOCK_SKEW_MAX: i64 = 60;

/// Brings the schema to the newest version, and refuses a registry of a newer one or of another fleet.
pub(super) fn prepare(connection: &Connection, location: &str, fleet: &str) -> Result<(), Fault> {
    let mut found = version(connection, location)?;
    if found.is_none_or(|version| version < SCHEMA_VERSION) {
        migrate(connection, location, fleet)?;
        found = version(connection, location)?;
    }
    check_found(found, connection, location, fleet).map(drop)
}

/// Brings the schema to the newest version in one transaction, and marks whose registry it is.
fn migrate(connection: &Connection, location: &str, fleet: &str) -> Result<(), Fault> {
    connection.transaction(|connection| {
        connection.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK])?;
        // Another process may have migrated between the look and the lock.
        let current = version(connection, location)?;
        if current.is_some_and(|version| version >= SCHEMA_VERSION) {
            return Ok(());
        }
        let has_schema: bool = connection.one("SELECT to_regnamespace($1) IS NOT NULL", &[&SCHEMA])?.try_get(0)?;
        // The right to make one is asked for even where it is there.
        if current.is_none() && !has_schema {
            connection.batch(&format!("CREATE SCHEMA {SCHEMA}"))?;
        }
        become_owner(connection)?;
        for (at, script) in MIGRATIONS.iter().enumerate() {
            if i64::try_from(at).is_ok_and(|at| at >= current.unwrap_or(0)) {
                connection.batch(script)?;
            }
        }
        let note =
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        connection.execute(note, &[&"schema_version", &SCHEMA_VERSION.to_string()])?;
        let note = "INSERT INTO meta (key, value) VALUES ('fleet', $1) ON CONFLICT (key) DO NOTHING";
        connection.execute(note, &[&fleet])?;
        Ok(())
    })
}

/// Becomes the owner of the schema until the transaction is over, where that is a role that we are a member of: what is
/// made belongs to it then, and not to the one member that came first.
fn become_owner(connection: &Connection) -> Result<(), Fault> {
    let text = "SELECT format('SET LOCAL ROLE %I', pg_get_userbyid(nspowner)) FROM pg_catalog.pg_namespace
                WHERE nspname = $1 AND pg_has_role(nspowner, 'MEMBER') AND pg_get_userbyid(nspowner) <> current_user";
    match connection.row(text, &[&SCHEMA])? {
        Some(row) => connection.batch(row.try_get(0)?),
        None => Ok(()),
    }
}

/// Refuses a registry of another version or of another fleet. Returns false for a database that has none.
pub(super) fn check(connection: &Connection, location: &str, fleet: &str) -> Result<bool, Fault> {
    check_found(version(connection, location)?, connection, location, fleet)
}

fn check_found(found: Option<i64>, connection: &Connection, location: &str, fleet: &str) -> Result<bool, Fault> {
    let Some(version) = found else { return Ok(false) };
    let (location, known) = (location.to_string(), SCHEMA_VERSION);
    match version.cmp(&known) {
        std::cmp::Ordering::Greater => return Err(RegistryError::Newer { location, version, known }.into()),
        std::cmp::Ordering::Less => return Err(RegistryError::Older { location, version, known }.into()),
        std::cmp::Ordering::Equal => {}
    }
    let known = connection.row("SELECT value FROM meta WHERE key = 'fleet'", &[])?;
    match known.map(|row| row.try_get::<_, String>(0)).transpose()? {
        Some(known) if known != fleet => Err(RegistryError::Foreign { location, known }.into()),
        Some(_) | None => Ok(true),
    }
}

/// Refuses a server that cannot hold a registry.
pub(super) fn check_server(connection: &Connection, location: &str, now: jiff::Timestamp) -> Result<(), Fault> {
    let text = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                       current_setting('server_encoding'), extract(epoch FROM clock_timestamp())::bigint,
                       -- A commit that may be lost would send twice.
                       CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                            THEN set_config('synchronous_commit', 'on', false) END";
    let row = connection.one(text, &[])?;
    let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    let (encoding, clock): (String, i64) = (row.try_get(2)?, row.try_get(3)?);
    match unfit((number, &version), &encoding, clock - now.as_second()) {
        Some((what, help)) => Err(RegistryError::Unfit { location: location.to_string(), what, help }.into()),
        None => Ok(()),
    }
}

/// Returns why a server cannot hold a registry, with what to do; `None` for one that can. `skew` is how many seconds its
/// clock is ahead of ours.
fn unfit((number, version): (i32, &str), encoding: &str, skew: i64) -> Option<(String, &'static str)> {
    if number < SERVER_MIN {
        let what = format!("the server is PostgreSQL {version}, and 14 or newer is needed");
        return Some((what, "Upgrade the server, or name another one."));
    }
    if encoding != "UTF8" {
        let what = format!("its encoding is {encoding}, and UTF8 is needed");
        return Some((what, "Make the database with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`."));
    }
    if skew.abs() > CLOCK_SKEW_MAX {
        let way = if skew > 0 { "ahead of" } else { "behind" };
        let what = format!("the clock of its server is {} s {way} the one of this machine", skew.abs());
        return Some((what, "Set both clocks, for example with NTP."));
    }
    None
}

/// Returns the version of the schema; `None` when there is none.
fn version(connection: &Connection, location: &str) -> Result<Option<i64>, Fault> {
    let text = "SELECT to_regclass('fleetform.meta') IS NOT NULL,
                       EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c
                               JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                               WHERE n.nspname = 'fleetform')";
    let row = connection.one(text, &[])?;
    let (is_ours, has_tables): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    if !is_ours {
        let location = location.to_string();
        return if has_tables { Err(RegistryError::NotARegistry { location }.into()) } else { Ok(None) };
    }
    let not_ours = || RegistryError::NotARegistry { location: location.to_string() };
    let version = match connection.row("SELECT value FROM fleetform.meta WHERE key = 'schema_version'", &[]) {
        // A table of somebody else.
        Err(Fault::Server(error)) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => return Err(not_ours().into()),
        version => version?,
    };
    let version = version.and_then(|row| row.try_get::<_, String>(0).ok());
    match version.and_then(|text| text.parse().ok()) {
        Some(version) => Ok(Some(version)),
        None => Err(not_ours().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_hold_a_registry_is_told_why() {
        let what = |number, version, encoding, skew| unfit((number, version), encoding, skew).map(|(what, _)| what);
        let told = |text: &str| Some(text.to_string());
        assert_eq!(what(140_000, "14.0", "UTF8", 60), None);
        assert_eq!(what(180_001, "18.1 (Debian)", "UTF8", -60), None);
        assert_eq!(
            what(130_014, "13.14", "UTF8", 0),
            told("the server is PostgreSQL 13.14, and 14 or newer is needed")
        );
        assert_eq!(what(140_000, "14.0", "SQL_ASCII", 0), told("its encoding is SQL_ASCII, and UTF8 is needed"));
        let clock = "the clock of its server is 61 s";
        assert_eq!(what(140_000, "14.0", "UTF8", 61), told(&format!("{clock} ahead of the one of this machine")));
        assert_eq!(what(140_000, "14.0", "UTF8", -61), told(&format!("{clock} behind the one of this machine")));
    }
}
