//! The command line: arguments in, views out.

pub mod view;
