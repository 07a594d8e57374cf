//! The driver: performs the effects of the rollout machines and feeds the results back.
//!
//! One loop runs all jobs. The machine makes all decisions about devices. The driver is responsible for time and for
//! order: an outcome is durable before the effect that follows from it, a sent mark before the device is spoken to.

mod active;
mod clock;
mod crash;
mod driver;
mod hear;
mod inbox;
mod outbox;
mod perform;
mod ports;
mod progress;
mod publish;
mod republish;
mod running;

pub use active::RunInput;
pub use clock::{Clock, SystemClock, VirtualClock};
pub use crash::{CrashPoints, Died, Side};
pub use driver::Executor;
pub use hear::Hearing;
pub use inbox::{Inbox, Waker, Wakeup, Wakeups};
pub use outbox::{adoption_entry, direct_entry, empty_outbox, import_entry};
pub use ports::{Ports, Wrap};
pub use progress::Progress;
pub use publish::{claims_commit, publish_claim, publish_record, text_of};
pub use republish::{fleet_file, publish_ended, republish};
pub use running::Running;

use crate::link::LinkError;
use crate::registry::RegistryError;
use crate::repo::RepoError;

/// A failure that ends the driver. Everything done so far is journaled, and the next start goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Returns the name of the writer of results, for the trailers of their commits.
pub fn writer() -> String {
    format!("fleetform {} (process {})", env!("CARGO_PKG_VERSION"), std::process::id())
}
