//! The whole command line: the arguments as they are declared, with examples and what completes them.

use clap::{Arg, Command, CommandFactory as _};

use super::args::Cli;
use super::complete::with_completions;

/// Where the options stand that every command has.
const GLOBAL: &str = "Options of every command";

/// Examples by command, each with what it does.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    ("quickstart", &[("fleetform quickstart", "a fleet of 1,000 lamps in ./my-fleet")]),
    (
        "init",
        &[
            ("fleetform init acme", "a new fleet in ./acme"),
            ("fleetform init --name acme", "in the current folder, under another name"),
        ],
    ),
    (
        "validate",
        &[
            ("fleetform validate", "all mistakes of all files"),
            ("fleetform validate --format github", "as annotations of a pull request"),
        ],
    ),
    (
        "plan",
        &[
            ("fleetform plan", "what an apply of the work tree would do"),
            ("fleetform plan --rev origin/main --json", "the plan of a commit, for a program"),
            ("fleetform plan --out plan.json", "kept, to apply just this one"),
        ],
    ),
    ("plan show", &[("fleetform plan show plan.json", "a plan that was kept, and whether it still holds")]),
    (
        "review",
        &[
            ("fleetform review", "in CI: comment on the pull request, set its status"),
            ("fleetform review --base origin/main --change 7 --no-status", "elsewhere"),
        ],
    ),
    (
        "apply",
        &[
            ("fleetform apply", "plan, ask, execute"),
            ("fleetform apply --yes --wait", "ask nothing, and wait for devices that are offline"),
            ("fleetform apply plan.json", "a plan that was kept, unless something has changed"),
        ],
    ),
    (
        "watch",
        &[
            ("fleetform watch", "follow the branch that is checked out"),
            ("fleetform -C /var/lib/fleetform watch --remote git@example.com:fleet", "follow a remote"),
        ],
    ),
    (
        "gateway",
        &[
            ("fleetform gateway --certificate hub.pem --key hub-key.pem", "listen for devices on port 8883"),
            (
                "fleetform -C /var/lib/fleetform gateway --remote git@example.com:fleet --certificate hub.pem --key \
                 hub-key.pem",
                "follow a remote",
            ),
        ],
    ),
    ("gateway init", &[("fleetform gateway init", "policies with keys, for back ends")]),
    (
        "gateway connection-string",
        &[
            ("fleetform gateway connection-string service", "for a back end that calls methods"),
            ("fleetform gateway connection-string iothubowner --port 8443", "where the port is not 443"),
        ],
    ),
    ("snapshot", &[("fleetform snapshot --out fleet.snapshot", "for `plan --snapshot` in CI")]),
    (
        "serve",
        &[
            ("fleetform serve", "pages on http://127.0.0.1:8080/"),
            ("fleetform serve --listen 127.0.0.1:0", "on a free port"),
        ],
    ),
    ("serve token", &[("fleetform serve token ann", "a token for Ann, and the line for --auth")]),
    ("status", &[("fleetform status", "what the daemon does, and what waits")]),
    (
        "adopt",
        &[
            ("fleetform adopt --mark-done reboot-line-3", "this job has run elsewhere"),
            ("fleetform adopt --run", "both records are lost, and nothing has run"),
        ],
    ),
    (
        "simulate",
        &[
            ("fleetform simulate", "how each job would end, and when"),
            ("fleetform simulate --failures 5% --offline 2%", "with worse devices"),
        ],
    ),
    (
        "convert",
        &[
            ("fleetform convert jobs.json", "documents on stdout"),
            ("fleetform convert answers -o fleet", "a folder of answers of the REST API, into files"),
        ],
    ),
    (
        "job list",
        &[
            ("fleetform job list --status failed --since 7d", "what failed this week"),
            ("fleetform job list --device lamp-0701", "what became of a device"),
        ],
    ),
    (
        "job show",
        &[
            ("fleetform job show reboot --why", "the numbers behind where it is"),
            ("fleetform job show reboot --status failed", "the devices that failed"),
            ("fleetform job show reboot --follow", "live"),
        ],
    ),
    ("job stop", &[("fleetform job stop reboot", "commits `suspend: true`")]),
    ("job continue", &[("fleetform job continue reboot", "commits `suspend: false`")]),
    ("job copy", &[("fleetform job copy reboot reboot-again", "a new job like it")]),
    (
        "job rerun",
        &[
            ("fleetform job rerun reboot", "on the devices that failed"),
            ("fleetform job rerun reboot --pending", "on those that were not reached"),
        ],
    ),
    ("job results", &[("fleetform job results reboot -o reboot.csv", "a row a device")]),
    ("schedule list", &[("fleetform schedule list", "when each is due next")]),
    ("schedule next", &[("fleetform schedule next nightly -n 3 --from 2027-03-01", "three occurrences in March")]),
    ("schedule unschedule", &[("fleetform schedule unschedule nightly", "commits `suspend: true`")]),
    ("schedule reschedule", &[("fleetform schedule reschedule nightly", "commits `suspend: false`")]),
    (
        "device list",
        &[
            ("fleetform device list --query \"tags.hall = 'a'\" --count", "how many a condition selects"),
            ("fleetform device list --organization eu --limit 100", "the first page"),
        ],
    ),
    ("device show", &[("fleetform device show lamp-0001", "its twin, groups and last jobs")]),
    (
        "device export",
        &[
            ("fleetform device export -o ../devices.csv", "with keys, mode 0600"),
            ("fleetform device export --format iothub -o -", "for IoT Hub, on stdout"),
        ],
    ),
    ("device block", &[("fleetform device block lamp-0701 --reason 'burnt'", "at once, without a commit")]),
    ("device unblock", &[("fleetform device unblock lamp-0701", "at once")]),
    ("device delete", &[("fleetform device delete lamp-0701", "with its keys and twin")]),
    ("device set", &[("fleetform device set lamp-0001 light.level=40", "commits a job for one device")]),
    ("device call", &[("fleetform device call lamp-0001 reboot '{\"delay\": 5}'", "commits a job for one device")]),
    (
        "device send",
        &[("fleetform device send lamp-0001 'open' --property level=3 --expires 30m", "waits for the device")],
    ),
    (
        "device run",
        &[
            ("fleetform device run --id lamp-0001", "a device of the fleet here, at the fleet's broker"),
            ("fleetform device run --id pi --broker mqtt://localhost --method beep='./beep.sh'", "a real one"),
        ],
    ),
    (
        "device fleet",
        &[
            ("fleetform device fleet -n 1000 --ids lamp- --latency 50ms..150ms", "the lamps of the quickstart"),
            ("fleetform device fleet --ids-from devices.csv --answers 500", "devices that refuse everything"),
        ],
    ),
    ("group list", &[("fleetform group list", "with the number of devices in each")]),
    ("group show", &[("fleetform group show hall-a", "its condition, size, and what uses it")]),
    ("import list", &[("fleetform import list", "the report of each")]),
    ("import show", &[("fleetform import show lamps", "with the rejected rows")]),
    (
        "registry copy",
        &[
            ("fleetform registry copy sqlite:.fleetform/fleet.db env:DATABASE_URL", "to PostgreSQL"),
            ("fleetform registry copy env:DATABASE_URL sqlite:/srv/fleet.db", "and back, to a file"),
        ],
    ),
    (
        "registry check",
        &[
            ("fleetform registry check", "the fleet's, against the results branch"),
            ("fleetform registry check sqlite:/srv/backup.db", "a backup, before it is put back"),
        ],
    ),
    ("explain", &[("fleetform explain FF604", "a code"), ("fleetform explain claim", "a word")]),
    (
        "schema",
        &[
            ("fleetform schema --out .schemas", "for editors, in the fleet's folder"),
            ("fleetform schema Job", "the schema of a job"),
        ],
    ),
    ("completions", &[("source <(fleetform completions bash)", "in ~/.bashrc")]),
];

/// Returns the whole command line.
pub fn command() -> Command {
    with_completions(described(Cli::command(), &[]), &[])
}

/// Returns a command whose arguments are described and that has its examples, and so all commands below it.
fn described(command: Command, path: &[&str]) -> Command {
    let noun = path.first().copied().unwrap_or_default();
    let joined = path.join(" ");
    let command = command.mut_args(|argument| {
        let argument = if argument.is_global_set() { argument.help_heading(GLOBAL) } else { argument };
        if argument.get_help().is_some() { argument } else { with_help(argument, noun) }
    });
    let examples = EXAMPLES.iter().find(|(name, _)| *name == joined).map_or(&[][..], |(_, examples)| *examples);
    let width = examples.iter().map(|(line, _)| line.len()).max().unwrap_or_default();
    let fits = width + examples.iter().map(|(_, does)| does.len()).max().unwrap_or_default() < 74;
    let line = |(line, does): &(&str, &str)| {
        if fits { format!("  {line:<width$}  # {does}\n") } else { format!("  {line}\n      # {does}\n") }
    };
    let text: String = examples.iter().map(line).collect();
    let command = if text.is_empty() { command } else { command.after_help(format!("Examples:\n{}", text.trim_end())) };
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_string()).collect();
    names.iter().fold(command, |command, name| {
        let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        command.mut_subcommand(name, |inner| described(inner, &path))
    })
}

/// The arguments that nearly every command of a noun has.
fn with_help(argument: Arg, noun: &str) -> Arg {
    let help = match argument.get_id().as_str() {
        "name" => format!("The name of the {noun}"),
        "device_id" => "The id of the device".to_string(),
        "shell" => "The shell".to_string(),
        "device_ids" => "The ids of the devices".to_string(),
        _ => return argument,
    };
    argument.help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        let mut inner = command.get_subcommands().filter(|inner| inner.get_name() != "help").peekable();
        let is_whole = !path.is_empty() && !command.is_subcommand_required_set();
        if inner.peek().is_none() || is_whole {
            found.push((path.to_string(), command.clone()));
        }
        inner.for_each(|inner| leaves(inner, format!("{path} {}", inner.get_name()).trim(), found));
    }

    #[test]
    fn every_command_has_examples_that_parse_and_arguments_that_are_described() {
        let (command, mut found) = (command(), Vec::new());
        leaves(&command, "", &mut found);
        assert_eq!(found.len(), EXAMPLES.len());
        for (path, leaf) in found {
            let examples = EXAMPLES.iter().find(|(name, _)| *name == path).unwrap_or_else(|| panic!("{path}")).1;
            for (line, _) in examples {
                let words = shell_words(line);
                let at = words.iter().position(|word| word.ends_with("fleetform")).unwrap();
                let words = words[at..].iter().take_while(|word| *word != ">");
                let words: Vec<String> =
                    words.map(|word| word.trim_start_matches("<(").trim_end_matches(')').into()).collect();
                assert!(words.join(" ").contains(&path), "{line} is no example of {path}");
                let parsed = command.clone().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
            for argument in leaf.get_arguments() {
                assert!(argument.get_help().is_some(), "{path}: {} says nothing", argument.get_id());
            }
        }
    }

    /// Returns the words of a line with quotes.
    fn shell_words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in line.chars() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                (None, ' ') => words.push(std::mem::take(&mut word)),
                (_, c) => word.push(c),
            }
        }
        words.push(word);
        words
    }
}
