//! When to try again what failed: soon at first, then ever more rarely, and not all daemons at the same moment.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::backoff::{doubled, drawn};
use crate::model::digest::Digest;

/// The first pause, on average.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause, on average: an outage of an hour costs sixty tries, and its end is seen within a minute and a
/// half.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause while another fleetform works, on average. Even half as long again, it is over five seconds after
/// the other one is gone: a daemon that stands by takes over within 20 s of a lease of a database, which lasts 15 s.
const LONGEST_HELD: Duration = Duration::from_secs(3);

/// Pauses that double, each drawn between half and one and a half of its length.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    until: Timestamp,
    seed: u64,
}

impl Backoff {
    /// Returns one without a failure yet. Daemons that start at different instants draw different pauses.
    pub fn new(now: Timestamp) -> Backoff {
        let seed = Digest::of_texts([now.to_string().as_str(), &std::process::id().to_string()]).seed();
        Backoff { failures: 0, until: Timestamp::MIN, seed }
    }

    /// Returns true when it is time to try.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until(now) <= now
    }

    /// Returns when it is time to try.
    pub fn until(&self, now: Timestamp) -> Timestamp {
        // A clock that was put back does not make it far away.
        let latest = now.checked_add(LONGEST.saturating_mul(2)).unwrap_or(Timestamp::MAX);
        self.until.clamp(now, latest)
    }

    /// Notes a failure and returns when to try again; soon when another process is at work, which will be done.
    pub fn fail(&mut self, now: Timestamp, is_held: bool) -> Timestamp {
        let longest = if is_held { LONGEST_HELD } else { LONGEST };
        let mean = doubled(FIRST, self.failures, longest);
        self.failures += 1;
        let share = drawn([self.seed.to_string().as_str(), &self.failures.to_string()]);
        self.until = now.checked_add(mean.mul_f64(0.5 + share)).unwrap_or(Timestamp::MAX);
        self.until
    }

    /// Ends the pause: there is a reason to think that it goes well now. When it does not, the next pause is the longer
    /// one.
    pub fn hasten(&mut self) {
        self.until = Timestamp::MIN;
    }

    /// Notes that it went well; true when something had failed before.
    pub fn reset(&mut self) -> bool {
        self.until = Timestamp::MIN;
        std::mem::take(&mut self.failures) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_differ() {
        let mut now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let mut backoff = Backoff::new(now);
        assert!(backoff.is_over(now));
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let until = backoff.fail(now, false);
            assert!(!backoff.is_over(now));
            pauses.push(until.duration_since(now).as_secs_f64());
            now = until;
            assert!(backoff.is_over(now));
        }
        assert!((0.5..1.5).contains(&pauses[0]));
        assert!(pauses.iter().all(|pause| (0.5..=90.0).contains(pause)));
        assert!(pauses[20..].iter().all(|pause| (30.0..=90.0).contains(pause)));
        assert!(pauses[20..].windows(2).any(|two| (two[0] - two[1]).abs() > 1.0));
        backoff.fail(now, false);
        backoff.hasten();
        assert!(backoff.is_over(now));
        assert!(backoff.fail(now, false).duration_since(now).as_secs_f64() >= 30.0, "it is no less careful");
        assert!(backoff.reset());
        assert!(!backoff.reset());
    }
}
