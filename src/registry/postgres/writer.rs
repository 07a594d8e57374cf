//! What a store has committed: a row with the number of its last transaction, written first in each.
//!
//! 1. A transaction writes number 7, and the connection is lost while it commits.
//! 2. On another connection the row is looked at, once nobody writes it. It has 7: it was committed. It has 6: it was
//!    not, and is done again.
//! 3. It has 5, or is gone: a commit that was acknowledged is lost. The server is a standby that did not have it yet, or
//!    a backup.

use tokio_postgres::Row;

use super::connection::Connection;
use super::fault::Fault;
use crate::model::encoding::hex;

/// Rows of writers that are not seen for so long are removed.
const KEPT: &str = "90 days";

/// Writes the number of the next transaction; its parameters are the id of a writer and the number. Waits for one that
/// may still be under way on a connection that was lost.
pub(super) const NUMBER: &str = "UPDATE writer SET last = $2::bigint, seen_at = now()
     WHERE id = $1 AND last = $2::bigint - 1 RETURNING last";

/// A store that writes.
pub(super) struct Writer {
    /// 32 hex digits, unlike those of all other writers.
    id: String,
    /// The number of the last transaction that is known to be committed.
    last: i64,
    /// The process of the server that has our connection, and when that began.
    backend: (i32, String),
    /// Nothing was committed on this connection yet, and something on another one.
    is_elsewhere: bool,
}

/// What is known of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has begun, and its number is written.
    Begun,
    /// It was committed before.
    Committed,
}

impl Writer {
    /// Adds a writer.
    pub fn new(connection: &Connection) -> Result<Writer, Fault> {
        let mut drawn = [0; 16];
        getrandom::fill(&mut drawn).map_err(|error| Fault::Io(std::io::Error::other(error.to_string())))?;
        let id = hex(&drawn);
        let forget = format!("DELETE FROM writer WHERE seen_at < now() - interval '{KEPT}'");
        let add = "INSERT INTO writer (id, last, seen_at) VALUES ($1, 0, now())";
        let answers = connection.all(&[(forget.as_str(), &[]), (add, &[&id]), (BACKEND, &[])])?;
        Ok(Writer { id, last: 0, backend: backend_of(answers.last())?, is_elsewhere: false })
    }

    /// Takes over on another connection: ends what the server may still do for the former one.
    pub fn take_over(&mut self, connection: &Connection) -> Result<(), Fault> {
        let (process, began) = &self.backend;
        let text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE pid = $1 AND backend_start::text = $2 AND usename = current_user";
        let answers = connection.all(&[(text, &[process, began]), (BACKEND, &[])])?;
        self.backend = backend_of(answers.last())?;
        self.is_elsewhere = true;
        Ok(())
    }

    /// Returns the parameters of [`NUMBER`].
    pub fn next(&self) -> (&str, i64) {
        (&self.id, self.last + 1)
    }

    /// Returns what is known of the next transaction, in which [`NUMBER`] has been executed. `is_written` is true when
    /// that has written a row.
    ///
    /// # Errors
    /// [`Fault::Replaced`] when acknowledged commits are gone.
    pub fn standing(&self, connection: &Connection, is_written: bool) -> Result<Standing, Fault> {
        if is_written {
            return Ok(Standing::Begun);
        }
        let next = self.last + 1;
        let row = connection.row("SELECT last FROM writer WHERE id = $1", &[&self.id])?;
        match row.map(|row| row.try_get::<_, i64>(0)).transpose()? {
            Some(last) if last == next => Ok(Standing::Committed),
            Some(_) | None => Err(Fault::Replaced),
        }
    }

    /// Notes that the transaction with the next number is committed.
    pub fn committed(&mut self) {
        (self.last, self.is_elsewhere) = (self.last + 1, false);
    }

    /// Returns true when the next commit is the first one on another connection than before.
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }
}

/// The process of the server that has a connection, and when that began.
const BACKEND: &str = "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()";

fn backend_of(rows: Option<&Vec<Row>>) -> Result<(i32, String), Fault> {
    let row = rows.and_then(|rows| rows.first()).ok_or_else(|| Fault::Malformed("no row".to_string()))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
