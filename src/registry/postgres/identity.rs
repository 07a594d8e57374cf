//! Which registry this is: rows of `meta`.

use jiff::Timestamp;

use super::super::RegistryIdentity;
use super::connection::Connection;
use super::fault::Fault;
use super::remembered::value_of;
use super::rows::malformed;

/// The key in `meta` that is there while commits may be missing.
pub(super) const MAY_LACK: &str = "may_lack";

/// Returns the identity of a registry.
pub(super) fn read(connection: &Connection) -> Result<RegistryIdentity, Fault> {
    let value = |key: &str| value_of(connection, key)?.ok_or_else(|| malformed(key));
    let sends = value("sends")?;
    let sends = sends.parse().map_err(|_| malformed(&sends))?;
    let may_lack = value_of(connection, MAY_LACK)?.is_some();
    Ok(RegistryIdentity { id: value("identity")?, sends, may_lack })
}

/// Counts a commit that marks devices as sent.
pub(super) fn count_sends(connection: &Connection) -> Result<(), Fault> {
    let text = "UPDATE meta SET value = (value::bigint + 1)::text WHERE key = 'sends'";
    connection.execute(text, &[]).map(drop)
}

/// Takes the identity of another registry.
pub(super) fn inherit(connection: &Connection, identity: &str) -> Result<(), Fault> {
    connection.execute("UPDATE meta SET value = $1 WHERE key = 'identity'", &[&identity]).map(drop)
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
