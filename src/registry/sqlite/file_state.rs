//! What tells a file from another one, and from itself with other content.

use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

/// How long a file has to be left alone until it is told apart by the time of its change: the system counts these in
/// steps, and two changes in one step have one time.
const LEFT_ALONE: SignedDuration = SignedDuration::from_secs(1);

/// A file as it was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    /// Device and inode.
    pub id: (u64, u64),
    length: u64,
    /// The time of its last change, in seconds and nanoseconds.
    changed: (i64, i64),
}

impl FileState {
    /// Returns that of a file.
    ///
    /// # Errors
    /// There is none, or the system does not tell.
    #[cfg(unix)]
    pub fn of(path: &Path) -> io::Result<FileState> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(path)?;
        let changed = (found.ctime(), found.ctime_nsec());
        Ok(FileState { id: (found.dev(), found.ino()), length: found.len(), changed })
    }

    /// Returns that of a file.
    ///
    /// # Errors
    /// The system does not tell.
    #[cfg(not(unix))]
    pub fn of(_: &Path) -> io::Result<FileState> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns true for a file without a byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns true when a change from here on has another time.
    pub fn is_left_alone(&self, now: Timestamp) -> bool {
        let nanoseconds = i32::try_from(self.changed.1).unwrap_or_default();
        Timestamp::new(self.changed.0, nanoseconds).is_ok_and(|changed| now.duration_since(changed) >= LEFT_ALONE)
    }
}
