//! Who waits when the processor is short.

/// How much less of the processor a thread gets that reads what pages show than one that works on runs: steps of
/// sched(7), three of which about halve the share.
pub const READS_PAGES: i32 = 10;
/// The same of a thread that listens.
pub const LISTENS: i32 = 5;

/// Has the calling thread wait behind the first one of the process, by so many steps. Where threads of a process cannot
/// differ, nothing is changed.
pub fn lower_priority(steps: i32) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpid, getpriority_process, setpriority_process};
        // Which has the priority that the process was started with.
        let lowered = getpriority_process(Some(getpid())).and_then(|first| setpriority_process(None, first + steps));
        if let Err(error) = lowered {
            tracing::debug!(target: super::LOG_TARGET, %error, "the priority of a thread stays as it is");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = steps;
}
