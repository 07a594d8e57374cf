//! Values as text: for people, for machines and for the tools of a CI. Pure functions; printing is the caller's.

pub mod annotations;
pub mod diagnostic;
pub mod junit;
pub mod sarif;
