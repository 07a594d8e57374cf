//! Who waits when the processor is short.

/// How much less of the processor a thread gets that reads what pages show than one that works on runs: a nice value
/// (sched(7)), which halves the share about every three steps.
pub const READS_PAGES: i32 = 10;
/// The same of a thread that listens.
pub const LISTENS: i32 = 5;

/// Has the calling thread wait behind others. Where threads of a process cannot differ, nothing is changed.
pub fn lower_priority(nice: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(target: super::LOG_TARGET, %error, "the priority of a thread stays as it is");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}
