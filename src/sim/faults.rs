//! The faults of a process, drawn from a seed.

use std::time::Duration;

use super::{Doubted, Random, RemoteFault};
use crate::execute::{CrashPoints, Side};

/// The faults of one apply.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The process dies at this crash point, counted from 0.
    pub crash_at: Option<u64>,
    /// The process dies before or after the step of this name and number, counted from 1; goes before `crash_at`.
    pub crash_step: Option<(Side, String, u64)>,
    /// The process is asked to end after some time.
    pub interrupt_after: Option<Duration>,
    /// The reference of the results branch is locked by another program from this progress event on.
    pub lock_at: Option<u64>,
    /// The registry can grow by at most this many pages; then the disk is full.
    pub growth: Option<u32>,
    /// At this progress event, counted from 0, a person commits a stop of its job.
    pub stop_at: Option<u64>,
    /// The fault of the remote, from this progress event until the apply has ended. Events count from 1; 0 is before
    /// the apply begins.
    pub remote: Option<(RemoteFault, u64)>,
    /// A commit to the registry is in doubt.
    pub doubted: Option<Doubted>,
    /// Some waits last longer.
    pub overshoot: Option<Random>,
}

impl Faults {
    pub(super) fn crash_points(&self, most: u64) -> CrashPoints {
        match &self.crash_step {
            Some((side, step, occurrence)) => CrashPoints::at_step(*side, step, *occurrence),
            None => CrashPoints::at(self.crash_at.unwrap_or(most)),
        }
    }

    /// Returns true when no fault disturbs a daemon.
    pub(super) fn is_quiet(&self) -> bool {
        self.lock_at.is_none() && self.remote.is_none() && self.growth.is_none() && self.doubted.is_none()
    }

    /// Returns the faults of one process.
    pub(super) fn drawn(random: &mut Random) -> Faults {
        let mut faults = Faults::default();
        match random.between(0, 9) {
            // Most crashes are early: an apply of a small world passes some hundred places.
            0..=3 => faults.crash_at = Some(random.between(0, *random.clone().pick(&[10, 40, 150, 600]))),
            4 => faults.interrupt_after = Some(Duration::from_millis(random.between(0, 30_000))),
            5 => faults.lock_at = Some(random.between(0, 12)),
            6 => faults.growth = Some(0),
            _ => {}
        }
        if random.chance(20) {
            faults.doubted = Some(Doubted::drawn(random));
        }
        if random.chance(15) {
            faults.stop_at = Some(random.between(0, 20));
        }
        if random.chance(10) {
            faults.overshoot = Some(random.clone());
        }
        faults
    }
}
