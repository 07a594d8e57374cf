//! The arguments of commands that edit a document.

use clap::Args;

#[derive(Debug, Args)]
pub struct EditArgs {
    /// Edit the file only
    #[arg(long)]
    pub no_commit: bool,
}
