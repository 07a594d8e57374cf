//! The tests of whole capabilities, one module each.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and may look at the clock"
)]

mod access;
mod acting;
mod alerts;
mod apply;
mod borders;
mod broker;
mod circles;
mod cluster;
mod contract;
mod convert;
mod copies;
mod daemon;
mod delivery;
mod devices;
mod docs;
mod edge;
mod editors;
mod follow;
mod forge;
mod formats;
mod gadgets;
mod gateway;
mod gone;
mod hostile;
mod imports;
mod indexes;
mod kinds;
mod known;
mod leaving;
mod lending;
mod lifecycle;
mod listen;
mod looking;
mod manifests;
mod mqtt;
mod numbers;
mod occurrences;
mod oidc;
mod operator;
mod order;
mod organizations;
mod outcomes;
mod ownership;
mod planner;
mod policy;
mod postgres;
mod pull_requests;
mod queries;
mod readme;
mod recovery;
mod registry;
mod remote;
mod renames;
mod renewal;
mod rest;
mod review;
mod said;
mod saved;
mod schedules;
mod scoped;
mod scripts;
mod secrets;
mod servers;
mod service;
mod shell;
mod simulate;
mod sql;
mod stand_in;
mod stores;
mod switchboard;
mod targets;
mod templates;
mod threshold;
mod tidy;
mod told;
mod twins;
mod upstream;
mod watch;
mod web;
mod world;
