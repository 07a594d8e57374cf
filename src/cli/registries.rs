//! The arguments of `registry`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Copy the fleet's registry to a place that has none, which works on the fleet from then on
    ///
    /// Every row is read back and compared. The old registry gives the fleet up: it looks and plans, and an apply with
    /// it ends with 75. A copy that was cut off is gone on with by the same command.
    Copy {
        /// The registry: `sqlite:PATH`, `postgres://USER@HOST/DATABASE`, or `env:NAME` for a variable that has the URL
        from: String,
        /// A place that has no registry, written in the same way
        to: String,
    },
    /// Hold registries against the results branch, and against one another; writes nothing
    ///
    /// Looks at the identity, the claims, the targets, the counts, the published rows, the kept files, and at what
    /// contradicts itself. Exits with 1 when something does not hold, and says of each finding what to do.
    Check {
        /// Registries, written as for `copy`; the fleet's when absent
        registries: Vec<String>,
    },
}
