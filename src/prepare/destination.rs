//! Where a command writes what it was asked for: into a file that is complete or not there, or into a stream.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that a command was told to write.
#[derive(Debug)]
pub struct Destination {
    file: File,
    /// What is being written, and what it becomes when it is done; `None` for a stream.
    whole: Option<(PathBuf, PathBuf)>,
}

impl Destination {
    /// Opens the place of a path. A file that is there is replaced when all is written, also where a link leads to it, and keeps
    /// its permissions unless the new one is private.
    /// Into a device or a pipe, such as `/dev/stdout`, the bytes are written as they come. A new file that
    /// `is_private` can be read by its owner only (mode 0600).
    ///
    /// # Errors
    /// The folder is not there or cannot be written, or the path is that of a folder.
    pub fn open(path: &Path, is_private: bool) -> io::Result<Destination> {
        match path.metadata() {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => {
                return Ok(Destination { file: File::options().write(true).open(path)?, whole: None });
            }
            Ok(_) | Err(_) => {}
        }
        let path = real_path(path)?;
        // Of this process, so that nothing of others is in its place.
        let partial = path.with_file_name(format!(".fleetform-{}.partial", std::process::id()));
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if is_private {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let file = options.open(&partial)?;
        let before = path.metadata().ok().filter(|_| !is_private);
        let destination = Destination { file, whole: Some((partial, path)) };
        if let Some(before) = before {
            destination.file.set_permissions(before.permissions())?;
        }
        Ok(destination)
    }

    /// Puts what was written in its place.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn finish(mut self) -> io::Result<()> {
        let Some((partial, path)) = &self.whole else { return self.file.flush() };
        self.file.sync_all()?;
        std::fs::rename(partial, path)?;
        self.whole = None;
        Ok(())
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Some((partial, _)) = &self.whole {
            drop(std::fs::remove_file(partial));
        }
    }
}

/// Returns where a link leads, and any other path as it is.
///
/// # Errors
/// It is a link that leads nowhere.
pub fn real_path(path: &Path) -> io::Result<PathBuf> {
    if path.is_symlink() { path.canonicalize() } else { Ok(path.to_path_buf()) }
}
