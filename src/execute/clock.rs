//! Time, below the line only: above it, now is a value.

use std::time::Duration;

use jiff::Timestamp;

/// Tells the time and waits. The real one, and a virtual one in tests and simulations.
pub trait Clock {
    /// Returns the time, UTC.
    fn now(&self) -> Timestamp;

    /// Waits until a time; returns at once when it has passed.
    fn sleep_until(&self, time: Timestamp) -> impl Future<Output = ()>;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that looks at the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, time: Timestamp) {
        let left = time.duration_since(self.now());
        if let Ok(left) = Duration::try_from(left) {
            tokio::time::sleep(left).await;
        }
    }
}
