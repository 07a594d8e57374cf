//! The threads that answer: each has a desk of its own. One writes, so that jobs do not race for the branch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::LOG_TARGET;
use super::queue::{Next, Queue};
use crate::ops::hub::{Desk, Followed, HubError};
use crate::ops::{Environment, Kept, Workspace};

/// Threads that read.
const READERS: usize = 3;
/// Requests that wait for a thread, beyond which more are refused.
const WAITING_MAX: usize = 512;
/// The longest pause before a repository is opened again that could not be.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the registry stays open when nothing is asked: a gateway that rests has its files to itself no longer.
const REST: Duration = Duration::from_millis(500);

type Task = Box<dyn for<'w> FnOnce(&mut Desk<'w>) + Send>;

/// The way to the threads.
#[derive(Clone)]
pub struct Desks(Arc<Queues>);

struct Queues {
    readers: Arc<Queue<Task>>,
    writer: Arc<Queue<Task>>,
    committer: Arc<Queue<Task>>,
}

impl Drop for Queues {
    fn drop(&mut self) {
        [&self.readers, &self.writer, &self.committer].iter().for_each(|queue| queue.close());
    }
}

impl Desks {
    /// Starts the threads. They end when nobody has the way to them any more.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(environment: &Environment, followed: &Followed) -> std::io::Result<Desks> {
        // What one of them has read of results is there for the others.
        let environment = Environment { kept: Kept::something(), ..environment.clone() };
        let [readers, writer, committer] = [(); 3].map(|()| Arc::new(Queue::new(WAITING_MAX)));
        let of_readers = std::iter::repeat_n(&readers, READERS);
        for (number, tasks) in of_readers.chain([&writer, &committer]).enumerate() {
            let (environment, followed, tasks) = (environment.clone(), followed.clone(), Arc::clone(tasks));
            let work = move || serve(&environment, &followed, &tasks);
            std::thread::Builder::new().name(format!("desk-{number}")).spawn(work)?;
        }
        Ok(Desks(Arc::new(Queues { readers, writer, committer })))
    }

    /// Has something read.
    ///
    /// # Errors
    /// Too much waits already, or there is no repository yet.
    pub async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Desk<'_>) -> Result<T, HubError> + Send + 'static,
    ) -> Result<T, HubError> {
        hand(&self.0.readers, ask).await
    }

    /// Has something committed, one after the other: a remote that does not answer holds up nobody else.
    ///
    /// # Errors
    /// As [`Desks::read`].
    pub async fn commit<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Desk<'_>) -> Result<T, HubError> + Send + 'static,
    ) -> Result<T, HubError> {
        hand(&self.0.committer, ask).await
    }

    /// Has something written to the registry, one after the other.
    ///
    /// # Errors
    /// As [`Desks::read`].
    pub async fn write<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Desk<'_>) -> Result<T, HubError> + Send + 'static,
    ) -> Result<T, HubError> {
        hand(&self.0.writer, ask).await
    }
}

async fn hand<T: Send + 'static>(
    to: &Queue<Task>,
    ask: impl FnOnce(&mut Desk<'_>) -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    let (sender, answer) = oneshot::channel();
    let task: Task = Box::new(move |desk| drop(sender.send(ask(desk))));
    if !to.put(task) {
        return Err(HubError::Unavailable("too many requests wait already: try again".to_string()));
    }
    let gone = || HubError::Unavailable("the fleet cannot be read now: the log of the gateway says why".to_string());
    answer.await.map_err(|_| gone())?
}

/// Answers until nobody asks any more. What panics is logged, and answered as what cannot be read.
fn serve(environment: &Environment, followed: &Followed, tasks: &Queue<Task>) {
    let mut is_first = true;
    loop {
        let workspace = match Workspace::open(environment) {
            Ok(workspace) => workspace.keeping_open(),
            Err(error) => {
                if is_first {
                    tracing::warn!(target: LOG_TARGET, %error, "back ends cannot be answered yet");
                }
                is_first = false;
                // Who asks meanwhile is told so.
                match tasks.next(Some(PAUSE)) {
                    Next::Task(task) => drop(task),
                    Next::Nothing => {}
                    Next::Closed => return,
                }
                continue;
            }
        };
        let mut desk = Desk::new(&workspace, followed.clone());
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut rest = Some(REST);
            loop {
                match tasks.next(rest) {
                    Next::Task(task) => {
                        task(&mut desk);
                        rest = Some(REST);
                    }
                    Next::Nothing => {
                        workspace.rest();
                        rest = None;
                    }
                    Next::Closed => return,
                }
            }
        }));
        if ended.is_ok() {
            return;
        }
        tracing::error!(target: LOG_TARGET, "a request of a back end has failed in a way that is a bug: please report it");
    }
}
