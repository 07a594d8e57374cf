//! One connection to a database, for one thread: the asynchronous client of `tokio-postgres` on a runtime of its own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, future, stream};
use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{BorrowToSql, ToSql};
use tokio_postgres::{AsyncMessage, Client, CopyInSink, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::sql::Param;
use super::fault::Fault;
use super::settings::Settings;

/// The schema that has the tables of a registry.
pub(super) const SCHEMA: &str = "fleetform";

/// What a session of ours is like. A cursor is read to its end.
const SESSION: &str = "SET search_path = fleetform, pg_temp; SET cursor_tuple_fraction = 1; SET jit = off;
    SET TIME ZONE 'UTC'; SET standard_conforming_strings = on; SET bytea_output = 'hex';
    SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s';
    SET default_transaction_isolation = 'read committed'";

/// Rows of a cursor that are fetched at once.
const FETCHED_AT_ONCE: usize = 2_000;
/// Statements that are kept prepared.
const STATEMENTS_MAX: usize = 200;

/// Bytes of a copy that are sent at once.
const COPIED_AT_ONCE: usize = 64 << 10;

/// Rows on their way in.
pub(super) struct Copy {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    buffer: BytesMut,
}

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// An open connection.
pub(super) struct Connection {
    // Dropped before the runtime that drives it.
    client: Client,
    statements: RefCell<BTreeMap<String, Statement>>,
    /// A commit was not waited for as the server is set up to do (see [`Connection::is_unsure`]).
    unsure: Arc<AtomicBool>,
    /// Snapshots that are being read, each within the one before; they share a transaction.
    snapshots: Cell<u32>,
    is_forgotten: Cell<bool>,
    runtime: Runtime,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The server cannot be reached, or does not let us in.
    pub fn open(settings: &Settings) -> Result<Connection, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Fault::Io)?;
        let unsure = Arc::new(AtomicBool::new(false));
        let mut config = settings.config.clone();
        if config.get_application_name().is_none() {
            config.application_name("fleetform");
        }
        let client = match &settings.tls {
            None => {
                let (client, connection) = runtime.block_on(config.connect(NoTls)).map_err(Fault::Server)?;
                runtime.spawn(drive(connection, Arc::clone(&unsure)));
                client
            }
            Some(tls) => {
                let tls = MakeRustlsConnect::new(rustls::ClientConfig::clone(tls));
                let (client, connection) = runtime.block_on(config.connect(tls)).map_err(Fault::Server)?;
                runtime.spawn(drive(connection, Arc::clone(&unsure)));
                client
            }
        };
        let statements = RefCell::default();
        let connection =
            Connection { client, statements, unsure, snapshots: Cell::new(0), is_forgotten: Cell::new(false), runtime };
        connection.batch(SESSION)?;
        Ok(connection)
    }

    /// Returns true when the connection is gone, or was forgotten.
    pub fn is_closed(&self) -> bool {
        self.is_forgotten.get() || self.client.is_closed()
    }

    /// Makes sure that the connection is not used again.
    pub fn forget(&self) {
        self.is_forgotten.set(true);
    }

    /// Returns true when the server has told, since the last call, that a commit was not waited for until a synchronous
    /// standby had it.
    pub fn is_unsure(&self) -> bool {
        self.unsure.swap(false, Ordering::SeqCst)
    }

    /// Executes statements without parameters.
    pub fn batch(&self, text: &str) -> Result<(), Fault> {
        Ok(self.runtime.block_on(self.client.batch_execute(text))?)
    }

    /// Executes a statement, and returns how many rows it changed.
    pub fn execute(&self, text: &str, params: Params<'_>) -> Result<u64, Fault> {
        let statement = self.prepared(text)?;
        Ok(self.runtime.block_on(self.client.execute(&statement, params))?)
    }

    /// Returns the rows of a statement.
    pub fn rows(&self, text: &str, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        let statement = self.prepared(text)?;
        Ok(self.runtime.block_on(self.client.query(&statement, params))?)
    }

    /// Returns the first row of a statement.
    pub fn row(&self, text: &str, params: Params<'_>) -> Result<Option<Row>, Fault> {
        Ok(self.rows(text, params)?.into_iter().next())
    }

    /// Returns the one row of a statement that always has one.
    pub fn one(&self, text: &str, params: Params<'_>) -> Result<Row, Fault> {
        self.row(text, params)?.ok_or_else(|| Fault::Malformed("no row".to_string()))
    }

    /// Calls `visit` for the rows of a statement, as they come. Nothing else can be asked meanwhile.
    pub fn stream<P, I>(
        &self,
        text: &str,
        params: I,
        mut visit: impl FnMut(&Row) -> Result<(), Fault>,
    ) -> Result<(), Fault>
    where
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator,
    {
        let statement = self.prepared(text)?;
        self.runtime.block_on(async {
            let mut rows = pin!(self.client.query_raw(&statement, params).await?);
            while let Some(row) = rows.try_next().await? {
                visit(&row)?;
            }
            Ok(())
        })
    }

    /// Calls `visit` for the rows of a statement without parameters, one in memory at a time. It may wait for another
    /// connection, which [`Connection::stream`] does not let it: one runtime does not wait inside another.
    pub fn stream_apart(&self, text: &str, mut visit: impl FnMut(&Row) -> Result<(), Fault>) -> Result<(), Fault> {
        let statement = self.prepared(text)?;
        let rows = self.client.query_raw(&statement, std::iter::empty::<&str>());
        let mut rows = pin!(self.runtime.block_on(rows)?);
        while let Some(row) = self.runtime.block_on(rows.try_next())? {
            visit(&row)?;
        }
        Ok(())
    }

    /// Calls `visit` for the rows of a statement until it breaks. It may ask this connection other things meanwhile; it
    /// sees what was there when the reading began.
    pub fn each(
        &self,
        text: &str,
        params: Params<'_>,
        visit: &mut dyn FnMut(&Row) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        self.in_snapshot(|| self.read_cursor(self.snapshots.get(), text, params, visit))
    }

    /// Reads in one snapshot: whatever is read by `work` is as it was when the outermost snapshot began.
    pub fn in_snapshot<T>(&self, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let depth = self.snapshots.get();
        if depth == 0 {
            self.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        }
        self.snapshots.set(depth + 1);
        let done = work();
        self.snapshots.set(depth);
        let ended = if depth == 0 { self.batch("ROLLBACK") } else { Ok(()) };
        done.and_then(|done| ended.map(|()| done))
    }

    fn read_cursor(
        &self,
        depth: u32,
        text: &str,
        params: Params<'_>,
        visit: &mut dyn FnMut(&Row) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        self.execute(&format!("DECLARE rows_{depth} NO SCROLL CURSOR FOR {text}"), params)?;
        // The statement that fetches is not kept: its rows are those of the cursor that it was prepared with.
        let fetch =
            self.runtime.block_on(self.client.prepare(&format!("FETCH {FETCHED_AT_ONCE} FROM rows_{depth}")))?;
        loop {
            let rows = self.runtime.block_on(self.client.query(&fetch, &[]))?;
            for row in &rows {
                if visit(row)?.is_break() {
                    // What made it break may have ended the transaction, which is the error to tell then.
                    drop(self.batch(&format!("CLOSE rows_{depth}")));
                    return Ok(());
                }
            }
            if rows.len() < FETCHED_AT_ONCE {
                return self.batch(&format!("CLOSE rows_{depth}"));
            }
        }
    }

    /// Begins to copy rows in. Nothing else can be asked until it is finished.
    pub fn begin_copy(&self, text: &str) -> Result<Copy, Fault> {
        let sink = Box::pin(self.runtime.block_on(self.client.copy_in(text))?);
        Ok(Copy { sink, buffer: BytesMut::with_capacity(COPIED_AT_ONCE + 4_096) })
    }

    /// Sends bytes of rows.
    pub fn send_copy(&self, copy: &mut Copy, rows: &[u8]) -> Result<(), Fault> {
        copy.buffer.extend_from_slice(rows);
        if copy.buffer.len() >= COPIED_AT_ONCE {
            let piece = copy.buffer.split().freeze();
            self.runtime.block_on(copy.sink.send(piece))?;
        }
        Ok(())
    }

    /// Ends a copy, and returns how many rows it had. One that is dropped before has none.
    pub fn finish_copy(&self, mut copy: Copy) -> Result<u64, Fault> {
        Ok(self.runtime.block_on(async {
            copy.sink.send(copy.buffer.freeze()).await?;
            copy.sink.as_mut().finish().await
        })?)
    }

    /// Returns a statement, prepared once. Data definition makes the server prepare it anew by itself.
    fn prepared(&self, text: &str) -> Result<Statement, Fault> {
        if let Some(statement) = self.statements.borrow().get(text) {
            return Ok(statement.clone());
        }
        let statement = self.runtime.block_on(self.client.prepare(text))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(text.to_string(), statement.clone());
        Ok(statement)
    }

    /// Begins a transaction by what `beginning` says, and returns the rows of its first statements, which are sent with
    /// it: a statement does not wait for the answer to the one before.
    ///
    /// # Errors
    /// That of the first statement that fails. The transaction is to be rolled back.
    pub fn begin(&self, beginning: &str, statements: &[(&str, Params<'_>)]) -> Result<Vec<Vec<Row>>, Fault> {
        self.together(statements, Some(beginning))
    }

    /// Returns the rows of statements that do not wait for each other's answers.
    ///
    /// # Errors
    /// That of the first statement that fails.
    pub fn all(&self, statements: &[(&str, Params<'_>)]) -> Result<Vec<Vec<Row>>, Fault> {
        self.together(statements, None)
    }

    fn together(&self, statements: &[(&str, Params<'_>)], beginning: Option<&str>) -> Result<Vec<Vec<Row>>, Fault> {
        let prepared = statements.iter().map(|(text, _)| self.prepared(text)).collect::<Result<Vec<_>, _>>()?;
        let asked = prepared.iter().zip(statements);
        let asked = asked.map(|(statement, (_, params))| self.client.query(statement, params));
        let begun = future::OptionFuture::from(beginning.map(|text| self.client.batch_execute(text)));
        // Each is sent when it is polled for the first time, in this order.
        let (begun, answers) = self.runtime.block_on(future::join(begun, future::join_all(asked)));
        begun.transpose()?;
        answers.into_iter().map(|rows| Ok(rows?)).collect()
    }

    /// Begins a transaction, does work in it, and commits it unless the work fails.
    pub fn transaction<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        self.batch("BEGIN")?;
        match work(self) {
            Ok(done) => self.batch("COMMIT").map(|()| done),
            Err(fault) => {
                // Of a connection that is gone the server does it by itself.
                drop(self.batch("ROLLBACK"));
                Err(fault)
            }
        }
    }
}

/// Returns parameters of a lowered condition as the client takes them.
pub(super) fn bound(params: &[Param]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(Param::bound).collect()
}

/// Drives a connection, and listens for what the server says beside its answers.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, unsure: Arc<AtomicBool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut messages = pin!(stream::poll_fn(move |context| connection.poll_message(context)));
    while let Some(message) = messages.next().await {
        match message {
            // A wait for a synchronous standby that was canceled is a success with a warning
            // (`SyncRepWaitForLSN` in the source of PostgreSQL).
            Ok(AsyncMessage::Notice(notice))
                if [&SqlState::QUERY_CANCELED, &SqlState::ADMIN_SHUTDOWN].contains(&notice.code()) =>
            {
                unsure.store(true, Ordering::SeqCst);
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
