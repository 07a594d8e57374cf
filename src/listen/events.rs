//! What has happened, for pages that are open: a ring of numbered events, which a page resumes where it was.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::limits::EVENTS_KEPT;

/// Something that pages show has changed. It says where to look, not what is there: a page reads that anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// From 1, without gaps.
    pub seq: u64,
    /// The job and the run that moved; `None` when it was something else.
    pub run: Option<(String, String)>,
}

/// The events of a process. Clones are handles of the same log.
#[derive(Debug, Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ring: Mutex<VecDeque<Event>>,
    /// The number of the newest event; 0 before the first.
    newest: watch::Sender<u64>,
}

/// What a reader gets that comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// These, oldest first; none when it has all.
    Events(Vec<Event>),
    /// More than is kept, or it comes from another process: it has to read everything anew.
    Gap,
}

impl Default for EventLog {
    fn default() -> EventLog {
        let (newest, _) = watch::channel(0);
        EventLog { shared: Arc::new(Shared { ring: Mutex::default(), newest }) }
    }
}

impl EventLog {
    /// Adds an event, and wakes who waits for one. The oldest is forgotten when as many are kept as may be.
    pub fn add(&self, run: Option<(String, String)>) {
        let mut ring = self.ring();
        let seq = *self.shared.newest.borrow() + 1;
        if ring.len() == EVENTS_KEPT {
            ring.pop_front();
        }
        ring.push_back(Event { seq, run });
        drop(ring);
        self.shared.newest.send_replace(seq);
    }

    /// Returns the number of the newest event; 0 before the first.
    pub fn newest(&self) -> u64 {
        *self.shared.newest.borrow()
    }

    /// Returns what came after an event.
    pub fn since(&self, seq: u64) -> Missed {
        let ring = self.ring();
        let (newest, oldest) = (self.newest(), ring.front().map_or(1, |event| event.seq));
        if seq > newest || seq + 1 < oldest {
            return Missed::Gap;
        }
        Missed::Events(ring.iter().filter(|event| event.seq > seq).cloned().collect())
    }

    /// Returns what tells when there is a new event.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.newest.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_where_it_was_or_is_told_that_it_cannot() {
        let log = EventLog::default();
        assert_eq!((log.newest(), log.since(0)), (0, Missed::Events(Vec::new())));
        assert_eq!(log.since(1), Missed::Gap, "it is of another process");
        let run = Some(("dim".to_string(), "1".to_string()));
        log.add(run.clone());
        log.add(None);
        let second = Event { seq: 2, run: None };
        assert_eq!(log.since(1), Missed::Events(vec![second.clone()]));
        assert_eq!(log.since(0), Missed::Events(vec![Event { seq: 1, run }, second]));
        (0..EVENTS_KEPT).for_each(|_| log.add(None));
        assert_eq!((log.since(1), log.newest()), (Missed::Gap, EVENTS_KEPT as u64 + 2));
        assert!(matches!(log.since(2), Missed::Events(events) if events.len() == EVENTS_KEPT));
    }
}
