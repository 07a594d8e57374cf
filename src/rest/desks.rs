//! The threads that answer: each has a desk of its own. One writes, so that jobs do not race for the branch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::LOG_TARGET;
use crate::ops::hub::{Desk, Followed, HubError};
use crate::ops::{Environment, Workspace};

/// Threads that read.
const READERS: usize = 3;
/// Requests that wait for a thread, beyond which more are refused.
const WAITING_MAX: usize = 512;
/// The longest pause before a repository is opened again that could not be.
const PAUSE: Duration = Duration::from_millis(500);

type Task = Box<dyn for<'w> FnOnce(&mut Desk<'w>) + Send>;

/// The way to the threads.
#[derive(Clone)]
pub struct Desks {
    readers: SyncSender<Task>,
    writer: SyncSender<Task>,
    committer: SyncSender<Task>,
}

impl Desks {
    /// Starts the threads. They end when nobody has the way to them any more.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(environment: &Environment, followed: &Followed) -> std::io::Result<Desks> {
        let (readers, to_read) = sync_channel::<Task>(WAITING_MAX);
        let (writer, to_write) = sync_channel::<Task>(WAITING_MAX);
        let (committer, to_commit) = sync_channel::<Task>(WAITING_MAX);
        let shared = |tasks: Receiver<Task>| Arc::new(Mutex::new(tasks));
        let (to_read, to_write, to_commit) = (shared(to_read), shared(to_write), shared(to_commit));
        let readers_of = std::iter::repeat_n(to_read, READERS);
        for (number, tasks) in readers_of.chain([to_write, to_commit]).enumerate() {
            let (environment, followed) = (environment.clone(), followed.clone());
            let work = move || serve(&environment, &followed, &tasks);
            std::thread::Builder::new().name(format!("desk-{number}")).spawn(work)?;
        }
        Ok(Desks { readers, writer, committer })
    }

    /// Has something read.
    ///
    /// # Errors
    /// Too much waits already, or there is no repository yet.
    pub async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Desk<'_>) -> Result<T, HubError> + Send + 'static,
    ) -> Result<T, HubError> {
        hand(&self.readers, ask).await
    }

    /// Has something committed, one after the other: a remote that does not answer holds up nobody else.
    ///
    /// # Errors
    /// As [`Desks::read`].
    pub async fn commit<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Desk<'_>) -> Result<T, HubError> + Send + 'static,
    ) -> Result<T, HubError> {
        hand(&self.committer, ask).await
    }

    /// Has something written to the registry, one after the other.
    ///
    /// # Errors
    /// As [`Desks::read`].
    pub async fn write<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Desk<'_>) -> Result<T, HubError> + Send + 'static,
    ) -> Result<T, HubError> {
        hand(&self.writer, ask).await
    }
}

async fn hand<T: Send + 'static>(
    to: &SyncSender<Task>,
    ask: impl FnOnce(&mut Desk<'_>) -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    let (sender, answer) = oneshot::channel();
    let task: Task = Box::new(move |desk| drop(sender.send(ask(desk))));
    let busy = || HubError::Unavailable("too many requests wait already: try again".to_string());
    to.try_send(task).map_err(|_| busy())?;
    let gone = || HubError::Unavailable("the fleet cannot be read now: the log of the gateway says why".to_string());
    answer.await.map_err(|_| gone())?
}

/// Answers until nobody asks any more. What panics is logged, and answered as what cannot be read.
fn serve(environment: &Environment, followed: &Followed, tasks: &Mutex<Receiver<Task>>) {
    let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let mut is_first = true;
    loop {
        let workspace = match Workspace::open(environment) {
            Ok(workspace) => workspace,
            Err(error) => {
                if is_first {
                    tracing::warn!(target: LOG_TARGET, %error, "back ends cannot be answered yet");
                }
                is_first = false;
                // Who asks meanwhile is told so.
                let waiting = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(PAUSE);
                match waiting {
                    Ok(task) => drop(task),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                continue;
            }
        };
        let mut desk = Desk::new(&workspace, followed.clone());
        let ended = catch_unwind(AssertUnwindSafe(|| {
            while let Ok(task) = next() {
                task(&mut desk);
            }
        }));
        if ended.is_ok() {
            return;
        }
        tracing::error!(target: LOG_TARGET, "a request of a back end has failed in a way that is a bug: please report it");
    }
}
