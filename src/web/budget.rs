//! What the pages of a visitor may take of the processor while a job is planned or runs. A request tells little about
//! what it costs, so the time of the thread that has read the page is counted. A visitor who has used up its time gets
//! copies, and later has to wait: however often somebody asks, the job goes on beside it. Downloads are not counted,
//! since there are few at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::model::buckets::Buckets;
use crate::model::limits::{PAGE_TIME, PAGE_TIME_OWED, PAGE_TIME_OWED_MAX, PAGE_TIME_WAITING_MAX};

/// The time that is left of each visitor, in seconds.
#[derive(Default)]
pub struct Budgets {
    left: Mutex<Buckets<String>>,
    /// Who has used up its time reads one page after the other.
    turns: Mutex<BTreeMap<String, Arc<Turn>>>,
}

type Turn = tokio::sync::Mutex<()>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a visitor gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// What is read for this request.
    Fresh,
    /// What was read a moment ago, where there is such a copy; else what is read now.
    Copies,
    /// What was read a moment ago, and nothing else.
    Out { ends_in: Duration },
}

impl Budgets {
    /// Returns what a visitor gets now.
    pub fn standing(&self, who: &str, now: Instant) -> Standing {
        match self.with(who, now, |left| *left) {
            left if left > 0.0 => Standing::Fresh,
            left if left > -PAGE_TIME_OWED => Standing::Copies,
            left => {
                // A millisecond more: then it is surely paid.
                let seconds = (-PAGE_TIME_OWED - left) / PAGE_TIME.per_second + 0.001;
                Standing::Out { ends_in: Duration::from_secs_f64(seconds) }
            }
        }
    }

    /// Counts what a page of a visitor took. Nothing is owed for what it took while no job runs. A visitor who asked
    /// for much then gets copies when a job begins.
    pub fn pay(&self, who: &str, took: Duration, has_work: bool, now: Instant) {
        let least = if has_work { -PAGE_TIME_OWED_MAX } else { 0.0 };
        self.with(who, now, |left| *left = (*left - took.as_secs_f64()).max(least.min(*left)));
    }

    /// Waits for the turn of a request, which lasts until the guard is dropped; `None` when too many requests of the
    /// visitor wait already.
    pub async fn turn(&self, who: &str) -> Option<OwnedMutexGuard<()>> {
        let turn = {
            let mut turns = lock(&self.turns);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            let turn = turns.entry(who.to_string()).or_default();
            // One is of the map, and one of the request that has its turn.
            if Arc::strong_count(turn) >= PAGE_TIME_WAITING_MAX + 2 {
                return None;
            }
            Arc::clone(turn)
        };
        Some(turn.lock_owned().await)
    }

    fn with<T>(&self, who: &str, now: Instant, see: impl FnOnce(&mut f64) -> T) -> T {
        see(lock(&self.left).left(who.to_string(), PAGE_TIME, now))
    }
}

/// Runs something, and returns what of the processor it took: of the thread where the system tells it, else of the
/// clock.
pub fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let began = now();
    let value = run();
    (value, now().saturating_sub(began))
}

#[cfg(unix)]
fn now() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(not(unix))]
fn now() -> Duration {
    static START: std::sync::LazyLock<tokio::time::Instant> = std::sync::LazyLock::new(tokio::time::Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an instant is read from a clock alone")]
    fn who_has_used_up_its_time_gets_copies_then_waits() {
        let (budgets, begin) = (Budgets::default(), Instant::now());
        let standing = |seconds| budgets.standing("ann", begin + Duration::from_secs(seconds));
        let pay = |millis| budgets.pay("ann", Duration::from_millis(millis), true, begin);
        let pay_between_jobs = |millis| budgets.pay("ann", Duration::from_millis(millis), false, begin);
        assert_eq!(standing(0), Standing::Fresh);
        pay(400);
        assert_eq!(standing(0), Standing::Fresh);
        pay_between_jobs(600);
        assert_eq!(standing(0), Standing::Copies);
        pay(900);
        pay_between_jobs(99_000);
        assert_eq!(standing(0), Standing::Copies);
        assert_eq!(budgets.standing("bob", begin), Standing::Fresh, "another visitor has its own");
        // However much it was, some seconds are enough.
        pay(60_000);
        let Standing::Out { ends_in } = standing(0) else { panic!("it owes much") };
        assert!((9.9..10.1).contains(&ends_in.as_secs_f64()), "{ends_in:?}");
        assert!(matches!(standing(9), Standing::Out { .. }));
        assert_eq!(budgets.standing("ann", begin + ends_in), Standing::Copies);
        assert_eq!(standing(21), Standing::Fresh);
    }

    #[tokio::test]
    async fn requests_of_a_visitor_have_turns_and_only_some_wait() {
        use futures_util::FutureExt as _;

        let budgets = Budgets::default();
        let first = budgets.turn("ann").await.unwrap();
        let mut waiting: Vec<_> = (0..PAGE_TIME_WAITING_MAX).map(|_| Box::pin(budgets.turn("ann"))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        assert!(budgets.turn("ann").await.is_none(), "too many wait");
        assert!(budgets.turn("bob").await.is_some(), "another visitor has its own");
        drop(first);
        let next = waiting.remove(0).await.unwrap();
        assert!(waiting[0].as_mut().now_or_never().is_none());
        drop((next, waiting));
        assert!(budgets.turn("bob").await.is_some());
        assert_eq!(lock(&budgets.turns).len(), 1, "who waits no more is forgotten");
    }

    #[cfg(unix)]
    #[test]
    fn who_waits_takes_nothing() {
        let (value, took) = timed(|| {
            std::thread::sleep(Duration::from_millis(200));
            7
        });
        assert_eq!(value, 7);
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}
