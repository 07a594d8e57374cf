//! The nouns: validated and immutable values that every room shares.
//!
//! No IO, no YAML, no SQL. Text becomes a value of this room once, at the edge (`manifest::lower`, `registry`), and is
//! trusted afterwards.

pub mod access;
pub mod acknowledgement;
pub mod alert;
pub mod backoff;
pub mod broker;
pub mod buckets;
pub mod delivery;
pub mod device;
pub mod digest;
pub mod encoding;
pub mod entry;
pub mod fleet;
pub mod hub;
pub mod id;
pub mod job;
pub mod kind;
pub mod limits;
pub mod marks;
pub mod observation;
pub mod outcome;
pub mod patch;
pub mod policy;
pub mod schedule;
pub mod secret;
pub mod status;
pub mod subscriptions;
pub mod text;
