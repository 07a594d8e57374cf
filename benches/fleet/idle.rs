//! The processor time of a process at rest.

use std::time::{Duration, Instant};

use crate::Failure;
use crate::mqtt::Running;

/// In how many parts of a second the system counts the time of processes (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;
/// Where the times of a process are in its `stat`, behind its name: in user mode, and in the kernel.
const TIMES: [usize; 2] = [11, 12];

/// Returns how long a process with so many connections is looked at: a minute, in which each device sends PINGREQ twice,
/// or less in a smoke test.
pub fn time_of(devices: u32) -> Duration {
    Duration::from_secs(if devices < 10_000 { 3 } else { 60 })
}

/// Returns which share of one core a process uses in the time that comes, its threads together.
pub fn share_of_core(process: &Running, time: Duration) -> Result<f64, Failure> {
    let (began, before) = (Instant::now(), seconds(process)?);
    std::thread::sleep(time);
    Ok((seconds(process)? - before) / began.elapsed().as_secs_f64())
}

/// Returns the processor time of a process until now, in seconds; 0 where there is no /proc.
fn seconds(process: &Running) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.0.id())).unwrap_or_default();
    let Some((_, behind)) = stat.rsplit_once(") ") else { return Ok(0.0) };
    let words: Vec<&str> = behind.split(' ').collect();
    let mut ticks = 0;
    for at in TIMES {
        ticks += words.get(at).ok_or("a time of a process")?.parse::<u64>()?;
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Prints both shares, in percent.
pub fn row(bare: f64, ours: f64) {
    // A short look may find nothing of the bare listener.
    let ratio = if bare > 0.0 { format!("{:.2}", ours / bare) } else { String::new() };
    let name = "at rest, all connected, of a core";
    println!("{name:<34} {:>8.2} % {:>8.2} % {ratio:>7} {:>11}", bare * 100.0, ours * 100.0, "5 %");
}
