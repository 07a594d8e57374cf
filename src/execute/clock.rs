//! Time, below the line only: above it, now is a value.

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time and waits: the clock of the machine, a virtual one in rehearsals, and virtual ones with faults in simulations.
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

/// Time that passes only when somebody waits for it, and then at once.
#[derive(Debug)]
pub struct VirtualClock {
    now: Cell<Timestamp>,
}

impl VirtualClock {
    /// Returns a clock that stands at a time.
    pub fn new(now: Timestamp) -> VirtualClock {
        VirtualClock { now: Cell::new(now) }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    async fn sleep_until(&self, time: Timestamp) {
        self.now.set(self.now.get().max(time));
        // A task that never waits would keep the others of its runtime from their turn.
        tokio::task::yield_now().await;
    }
}
