//! Conditions that SQL cannot express exactly.
