//! What is noted before a method is called: calls that come at the same time are noted with one commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::desks::Desks;
use crate::ops::hub::{HubError, NotedCall};

/// Calls that are noted with one commit.
const CALLS_MAX: usize = 256;

/// Calls that wait to be noted.
#[derive(Default)]
pub struct Notes {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    calls: Vec<(NotedCall, oneshot::Sender<Result<(), HubError>>)>,
    /// Somebody notes them.
    is_attended: bool,
}

impl Notes {
    /// Notes a call. It is durable when this returns.
    ///
    /// # Errors
    /// There is no such device, it is disabled, or the call cannot be noted.
    pub async fn note(self: &Arc<Notes>, desks: &Desks, call: NotedCall) -> Result<(), HubError> {
        let (sender, noted) = oneshot::channel();
        let is_attended = {
            let mut waiting = self.lock();
            waiting.calls.push((call, sender));
            std::mem::replace(&mut waiting.is_attended, true)
        };
        if !is_attended {
            // Whoever asked may hang up, and others wait, too.
            tokio::spawn(Arc::clone(self).attend(desks.clone()));
        }
        let gone = || HubError::Unavailable("the call could not be noted: try again".to_string());
        noted.await.map_err(|_| gone())?
    }

    /// Notes what waits, until nothing does.
    async fn attend(self: Arc<Notes>, desks: Desks) {
        loop {
            let part: Vec<_> = {
                let mut waiting = self.lock();
                if waiting.calls.is_empty() {
                    waiting.is_attended = false;
                    return;
                }
                let count = waiting.calls.len().min(CALLS_MAX);
                waiting.calls.drain(..count).collect()
            };
            let (calls, answers): (Vec<_>, Vec<_>) = part.into_iter().unzip();
            let verdicts = match desks.write(move |desk| desk.note_calls(&calls)).await {
                Ok(verdicts) => verdicts,
                Err(error) => {
                    let text = error.to_string();
                    let others = answers.iter().skip(1).map(|_| Err(HubError::Unavailable(text.clone())));
                    others.chain([Err(error)]).collect()
                }
            };
            for (answer, verdict) in answers.into_iter().zip(verdicts) {
                // Nobody may wait for it any more.
                let _hung_up = answer.send(verdict);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What panicked has left whole calls behind.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
