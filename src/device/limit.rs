//! How many files the process may open: each device has a connection.

use super::error::DeviceError;

/// Open files beside the connections: those of the runtime, of commands and of the state.
const FILES_BESIDE: u64 = 96;

/// Raises the limit of open files as far as these devices need it.
///
/// # Errors
/// The system allows too few.
pub(super) fn allow_connections(devices: usize) -> Result<(), DeviceError> {
    let needed = devices as u64 + FILES_BESIDE;
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        // None is no limit.
        if limit.current.is_none_or(|current| current >= needed) {
            return Ok(());
        }
        limit.current = limit.maximum;
        // What comes of it is read back.
        let _ = setrlimit(Resource::Nofile, limit);
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        if allowed < needed {
            return Err(DeviceError::OpenFiles { devices, needed, allowed });
        }
    }
    Ok(())
}
