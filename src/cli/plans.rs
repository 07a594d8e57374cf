//! The options of `plan`, `plan show` and `review`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::forge::ForgeArgs;
use super::secrets::SecretArgs;

/// The options of `plan`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PlanArgs {
    #[command(subcommand)]
    pub command: Option<PlanCommand>,
    /// Plan a commit, a branch or a tag; the work tree when absent
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
    /// Plan only what is changed since the commit that REV and the planned tree come from: what a pull request adds
    #[arg(long, value_name = "REV", conflicts_with = "out")]
    pub base: Option<String>,
    /// Plan with a snapshot in place of the registry
    #[arg(long, value_name = "FILE", conflicts_with = "registry")]
    pub snapshot: Option<PathBuf>,
    /// Save the plan, to apply just this with `fleetform apply FILE`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub secrets: SecretArgs,
    #[command(flatten)]
    pub form: FormArgs,
    /// Exit with 2 when the plan has changes, with 0 when it has none
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// The commit that is trusted to have brought the fleet's Access document
    #[arg(long, value_name = "COMMIT")]
    pub introduction: Option<String>,
    /// Exit with 65 when there is a warning, too
    #[arg(long)]
    pub strict: bool,
}

/// The commands below `plan`.
#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Print a saved plan as `plan` did, and say whether it is still fresh
    Show {
        /// A plan saved with `fleetform plan --out`
        plan: PathBuf,
        #[command(flatten)]
        form: FormArgs,
    },
}

/// The options that say how a plan is printed.
#[derive(Debug, Clone, Args)]
pub struct FormArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t = PlanFormat::Human)]
    pub format: PlanFormat,
    /// Print it as a comment of a pull request; as `--format markdown`
    #[arg(long, conflicts_with_all = ["format", "json"])]
    pub markdown: bool,
    /// The most bytes of such a comment
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(2_000..=10_000_000))]
    pub markdown_bytes: u64,
}

/// The options of `review`.
#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// The branch that the pull request is to be merged into, such as origin/main; what CI says when absent
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// The number of the pull request; what CI says when absent
    #[arg(long, value_name = "N")]
    pub change: Option<u64>,
    /// The commit that gets the status; what CI says, else HEAD, when absent
    #[arg(long, value_name = "ID")]
    pub commit: Option<String>,
    /// Plan with a snapshot in place of the registry
    #[arg(long, value_name = "FILE", conflicts_with = "registry")]
    pub snapshot: Option<PathBuf>,
    /// The most bytes of the comment
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(2_000..=10_000_000))]
    pub markdown_bytes: u64,
    /// Exit with 65 when there is a warning, too
    #[arg(long)]
    pub strict: bool,
    /// The commit that is trusted to have brought the fleet's Access document
    #[arg(long, value_name = "COMMIT")]
    pub introduction: Option<String>,
    #[command(flatten)]
    pub secrets: SecretArgs,
    /// Leave the comment out
    #[arg(long)]
    pub no_comment: bool,
    /// Leave the commit's status out
    #[arg(long)]
    pub no_status: bool,
    #[command(flatten)]
    pub forge: ForgeArgs,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    Human,
    Json,
    /// The body of a comment
    Markdown,
    /// Workflow commands of GitHub Actions: what was found in the files
    Github,
    /// SARIF 2.1.0: what was found in the files
    Sarif,
    /// What was found in the files
    Junit,
}
