//! The options of every command.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The folder of the fleet (the one with fleetform.yaml); else the current one, or the nearest above that is one.
    /// Files that another option names are found from the current folder
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// The registry, in place of the one that the fleet names, such as `sqlite:/var/lib/fleet.db`; else the one of the
    /// variable FLEETFORM_REGISTRY
    // Not an `env` of clap's, for which a variable conflicts with `--snapshot` as an option does.
    #[arg(long, value_name = "URL", global = true)]
    pub registry: Option<String>,
    /// Print JSON lines on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour
    #[arg(long, value_name = "WHEN", global = true, value_enum, default_value_t = ColorChoice::Auto)]
    #[arg(hide_possible_values = false)]
    pub color: ColorChoice,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

impl Global {
    /// Returns the URL of the registry that is named beside the fleet.
    pub fn registry(&self) -> Option<String> {
        self.registry.clone().or_else(registry_of_environment)
    }
}

/// Returns the URL that the environment names; none when the variable is empty.
#[expect(clippy::disallowed_methods, reason = "clap would count the variable as the option")]
pub fn registry_of_environment() -> Option<String> {
    std::env::var("FLEETFORM_REGISTRY").ok().filter(|url| !url.is_empty())
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}
