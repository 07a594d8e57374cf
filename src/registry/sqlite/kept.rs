//! Connections that stay open between two uses: to open a registry takes longer than most answers from it.
//!
//! A connection is lent again only while its file is the one that it was opened on: one that was replaced, deleted or
//! put back from a backup since is opened anew. Whose registry it is, and of which version, is asked at each loan.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::file_state::FileState;

/// The most connections that are kept, of each kind.
const KEPT_MAX: usize = 2;

/// What tells a registry from another one at its path, and from itself with other content that no connection has
/// written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Face {
    file: FileState,
    /// Device and inode of its write-ahead log.
    log: Option<(u64, u64)>,
}

impl Face {
    /// Returns that of a registry; `None` when there is none, or the system does not tell.
    fn of(path: &Path) -> Option<Face> {
        let file = FileState::of(path).ok()?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Some(Face { file, log: FileState::of(Path::new(&log)).ok().map(|log| log.id) })
    }

    /// Returns true when another file, or another write-ahead log, is in the place of this one.
    fn is_replaced(&self, now: Option<&Face>) -> bool {
        let file = |face: &Face| (face.file.id, face.log);
        now.is_none_or(|now| file(now) != file(self))
    }
}

/// Closes the connections to a file that was replaced. The last one of a process would write its log into what is in
/// its place, and remove the log of that.
fn close_replaced(connections: [Option<&Connection>; 2]) {
    for connection in connections.into_iter().flatten() {
        // Without it the connection is closed as others are.
        drop(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true));
    }
}

/// The connections to one registry that are kept. Copies share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Rc<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    is_open: Cell<bool>,
    reading: RefCell<Vec<Idle>>,
    writing: RefCell<Vec<Idle>>,
}

/// A connection that nobody uses now.
#[derive(Debug)]
struct Idle {
    // Closed before the sweeper.
    connection: Connection,
    sweeper: Option<Connection>,
    face: Face,
}

impl Kept {
    /// Keeps connections from here on.
    pub fn begin(&self) {
        self.0.is_open.set(true);
    }

    /// Closes what is kept of the file at a path and not in use.
    pub fn close(&self, path: &Path) {
        self.close_all_but(None, Face::of(path).as_ref());
    }

    /// Closes what is kept, but for the connections to a file that is as it was.
    fn close_all_but(&self, same: Option<&Face>, now: Option<&Face>) {
        let Shelf { reading, writing, .. } = &*self.0;
        for shelf in [reading, writing] {
            shelf.borrow_mut().retain(|Idle { connection, sweeper, face }| {
                if face.is_replaced(now) {
                    close_replaced([Some(connection), sweeper.as_ref()]);
                }
                Some(face) == same
            });
        }
    }

    fn shelf(&self, writes: bool) -> &RefCell<Vec<Idle>> {
        if writes { &self.0.writing } else { &self.0.reading }
    }

    /// Returns a connection to the file that is at a path now; `None` when none is kept.
    pub fn lend(&self, path: &Path, writes: bool) -> Option<Lent> {
        let Shelf { reading, writing, .. } = &*self.0;
        if reading.borrow().is_empty() && writing.borrow().is_empty() {
            return None;
        }
        let face = Face::of(path);
        // Others are closed, of both kinds: SQLite takes two connections of a process to one file for one.
        self.close_all_but(face.as_ref(), face.as_ref());
        let Idle { connection, sweeper, face } = self.shelf(writes).borrow_mut().pop()?;
        Some(Lent { connection: Some(connection), sweeper, home: Some(self.home(path, writes, face)) })
    }

    /// Opens a connection that is kept afterwards, when connections are.
    ///
    /// # Errors
    /// That of `open`.
    pub fn open<E>(&self, path: &Path, writes: bool, open: impl FnOnce() -> Result<Lent, E>) -> Result<Lent, E> {
        if !self.0.is_open.get() {
            return open();
        }
        let before = Face::of(path);
        let mut lent = open()?;
        // A new file, or one that was replaced meanwhile, is opened once more by who needs it next.
        lent.home = Face::of(path)
            .filter(|after| before.is_some_and(|before| before.file == after.file))
            .map(|face| self.home(path, writes, face));
        Ok(lent)
    }

    fn home(&self, path: &Path, writes: bool, face: Face) -> Home {
        Home { kept: self.clone(), path: path.to_path_buf(), writes, face }
    }
}

/// A connection in use, and where it is kept afterwards.
pub(super) struct Lent {
    /// `Some` until it is dropped.
    connection: Option<Connection>,
    /// Dropped after `connection`: removes the files that it leaves beside the registry.
    sweeper: Option<Connection>,
    /// `None` for one that is closed.
    home: Option<Home>,
}

struct Home {
    kept: Kept,
    path: PathBuf,
    writes: bool,
    face: Face,
}

impl Lent {
    pub fn new(connection: Connection, sweeper: Option<Connection>) -> Lent {
        Lent { connection: Some(connection), sweeper, home: None }
    }

    /// Makes sure that nobody uses the connection after this one: it is not as it was opened.
    pub fn close_afterwards(&mut self) {
        self.home = None;
    }
}

impl From<Connection> for Lent {
    fn from(connection: Connection) -> Lent {
        Lent::new(connection, None)
    }
}

impl Deref for Lent {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let (Some(connection), Some(home)) = (self.connection.take(), self.home.take()) else { return };
        let Home { kept, path, writes, face } = home;
        let is_at_rest = connection.is_autocommit() && !connection.is_busy();
        let now = Face::of(&path);
        if face.is_replaced(now.as_ref()) {
            close_replaced([Some(&connection), self.sweeper.as_ref()]);
        }
        // A checkpoint has changed the file, or somebody else: it cannot be told which.
        if !is_at_rest || !kept.0.is_open.get() || now.as_ref() != Some(&face) {
            // Before the sweeper, which closes last.
            drop(connection);
            return;
        }
        let mut shelf = kept.shelf(writes).borrow_mut();
        if shelf.len() < KEPT_MAX {
            shelf.push(Idle { connection, sweeper: self.sweeper.take(), face });
        }
    }
}
