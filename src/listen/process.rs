//! Numbers about this process from the operating system, on systems with `/proc`.

use std::fs;

/// Numbers of the process; `None` where the system does not have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Process {
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
    pub resident_bytes: Option<u64>,
}

impl Process {
    /// Reads them now. `/proc` is memory of the kernel: reading it waits for nothing.
    pub fn read() -> Process {
        let entries = fs::read_dir("/proc/self/fd").map(|entries| entries.count() as u64);
        Process {
            // One of them was open to count the others.
            open_fds: entries.ok().map(|count| count.saturating_sub(1)),
            max_fds: fs::read_to_string("/proc/self/limits").ok().and_then(|text| max_fds(&text)),
            resident_bytes: fs::read_to_string("/proc/self/status").ok().and_then(|text| resident_bytes(&text)),
        }
    }
}

/// `Max open files            1024                 524288               files`: the soft limit; `None` when there is
/// none.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `VmRSS:     12345 kB`, where kB are KiB.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_linux_are_read() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   12345 kB\nThreads: 1\n"), Some(12_641_280));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        assert_eq!(max_fds("Limit  Soft\nMax open files            1024    524288    files\n"), Some(1024));
        assert_eq!(max_fds("Max open files            unlimited  unlimited  files\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_read() {
        let read = Process::read();
        assert!(read.open_fds.unwrap() >= 3, "{read:?}");
        assert!(read.resident_bytes.unwrap() > 1 << 20, "{read:?}");
    }
}
