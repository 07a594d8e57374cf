//! Where devices live, and how queries reach them.

pub mod sql;
