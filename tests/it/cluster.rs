//! PostgreSQL to test with, on a free port of this machine. A cluster of a test ends when its value is dropped. The one
//! that all tests of a binary share ends, as every other one, when the process ends, however that comes about.

mod programs;

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use rustix::process::{Signal, getuid};
use tokio_postgres::error::SqlState;

use crate::servers::{Process, answers, start_on_free_port, wait_until};
use programs::{Watcher, give_to_user, initialize, program, server, user};

/// The settings of every cluster. Nothing is kept from a power cut, so no commit waits for the disk; `fsync=on` behind
/// these takes it back.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=300",
    "shared_buffers=64MB",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "autovacuum_naptime=1h",
    "max_wal_size=4GB",
    "log_min_messages=fatal",
    "timezone=UTC",
];

/// A server of PostgreSQL with a data folder of its own.
pub struct Cluster {
    // Dropped in this order.
    process: Process,
    watcher: Watcher,
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
}

impl Cluster {
    /// Starts a server with settings beyond the usual ones, each as `name=value`.
    pub fn start(settings: &[&str]) -> Cluster {
        let folder = tempfile::tempdir().unwrap().keep();
        let watcher = Watcher::start(&folder);
        give_to_user(&folder);
        initialize(&folder);
        let settings: Vec<String> = SETTINGS.iter().chain(settings).map(ToString::to_string).collect();
        let (process, port) = start_on_free_port(|port| server(&folder, port, &settings));
        let cluster = Cluster { process, watcher, folder, port, settings };
        cluster.wait_until_ready();
        cluster
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database, and returns its URL. `options` are those of `CREATE DATABASE`, such as a locale.
    pub fn make_database(&self, name: &str, options: &str) -> String {
        // Through the log, as PostgreSQL 15 does it by itself: 40 ms, and 100 ms as files.
        self.run(&format!("CREATE DATABASE {name} TEMPLATE template0 {options}"));
        self.url(name)
    }

    /// Runs statements in the database `postgres`.
    pub fn run(&self, statements: &str) {
        run(&self.url("postgres"), statements);
    }

    /// Starts a standby that follows this server.
    pub fn standby(&self) -> Cluster {
        let folder = tempfile::tempdir().unwrap().keep();
        let watcher = Watcher::start(&folder);
        give_to_user(&folder);
        let mut command = program("pg_basebackup");
        command.args(["--no-sync", "-R", "-X", "stream", "-c", "fast", "-U", "postgres", "-h", "127.0.0.1"]);
        let copied = command.args(["-p", &self.port.to_string(), "-D"]).arg(folder.join("data")).output().unwrap();
        assert!(copied.status.success(), "{command:?}: {}", String::from_utf8_lossy(&copied.stderr));
        let settings = self.settings.clone();
        let (process, port) = start_on_free_port(|port| server(&folder, port, &settings));
        let cluster = Cluster { process, watcher, folder, port, settings };
        cluster.wait_until_ready();
        cluster
    }

    /// Kills it and all of its processes: nothing of its memory is kept.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it in order: it cuts off its clients, and writes all that it has.
    pub fn stop(&mut self) {
        self.process.signal(Signal::INT);
        wait_until("PostgreSQL stops", || self.process.has_ended());
    }

    /// Starts it again on the same port, after it was killed or stopped.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start(&mut server(&self.folder, self.port, &self.settings));
        self.wait_until_ready();
    }

    /// Waits until it lets clients in. Its port answers earlier, while it recovers.
    fn wait_until_ready(&self) {
        let url = self.url("postgres");
        wait_until("PostgreSQL lets clients in", || answers(self.port) && block_on(connect(&url)).is_ok());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.process.kill();
        self.watcher.end();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns the shared cluster of this test binary.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(&[]))
}

/// Copies a database of the shared cluster, which nobody may be connected to for longer than that takes, and returns the
/// URL of the copy. It is dropped as those of [`fresh_database`].
pub fn copy_database(url: &str) -> String {
    let copy = fresh_database();
    replace_database(&copy, url);
    copy
}

/// Puts a copy of a database in the place of another one.
pub fn replace_database(url: &str, by: &str) {
    let name = |url: &str| url.rsplit('/').next().unwrap().to_string();
    let (name, by) = (name(url), name(by));
    shared().run(&format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{by}'"));
    shared().run(&format!("DROP DATABASE {name} WITH (FORCE)"));
    shared().run(&format!("CREATE DATABASE {name} TEMPLATE {by}"));
}

/// Returns the URL of an empty database of the shared cluster. It goes to another test when the thread ends that asked
/// for it, which a test's does at its end.
pub fn fresh_database() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = emptied().unwrap_or_else(|| {
        let name = format!("t{}", COUNT.fetch_add(1, Ordering::SeqCst));
        shared().make_database(&name, "");
        name
    });
    let url = shared().url(&name);
    MADE.with_borrow_mut(|made| made.0.push(name));
    url
}

/// Databases of tests that have ended. To make one takes 40 ms of this machine and to drop it 100 ms, because all that
/// is in memory is written.
static USED: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    static MADE: RefCell<Made> = const { RefCell::new(Made(Vec::new())) };
}

/// The databases that a thread uses.
struct Made(Vec<String>);

impl Drop for Made {
    fn drop(&mut self) {
        USED.lock().unwrap().append(&mut self.0);
    }
}

/// Empties a database of a test that has ended; `None` when there is none that can be.
fn emptied() -> Option<String> {
    loop {
        let name = USED.lock().unwrap().pop()?;
        if block_on(empty(&shared().url(&name))).is_ok() {
            return Some(name);
        }
        // A test made it read-only, say.
        shared().run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    }
}

/// Takes everything out of a database that a registry, or a test, puts into one.
async fn empty(url: &str) -> Result<(), tokio_postgres::Error> {
    let client = connect(url).await?;
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    client.batch_execute(others).await?;
    let left = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
                    AND nspname NOT IN ('information_schema', 'public', 'fleetform'))
                OR EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace)
                OR EXISTS (SELECT 1 FROM pg_db_role_setting)";
    client.batch_execute("DROP SCHEMA IF EXISTS fleetform CASCADE").await?;
    let is_other: bool = client.query_one(left, &[]).await?.get(0);
    if is_other {
        client.batch_execute("SELECT 1 / 0").await?;
    }
    Ok(())
}

/// Runs a future of the client.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs statements in a database, again when they lose a deadlock against what another connection does.
pub fn run(url: &str, statements: &str) {
    block_on(async {
        let client = connect(url).await.unwrap();
        for _ in 0..10 {
            match client.batch_execute(statements).await {
                Ok(()) => return,
                Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {}
                Err(error) => panic!("{statements}: {error:?}"),
            }
        }
        panic!("{statements}: a deadlock each time");
    });
}

/// Returns all rows of the tables of a registry, as JSON.
pub fn rows(url: &str) -> Vec<String> {
    block_on(async {
        let client = connect(url).await.unwrap();
        let tables = client.query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'fleetform'", &[]).await;
        let mut rows = Vec::new();
        for table in tables.unwrap() {
            let text = format!("SELECT row_to_json(t)::text FROM fleetform.{} AS t", table.get::<_, String>(0));
            rows.extend(client.query(&text, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
        }
        rows
    })
}

/// Connects to a database; the connection lives as long as the client, on the runtime that this runs on.
pub async fn connect(url: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn client_at(url: &str) -> (tokio::runtime::Runtime, tokio_postgres::Client) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(connect(url)).unwrap();
    (runtime, client)
}

fn count(url: &str, text: &str) -> i64 {
    let (runtime, client) = client_at(url);
    runtime.block_on(client.query_one(text, &[])).unwrap().get(0)
}

#[test]
fn a_fresh_database_is_empty_and_its_own() {
    let (one, two) = (fresh_database(), fresh_database());
    let (runtime, client) = client_at(&one);
    runtime.block_on(client.batch_execute("CREATE TABLE device (n int)")).unwrap();
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!((count(&one, tables), count(&two, tables)), (1, 0));
}

#[test]
fn a_killed_cluster_keeps_what_it_had_committed() {
    let mut cluster = Cluster::start(&["fsync=on", "synchronous_commit=on"]);
    let url = cluster.make_database("kept", "");
    let (runtime, client) = client_at(&url);
    runtime.block_on(client.batch_execute("CREATE TABLE t AS SELECT 1 AS n")).unwrap();
    cluster.kill();
    assert!(runtime.block_on(client.batch_execute("SELECT 1")).is_err());
    cluster.restart();
    assert_eq!(count(&url, "SELECT count(*) FROM t"), 1);
    cluster.stop();
    cluster.restart();
    assert_eq!(count(&url, "SELECT count(*) FROM t"), 1);
    let folder = cluster.folder.clone();
    assert_eq!(fs::metadata(folder.join("data")).unwrap().uid(), user().0.unwrap_or(getuid().as_raw()));
    drop(cluster);
    assert!(!folder.exists());
}

#[test]
fn the_watcher_ends_the_server_of_a_process_that_is_gone() {
    let mut cluster = Cluster::start(&[]);
    // As the system does it for a process that ends.
    drop(cluster.watcher.input.take());
    wait_until("PostgreSQL ends", || cluster.process.has_ended() && !answers(cluster.port));
    wait_until("its folder is removed", || !cluster.folder.exists());
}
