//! A seeded world to prove that a job runs never twice and is never lost.
//!
//! Production code runs unmodified: [`crate::ops::apply`] over a real SQLite registry and a real git repository in a folder that
//! the caller gives. What is made up here is time, the devices' faults, the people who commit and the moments at which the process
//! dies. One seed decides all of it. A world goes through two phases: first faults, then everything is healed and must come to rest
//! in a bounded number of applies. The [`Auditor`] judges both from the outside: what was declared, what the devices wrote into
//! their own journal, and the results branch.
//!
//! A script (`fixtures/scripts`) is the same world without chance: a person writes down what happens, and its transcript is read.
//!
//! Called by `tests/sim.rs` and `tests/it/scripts.rs`. Never used by the other rooms.

mod auditor;
mod clock;
mod faulty;
mod ledger;
mod people;
mod random;
mod random_job;
mod remote;
mod schedules;
mod script;
mod session;
mod stage;
mod transcript;
mod world;

pub use auditor::Auditor;
pub use clock::VirtualClock;
pub use faulty::dying;
pub use people::{DeclaredJob, Kind, People, Target};
pub use random::Random;
pub use remote::RemoteFault;
pub use schedules::DeclaredSchedule;
pub use script::ScriptError;
pub use session::{Failure, Session, run_daemon_seed, run_remote_seed, run_seed};
pub use stage::run_script;
pub use world::{Ended, Faults, World};

/// The name of every simulated fleet.
const FLEET: &str = "sim";
const BRANCH: &str = "fleetform/results";
