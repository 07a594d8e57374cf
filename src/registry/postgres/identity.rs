//! Which registry this is: rows of `meta`.

use jiff::Timestamp;

use super::super::meta::{COPY_OF, GAVE_UP, IDENTITY};
use super::super::{Moved, RegistryIdentity};
use super::connection::Connection;
use super::fault::Fault;
use super::remembered::{set_value, value_of};
use super::rows::malformed;

/// The key in `meta` that is there while commits may be missing.
pub(super) const MAY_LACK: &str = "may_lack";

/// Returns the identity of a registry.
pub(super) fn read(connection: &Connection) -> Result<RegistryIdentity, Fault> {
    let value = |key: &str| value_of(connection, key)?.ok_or_else(|| malformed(key));
    let sends = value("sends")?;
    let sends = sends.parse().map_err(|_| malformed(&sends))?;
    let may_lack = value_of(connection, MAY_LACK)?.is_some();
    let moved = Moved::of_values(value_of(connection, COPY_OF)?, value_of(connection, GAVE_UP)?.as_deref());
    Ok(RegistryIdentity { id: value(IDENTITY)?, sends, may_lack, moved })
}

/// Counts a commit that marks devices as sent.
pub(super) const COUNT_SENDS: &str = "UPDATE meta SET value = (value::bigint + 1)::text WHERE key = 'sends'";

/// Takes the identity of another registry.
pub(super) fn inherit(connection: &Connection, identity: &str) -> Result<(), Fault> {
    set_value(connection, IDENTITY, identity)?;
    connection.execute("DELETE FROM meta WHERE key IN ($1, $2)", &[&COPY_OF, &GAVE_UP]).map(drop)
}

/// Takes a new identity in the place of one that a copy gets.
pub(super) fn give_up(connection: &Connection, identity: &str, to: &str) -> Result<(), Fault> {
    let before = value_of(connection, IDENTITY)?.ok_or_else(|| malformed(IDENTITY))?;
    set_value(connection, GAVE_UP, &format!("{before} {to}"))?;
    set_value(connection, IDENTITY, identity)?;
    connection.execute("DELETE FROM meta WHERE key = $1", &[&COPY_OF]).map(drop)
}

/// Marks devices as sent of which it is not known whether they were, given as (run, end of the ordinals), and counts as
/// many sends as a lost registry had.
pub(super) fn catch_up(connection: &Connection, sends: u64, runs: &[(i64, u32)], at: Timestamp) -> Result<(), Fault> {
    let mark = "INSERT INTO sent (run_id, ordinal, attempt, sent_at)
        SELECT $1, ordinal, 1, $3 FROM generate_series(0, $2::bigint - 1) AS t (ordinal)
        WHERE NOT EXISTS (SELECT 1 FROM outcome AS o WHERE o.run_id = $1 AND o.ordinal = t.ordinal)
        ON CONFLICT (run_id, ordinal) DO UPDATE SET waits = 0";
    for (run_id, end) in runs {
        connection.execute(mark, &[run_id, &i64::from(*end), &at.as_microsecond()])?;
    }
    connection.execute("DELETE FROM meta WHERE key = $1", &[&MAY_LACK])?;
    let text = "UPDATE meta SET value = $1::bigint::text WHERE key = 'sends' AND value::bigint < $1::bigint";
    connection.execute(text, &[&i64::try_from(sends).unwrap_or(i64::MAX)]).map(drop)
}
