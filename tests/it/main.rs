//! The tests of whole capabilities, one module each.

mod manifests;
mod tidy;
