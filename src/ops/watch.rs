//! The daemon: reconciles whenever the branch moves or something is due, and goes on with what runs meanwhile.
//!
//! It is a loop of four steps, each a function of what it reads, never of what woke it:
//!
//! 1. *Look*: which commit is the newest, and does it declare something else than the one before? (`follower`,
//!    `source`)
//! 2. *Reconcile*, when something is due: a round of the reconciler, which leaves out what has errors.
//! 3. *Execute* what runs, a second at a time, so that a new commit is taken up while jobs run.
//! 4. *Listen*, when nothing runs: to devices with a link that stays open, until an event, the interval, or until
//!    something is due.
//!
//! The lock and the registry are held while there is work, and given back when there is none: a person may apply by
//! hand beside an idle daemon. What fails is told, and tried again later; nothing but the start ends the daemon.

mod daemon;
mod events;
mod follower;
mod notes;
mod options;
mod source;
mod start;

use super::{Environment, OpsError, Workspace};
use crate::execute::{Clock, Inbox, Waker};
pub use events::Events;
pub use notes::{Look, Note};

use daemon::Daemon;
use follower::Follower;
use source::Source;

pub use crate::link::{GatewayOptions, Switchboard};
pub use options::{RemoteSource, WatchOptions};

/// Follows a branch until it is interrupted.
///
/// # Errors
/// It cannot start: there is no repository or no such branch, or a remote that was never fetched can never be (its
/// address is none, git is not installed). What fails later is told and tried again.
pub fn watch(
    environment: &Environment,
    options: &WatchOptions,
    clock: &dyn Clock,
    inbox: &Inbox,
    tell: &mut dyn FnMut(&Note<'_>),
) -> Result<(), OpsError> {
    let workspace = match &options.remote {
        Some(remote) => {
            let branch = options.branch_followed();
            let path = start::check_remote(remote, &branch)?;
            Workspace::open_mirror(environment, &remote.address, &branch, &path)?
        }
        None => Workspace::open(environment)?,
    };
    if options.remote.is_none() && workspace.repo.is_mirror() {
        return Err(workspace.repo.is_a_mirror().into());
    }
    let source = Source::open(&workspace, options, inbox.waker(), clock.now())?;
    tell(&Note::Started { fleet_branch: &source.to_string() });
    // Only the daemon moves the references of a mirror.
    let has_events = options.has_events && options.remote.is_none();
    let _events = if has_events { events(&workspace, inbox.waker(), tell) } else { None };
    let mut daemon = Daemon::new(
        &workspace,
        Follower::new(&workspace, source, options.trust.clone()),
        options,
        inbox.waker(),
        clock.now(),
    );
    loop {
        daemon.step(clock, inbox, tell)?;
        if inbox.is_interrupted() && daemon.is_idle() {
            daemon.end(clock.now(), tell);
            return Ok(());
        }
        if daemon.has_nothing_running() {
            daemon.rest(clock.now(), tell);
            daemon.listen(clock, inbox, tell);
        }
    }
}

fn events(workspace: &Workspace, waker: Waker, tell: &mut dyn FnMut(&Note<'_>)) -> Option<Events> {
    match Events::of_references(workspace.repo.common_folder(), waker) {
        Ok(events) => Some(events),
        Err(error) => {
            tell(&Note::NoEvents { error: &error });
            None
        }
    }
}
