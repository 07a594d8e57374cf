//! What tells a file of git from another one, and from itself with other content.

use std::path::Path;
#[cfg(unix)]
use std::time::{Duration, UNIX_EPOCH};

/// How long a file has to be left alone until it is told apart by the time of its change: the system counts these in
/// steps, and two changes in one step have one time.
#[cfg(unix)]
pub(super) const LEFT_ALONE: Duration = Duration::from_secs(1);

/// Device, inode, length and the time of the last change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState((u64, u64), u64, (i64, i64));

impl FileState {
    /// Returns that of a file; `None` when there is none, or the system does not tell.
    pub fn of(path: &Path) -> Option<FileState> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let found = path.metadata().ok()?;
            Some(FileState((found.dev(), found.ino()), found.len(), (found.ctime(), found.ctime_nsec())))
        }
        #[cfg(not(unix))]
        {
            let _ = path;
            None
        }
    }

    /// Returns true when a change from here on has another time.
    #[cfg(unix)]
    pub fn is_left_alone(&self) -> bool {
        let FileState(_, _, (seconds, nanoseconds)) = self;
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(*seconds), u32::try_from(*nanoseconds)) else {
            return false;
        };
        #[expect(clippy::disallowed_methods, reason = "it is compared with a time of the file system")]
        let age = std::time::SystemTime::now().duration_since(UNIX_EPOCH + Duration::new(seconds, nanoseconds));
        age.is_ok_and(|age| age >= LEFT_ALONE)
    }

    /// Returns true when a change from here on has another time.
    #[cfg(not(unix))]
    pub fn is_left_alone(&self) -> bool {
        false
    }
}
