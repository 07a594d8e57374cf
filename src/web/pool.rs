//! The threads that read what pages show. What waits for them is bounded; the daemon's thread is none of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::LOG_TARGET;
use super::fault::Fault;
use crate::listen::{READS_PAGES, lower_priority};
use crate::model::limits::{PAGE_THREADS, PAGES_WAITING_MAX};
use crate::ops::Environment;
use crate::ops::group;
use crate::ops::job::{JobFilter, list};

type Task = Box<dyn FnOnce(&Environment) + Send>;

/// The way to the threads. They end when nobody has the way to them any more.
#[derive(Clone)]
pub struct Pool {
    tasks: SyncSender<Task>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(environment: &Environment) -> std::io::Result<Pool> {
        let (tasks, waiting) = sync_channel::<Task>(PAGES_WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 1..=PAGE_THREADS {
            let (environment, waiting) = (environment.clone(), Arc::clone(&waiting));
            let work = move || {
                lower_priority(READS_PAGES);
                serve(&environment, &waiting);
            };
            std::thread::Builder::new().name(format!("page-{number}")).spawn(work)?;
        }
        // The history of a fleet is read once, and the devices of its groups are counted rarely. The first reader of a
        // page does not wait for either. Pages say what is wrong with the fleet.
        let history: Task = Box::new(|environment| {
            let open = JobFilter { is_open: true, ..JobFilter::default() };
            drop(list(environment, &open, &mut |_| ()));
        });
        let groups: Task = Box::new(|environment| drop(group::list(environment)));
        [history, groups].into_iter().for_each(|task| drop(tasks.try_send(task)));
        Ok(Pool { tasks })
    }

    /// Has something read.
    ///
    /// # Errors
    /// Too much waits already; or the error of what was to be read.
    pub async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Environment) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (sender, answer) = oneshot::channel();
        let task: Task = Box::new(move |environment| {
            // Who has gone meanwhile needs no answer.
            if !sender.is_closed() {
                drop(sender.send(ask(environment)));
            }
        });
        self.tasks.try_send(task).map_err(|_| Fault::Busy)?;
        answer.await.unwrap_or(Err(Fault::Busy))
    }
}

fn serve(environment: &Environment, waiting: &Mutex<Receiver<Task>>) {
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(task) = next() {
        if catch_unwind(AssertUnwindSafe(|| task(environment))).is_err() {
            tracing::error!(target: LOG_TARGET, "a page has failed in a way that is a bug: please report it");
        }
    }
}
