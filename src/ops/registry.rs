//! The registry of a fleet as a whole: copied to another place, and checked.

mod check;
mod copy;
mod findings;
mod shards;

pub use check::{Checked, check};
pub use copy::{Copied, CopyOptions, CopyProgress, copy};
pub use findings::{Finding, Rule};
