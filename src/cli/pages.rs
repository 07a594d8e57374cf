//! The arguments of `serve`, and the words that pages share with the command line.

use clap::Args;

use super::logs::LogArgs;
use super::view::{diagnostic, why};
use crate::ops::Findings;
use crate::ops::job::Why;
use crate::web::Voice;

/// Columns in which causes and findings are written: those of a page.
const COLUMNS: usize = 110;

/// The words of the command line.
pub const VOICE: Voice = Voice { why: why_text, causes: why::to_json, findings: findings_text };

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to serve
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,
    #[command(flatten)]
    pub log: LogArgs,
}

fn why_text(cause: &Why) -> String {
    let text = why::render(cause, super::output::Painter { is_on: false });
    // The page has the first line as its title.
    let lines = text.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn findings_text(found: &Findings) -> String {
    let sorted = found.diagnostics.sorted();
    let texts = sorted.iter().map(|one| diagnostic::render(one, &found.sources, false, Some(COLUMNS)));
    texts.collect::<Vec<_>>().join("\n\n")
}
