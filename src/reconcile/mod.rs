//! Makes a fleet what its files declare: one [`Reconciler`], driven by `apply`, the daemon and the rehearsal alike.
//!
//! [`Reconciler`] (`reconciler.rs`) is the way of one apply, from top to bottom: open, plan, take the right to work,
//! claim, execute, give back. The other files are the parts that it is made of:
//!
//! - [`Upstream`]: the remote of the results branch, with the lease and the pushes.
//! - `recovery`: what a process that died left behind, and a branch or registry that is gone.
//! - `beginning`: what a plan begins. `imports`; `claims`: runs that are begun or taken up again; `closing`: runs that
//!   end without a device.
//! - `occurrences`: what is due of the schedules. `refusals`: documents that are held because their plan is refused.
//! - `planning`: plans, and the right to carry them out. `ownership`: which registry works on the fleet; `put_back`: what
//!   one lacks that was put back; `witnessed`: the registry, with a [`Witness`](crate::repo::Witness) of what it sends.
//! - `handover`: a fleet that goes on with a copy of its registry.
//! - `kept_link`: the way to the devices, which may stay open while there is nothing to do. `hearing`: what
//!   devices say then.
//! - `rewind`: a history that went back. `stops`: stops that are committed while an apply runs. `indexes`: those of the
//!   registry.

mod backoff;
mod beginning;
mod claims;
mod closing;
mod error;
mod handover;
mod hearing;
mod imports;
mod indexes;
mod kept_link;
mod noting;
mod occurrences;
mod open_fleet;
mod options;
mod ownership;
mod planning;
mod put_back;
mod quiet;
mod reconciler;
mod recovery;
mod refusals;
mod rewind;
mod seen;
mod stops;
mod suspended;
mod terms;
mod upstream;
mod witnessed;

pub use backoff::Backoff;
pub use error::ReconcileError;
pub use handover::{Handover, Stage, Unfit, is_unsettled};
pub use options::ReconcileOptions;
pub use quiet::{Agree, Agreement, Quiet, until_quiet};
pub use reconciler::Reconciler;
pub use rewind::behind;
pub use seen::Seen;
pub use stops::Stops;
pub use terms::{Done, Ending, Rested, Round, RoundEvent, Terms};
pub use upstream::Upstream;
