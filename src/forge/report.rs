//! Statuses on their way to a forge, on a thread of their own: what is told never waits, whatever the forge does.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::ForgeError;
use super::{Forge, State, Status};
use crate::model::limits::{FORGE_END_TIME_MAX, FORGE_PAUSE_MAX, FORGE_QUEUE_MAX, FORGE_TRIES_MAX};

/// The target of the log's lines about a forge.
pub const LOG_TARGET: &str = "fleetform::forge";
/// The first pause after a failure; each next one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// What is to be said of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub commit: String,
    pub status: Status,
    /// Only where the forge has no state of it yet, or a pending one: another process may have said more.
    pub is_late: bool,
}

/// A report, and how often it was tried.
#[derive(Debug)]
struct Item {
    report: Report,
    tries: u32,
}

#[derive(Debug, Default)]
struct Queue {
    /// The oldest first; of a commit and a context at most one, the newest.
    items: VecDeque<Item>,
    /// One is being sent.
    is_sending: bool,
    /// Nothing is sent before this time.
    not_before: Option<Instant>,
    /// Nothing more is told.
    is_ended: bool,
    /// Why the last one was not sent.
    failure: Option<ForgeError>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Rung when something of the queue changed.
    bell: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A thread that died left a queue that is whole: each change is one call.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends reports to a forge.
#[derive(Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
}

impl Reporter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(forge: Forge) -> std::io::Result<Reporter> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("forge".to_string()).spawn(move || send_all(&forge, &theirs))?;
        Ok(Reporter { shared })
    }

    /// Has a status sent, in place of one of the same commit that was not sent yet.
    pub fn tell(&self, report: Report) {
        let mut queue = self.shared.lock();
        queue.items.retain(|item| !is_same(&item.report, &report));
        if queue.items.len() >= FORGE_QUEUE_MAX
            && let Some(left) = queue.items.pop_front()
        {
            let commit = left.report.commit;
            tracing::warn!(target: LOG_TARGET, commit, "the status of a commit is left out: too many wait");
        }
        queue.items.push_back(Item { report, tries: 0 });
        drop(queue);
        self.shared.bell.notify_all();
    }

    /// Waits until everything was sent, at most some seconds, and returns why something was not; `None` when all was.
    pub fn end(self) -> Option<ForgeError> {
        let mut queue = self.shared.lock();
        queue.is_ended = true;
        self.shared.bell.notify_all();
        let is_open = |queue: &mut Queue| queue.is_sending || !queue.items.is_empty();
        queue = match self.shared.bell.wait_timeout_while(queue, FORGE_END_TIME_MAX, is_open) {
            Ok((queue, _)) => queue,
            Err(poisoned) => poisoned.into_inner().0,
        };
        queue.failure.clone()
    }
}

fn is_same(one: &Report, other: &Report) -> bool {
    one.commit == other.commit && one.status.context == other.status.context
}

fn send_all(forge: &Forge, shared: &Shared) {
    while let Some(mut item) = next(shared) {
        item.tries += 1;
        let sent = send(forge, &item.report);
        let mut queue = shared.lock();
        queue.is_sending = false;
        match sent {
            Ok(()) => {
                queue.failure = None;
                queue.not_before = None;
            }
            Err(error) => fail(&mut queue, item, error),
        }
        drop(queue);
        shared.bell.notify_all();
    }
}

/// Returns the next one when it is time to; `None` at the end.
fn next(shared: &Shared) -> Option<Item> {
    let mut queue = shared.lock();
    loop {
        let pause =
            queue.not_before.map(|at| at.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
        match (queue.items.is_empty(), pause) {
            (false, None) => {
                queue.is_sending = true;
                return queue.items.pop_front();
            }
            (true, _) if queue.is_ended => return None,
            // The end does not wait for a pause.
            (false, Some(_)) if queue.is_ended => {
                queue.items.clear();
                shared.bell.notify_all();
                return None;
            }
            (false, Some(pause)) => {
                queue = match shared.bell.wait_timeout(queue, pause) {
                    Ok((queue, _)) => queue,
                    Err(poisoned) => poisoned.into_inner().0,
                };
            }
            (true, _) => queue = shared.bell.wait(queue).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

fn send(forge: &Forge, report: &Report) -> Result<(), ForgeError> {
    let Report { commit, status, is_late } = report;
    if *is_late && matches!(forge.state_of(commit, &status.context)?, Some(State::Success | State::Failure)) {
        tracing::debug!(target: LOG_TARGET, commit, "the commit has its status");
        return Ok(());
    }
    forge.set_status(commit, status)?;
    let (state, description) = (status.state.word(), &status.description);
    tracing::info!(target: LOG_TARGET, commit, state, description, "the status of the commit was set");
    Ok(())
}

/// Puts it back to be tried again, unless a newer one is there or no try can help.
fn fail(queue: &mut Queue, item: Item, error: ForgeError) {
    let commit = item.report.commit.as_str();
    let is_news = queue.failure.as_ref() != Some(&error);
    if error.is_transient() && item.tries < FORGE_TRIES_MAX {
        let pause = match &error {
            ForgeError::Limited { wait, .. } => (*wait).min(FORGE_PAUSE_MAX),
            _ => PAUSE_FIRST.saturating_mul(1 << (item.tries - 1).min(16)).min(FORGE_PAUSE_MAX),
        };
        let pause_s = pause.as_secs();
        if is_news {
            tracing::warn!(target: LOG_TARGET, commit, help = error.help(), pause_s, "{error}; it is tried again");
        } else {
            tracing::debug!(target: LOG_TARGET, commit, pause_s, "{error}");
        }
        queue.not_before = Instant::now().checked_add(pause);
        if !queue.items.iter().any(|other| is_same(&other.report, &item.report)) {
            queue.items.push_front(item);
        }
    } else if is_news {
        tracing::error!(target: LOG_TARGET, commit, help = error.help(), "the status is not set: {error}");
    } else {
        tracing::debug!(target: LOG_TARGET, commit, "the status is not set: {error}");
    }
    queue.failure = Some(error);
}
