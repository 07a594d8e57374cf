//! The events of a site: where pages hear them, and how they are named so that a page can resume.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::listen::EventLog;
use crate::model::encoding::percent_encoded;
use crate::model::limits::EVENT_STREAMS_MAX;

/// The events of a site, and the places of streams.
pub struct Events {
    pub log: EventLog,
    /// Names this process: a number of another one means nothing here.
    process: String,
    pub places: Arc<Semaphore>,
}

impl Events {
    /// Returns the events of a log.
    pub fn of(log: EventLog, process: String) -> Events {
        Events { log, process, places: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)) }
    }

    /// Returns how many streams are open.
    pub fn open(&self) -> u32 {
        u32::try_from(EVENT_STREAMS_MAX - self.places.available_permits()).unwrap_or(u32::MAX)
    }

    /// Returns where a page hears what happens after an event: about a run, or about everything.
    pub fn address(&self, seq: u64, run: Option<(&str, &str)>) -> String {
        let about = run
            .map_or(String::new(), |(job, run)| format!("&job={}&run={}", percent_encoded(job), percent_encoded(run)));
        format!("/events?after={}{about}", self.id(seq))
    }

    /// Returns the id of an event.
    pub fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.process)
    }

    /// Returns the number of an id; `None` for one of another process.
    pub fn seq(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&self.process)?.strip_prefix('-')?.parse().ok()
    }
}
