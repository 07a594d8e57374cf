//! A seeded simulation that checks that a job never runs twice and is never lost.
//!
//! Production code runs unmodified: [`crate::ops::apply`] over a real SQLite registry and a real git repository in a
//! folder that the caller gives. The simulation provides time, the devices' faults, the people who commit and the
//! moments at which the process dies. One seed decides all of it. A world has two phases: first faults, then all faults
//! end and the world must come to rest in a bounded number of applies. Registries are lost, and put back from backups;
//! the results branch too. Jobs are renamed, and a stranger applies in a clone of its own. The [`Auditor`] judges both
//! phases from the outside: by the declared files, the devices' own journal and the results branch.
//!
//! A script (`fixtures/scripts`) is the same world without chance: a person writes down the events, and reviews the
//! transcript.
//!
//! `tests/sim.rs` and `tests/it/scripts.rs` call this module. Other modules never use it.

mod auditor;
mod borders;
mod claimed;
mod clock;
mod faults;
mod faulty;
mod job;
mod ledger;
mod people;
mod random;
mod relay;
mod remote;
mod schedules;
mod script;
mod session;
mod stage;
mod transcript;
mod world;

pub use auditor::Auditor;
pub use clock::SimClock;
pub use faults::Faults;
pub use faulty::{Doubt, Doubted, dying, dying_in_doubt};
pub use job::{DeclaredJob, JobKind, Target};
pub use people::People;
pub use random::Random;
pub use relay::Relay;
pub use remote::RemoteFault;
pub use schedules::DeclaredSchedule;
pub use script::ScriptError;
pub use session::{Failure, Session, run_daemon_seed, run_remote_seed, run_seed};
pub use stage::run_script;
pub use world::{Ended, World};

/// The name of every simulated fleet.
const FLEET: &str = "sim";
const BRANCH: &str = "fleetform/results";
