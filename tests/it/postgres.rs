//! What is true of PostgreSQL alone; `contract` has what is true of every store. Tests run over the shared cluster.

mod example;
mod failover;
mod imports;
mod indexes;
mod json;
mod migrations;
mod observing;
mod refused;
mod roles;
