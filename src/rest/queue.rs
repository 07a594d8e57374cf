//! What waits for a thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue with an end, of which several threads take.
pub struct Queue<T> {
    most: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    is_closed: bool,
}

/// What a thread gets that waits.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    Task(T),
    /// Nothing has come in time.
    Nothing,
    /// Nothing comes any more.
    Closed,
}

impl<T> Queue<T> {
    /// Returns a queue in which at most so many wait.
    pub fn new(most: usize) -> Queue<T> {
        let state = State { waiting: VecDeque::new(), is_closed: false };
        Queue { most, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Appends a task. Returns false, and drops it, when as many wait as may.
    pub fn put(&self, task: T) -> bool {
        let mut state = self.lock();
        if state.is_closed || state.waiting.len() >= self.most {
            return false;
        }
        state.waiting.push_back(task);
        drop(state);
        self.changed.notify_one();
        true
    }

    /// Returns the next task, and waits for one: for ever, or so long.
    pub fn next(&self, longest: Option<Duration>) -> Next<T> {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.waiting.pop_front() {
                return Next::Task(task);
            }
            if state.is_closed {
                return Next::Closed;
            }
            let Some(longest) = longest else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (woken, ended) = self.changed.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if ended.timed_out() && state.waiting.is_empty() && !state.is_closed {
                return Next::Nothing;
            }
        }
    }

    /// Lets nothing in any more. What waits is still taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Each change is made at once.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_come_in_their_order_and_have_an_end() {
        let queue = Queue::new(2);
        let short = Some(Duration::from_millis(1));
        assert_eq!(queue.next(short), Next::Nothing);
        assert!(queue.put(1) && queue.put(2) && !queue.put(3), "two may wait");
        assert_eq!(queue.next(None), Next::Task(1));
        queue.close();
        assert!(!queue.put(4));
        assert_eq!((queue.next(None), queue.next(short)), (Next::Task(2), Next::Closed));
    }
}
