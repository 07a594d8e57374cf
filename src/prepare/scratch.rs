//! Files that do not outlive the process.

use std::fs::DirBuilder;
use std::path::{Path, PathBuf};

use super::PrepareError;

/// Names that are tried for a folder.
const NAMES_MAX: u32 = 1_000;

/// A folder of this process for what has to be in files, readable by its owner; removed with all that is in it when it
/// is dropped.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
}

impl ScratchFolder {
    /// Makes a folder below the system's for temporary files.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make() -> Result<ScratchFolder, PrepareError> {
        let parent = std::env::temp_dir();
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let mut number = 0;
        loop {
            let path = parent.join(format!("fleetform-{}-{number}", std::process::id()));
            match builder.create(&path) {
                Ok(()) => return Ok(ScratchFolder { path }),
                // It belongs to another thread, or to a process that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < NAMES_MAX => number += 1,
                Err(source) => {
                    let what = format!("the temporary folder {} cannot be made", path.display());
                    return Err(PrepareError::Output { what, source });
                }
            }
        }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        // What stays is for the system to clean up, as all of its folder is.
        drop(std::fs::remove_dir_all(&self.path));
    }
}
