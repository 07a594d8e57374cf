//! A registry in a PostgreSQL database.

pub mod json;
