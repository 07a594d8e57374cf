//! The lowering of conditions to SQL: each dialect is held against the reference.

pub mod generated;
mod postgres;
mod sqlite;
