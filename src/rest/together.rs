//! Requests that wait for the disk: those that come at the same time are done with one commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::desks::Desks;
use crate::ops::hub::HubError;

/// Does all of some requests, and returns what becomes of each, in their order.
pub trait Doing<A, R>: Send + Sync + 'static {
    /// # Errors
    /// Of a request: that it is not done. Of all: that none is.
    fn all(
        &self,
        desks: &Desks,
        asked: Vec<A>,
    ) -> impl Future<Output = Result<Vec<Result<R, HubError>>, HubError>> + Send;
}

/// Requests of one kind that wait to be done.
pub struct Together<A, R, D> {
    waiting: Mutex<Waiting<A, R>>,
    /// Requests that are done at once.
    most: usize,
    doing: D,
}

struct Waiting<A, R> {
    asked: Vec<(A, oneshot::Sender<Result<R, HubError>>)>,
    /// Somebody does them.
    is_attended: bool,
}

impl<A: Send + 'static, R: Send + 'static, D: Doing<A, R>> Together<A, R, D> {
    pub fn new(most: usize, doing: D) -> Together<A, R, D> {
        let waiting = Mutex::new(Waiting { asked: Vec::new(), is_attended: false });
        Together { waiting, most, doing }
    }

    /// Does what is asked. It is durable when this returns.
    ///
    /// # Errors
    /// It is not done.
    pub async fn ask(self: &Arc<Self>, desks: &Desks, asked: A) -> Result<R, HubError> {
        let (sender, done) = oneshot::channel();
        let is_attended = {
            let mut waiting = self.lock();
            waiting.asked.push((asked, sender));
            std::mem::replace(&mut waiting.is_attended, true)
        };
        if !is_attended {
            // Whoever asked may hang up, and others wait, too.
            tokio::spawn(Arc::clone(self).attend(desks.clone()));
        }
        let gone = || HubError::Unavailable("it could not be done: try again".to_string());
        done.await.map_err(|_| gone())?
    }

    /// Does what waits, until nothing does.
    async fn attend(self: Arc<Self>, desks: Desks) {
        loop {
            let part: Vec<_> = {
                let mut waiting = self.lock();
                if waiting.asked.is_empty() {
                    waiting.is_attended = false;
                    return;
                }
                let count = waiting.asked.len().min(self.most);
                waiting.asked.drain(..count).collect()
            };
            let (asked, answers): (Vec<_>, Vec<_>) = part.into_iter().unzip();
            let verdicts = match self.doing.all(&desks, asked).await {
                Ok(verdicts) => verdicts,
                Err(error) => error.of_all(answers.len()),
            };
            for (answer, verdict) in answers.into_iter().zip(verdicts) {
                // Nobody may wait for it any more.
                let _hung_up = answer.send(verdict);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<A, R>> {
        // What panicked has left whole requests behind.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
