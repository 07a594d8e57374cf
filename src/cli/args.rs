//! The arguments. Their doc comments are the text of `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::alerts::AlertArgs;
use super::devices::DeviceCommand;
use super::edits::EditArgs;
use super::forge::ForgeArgs;
use super::global::Global;
use super::listen::ListenArgs;
use super::logs::LogArgs;
use super::pages::ServeArgs;
use super::plans::{PlanArgs, ReviewArgs};
use super::registries::RegistryCommand;
use super::secrets::SecretArgs;
use crate::model::limits;

/// Bulk work on fleets of connected devices through pull requests.
///
/// Jobs, device imports and groups are YAML files in a git repository. fleetform shows what a change would do, does it
/// in batches, and commits what happened.
///
/// New here? Run `fleetform quickstart my-fleet`.
#[derive(Debug, Parser)]
#[command(name = "fleetform", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an example fleet and run it: the first thing to try
    Quickstart {
        /// A new folder
        #[arg(default_value = "my-fleet")]
        directory: PathBuf,
    },
    /// Make a fleet repository, or give a fleet in this one its results branch
    Init {
        /// The folder; the current one when absent
        directory: Option<PathBuf>,
        /// Fill it with the fleet of the quickstart
        #[arg(long)]
        example: bool,
        /// The name of the fleet; that of the folder when absent
        #[arg(long, conflicts_with = "example")]
        name: Option<String>,
    },
    /// Check every declared file
    Validate {
        /// How to print what is wrong
        #[arg(long, value_enum, default_value_t = ReportFormat::Human)]
        format: ReportFormat,
        /// Exit with 65 when there is a warning, too
        #[arg(long)]
        strict: bool,
    },
    /// Show what apply would do; writes nothing
    Plan(PlanArgs),
    /// Say what a pull request changes where it is reviewed: one comment, a summary, and the status of its commit
    ///
    /// In GitHub Actions, Gitea Actions and GitLab CI it knows the project, the pull request and what to compare with.
    /// Prints the comment. Exits as `plan` does, and with 69 when the forge could not be told.
    Review(ReviewArgs),
    /// Execute the plan of HEAD
    Apply(ApplyArgs),
    /// Follow a branch: execute what is merged and what is due, until it is stopped
    Watch(WatchArgs),
    /// Follow a branch as `watch` does, and let devices of Azure IoT Hub connect
    ///
    /// The fleet has `spec.link.iotHub`. Devices keep their clients: of their connection strings the host name changes.
    Gateway(GatewayArgs),
    /// Serve pages for a browser: jobs, devices, schedules; reads only, and needs no daemon
    ///
    /// `watch --listen` serves the same pages, live.
    Serve(ServeArgs),
    /// Show what the daemon last saw, did and holds
    Status,
    /// Write the registry without keys into one file, to plan with where the registry is not
    Snapshot {
        /// The file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Say that jobs have run elsewhere; or, when the results branch and the registry are both lost, what became of all
    Adopt(AdoptArgs),
    /// Rehearse the plan on a copy, in virtual time; changes nothing
    ///
    /// Shows how each job would end and how long it would take, with the devices that the fleet simulates or with those
    /// that the options describe. Exits as the apply would: with 3 when a job would end failed or canceled.
    Simulate(SimulateArgs),
    /// Make documents of the JSON of Azure IoT Central and IoT Hub, with a note of what has no equal
    Convert(ConvertArgs),
    /// Look at jobs; stop, continue, copy and rerun them
    #[command(subcommand)]
    Job(JobCommand),
    /// Look at schedules; unschedule and reschedule them
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Look at devices
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Look at device groups: who is in them, and what uses them
    #[command(subcommand)]
    Group(GroupCommand),
    /// Look at device imports: what became of their files, and the rejected rows
    #[command(subcommand)]
    Import(ImportCommand),
    /// Copy the registry to another place, and check it
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Explain a diagnostic code, such as FF301, or a word, such as claim
    Explain {
        /// The code or the word; all of them when absent
        what: Option<String>,
    },
    /// Print or write the JSON Schema of a kind, for editors
    Schema {
        /// The kind, such as Job; when absent a list of the kinds, and with --out one schema for all of them
        kind: Option<String>,
        /// Write it into a folder: `.schemas` is where the lines for editors look
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Print the completions of a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// How to print diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Human,
    Json,
    /// Workflow commands of GitHub Actions
    Github,
    /// SARIF 2.1.0
    Sarif,
    Junit,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// A plan saved with `fleetform plan --out`; it is applied without a question
    pub plan: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub secrets: SecretArgs,
    /// Exit with 3 also when any device failed or a row of an import was rejected
    #[arg(long)]
    pub strict: bool,
    /// Stay for devices that wait to come online
    #[arg(long)]
    pub wait: bool,
    /// Apply although the history was rewound since the last apply
    #[arg(long)]
    pub accept_rewind: bool,
    /// The commit that is trusted to have brought the fleet's Access document
    #[arg(long, value_name = "COMMIT")]
    pub introduction: Option<String>,
    /// Work on a fleet on which another registry works, which is lost or given up: what it had under way is closed as
    /// failed, and nothing is sent again
    #[arg(long)]
    pub take_over: bool,
    /// Seconds that devices in flight are awaited after Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub grace: u64,
    #[command(flatten)]
    pub forge: ForgeArgs,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Follow this repository, a URL or a path; -C is then the folder that the daemon works in, with a mirror of it
    #[arg(long, value_name = "URL", env = "FLEETFORM_REMOTE")]
    pub remote: Option<String>,
    /// The branch with the declared files; HEAD when absent, and main of a remote
    #[arg(long, value_name = "BRANCH", env = "FLEETFORM_BRANCH")]
    pub branch: Option<String>,
    /// The folder of the fleet in the remote repository, when it is not its root
    #[arg(long, value_name = "FOLDER", env = "FLEETFORM_PATH", requires = "remote")]
    pub path: Option<String>,
    /// The longest time between two looks at the branch; new commits of a local one are seen at once
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::manifest::parse_duration)]
    pub interval: std::time::Duration,
    /// Keep a snapshot of the registry in this file, for `plan --snapshot` elsewhere
    #[arg(long, value_name = "FILE", env = "FLEETFORM_SNAPSHOT_TO")]
    pub snapshot_to: Option<PathBuf>,
    /// How often it is taken anew, at least 1s
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::values::parse_seconds)]
    pub snapshot_every: std::time::Duration,
    /// How long git may take for one call of the remote; 30s for a question, 2m for a push, 10m for a fetch when absent
    #[arg(long, value_name = "TIME", value_parser = crate::manifest::parse_duration)]
    pub git_timeout: Option<std::time::Duration>,
    /// How long the lease of a fleet with a remote lasts, at least 1s: when this daemon stands still for so long,
    /// another one takes over. It is renewed while jobs run, each time a third of it is over
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = super::values::parse_seconds)]
    pub lease_time: std::time::Duration,
    #[command(flatten)]
    pub secrets: SecretArgs,
    #[command(flatten)]
    pub listen: ListenArgs,
    #[command(flatten)]
    pub alerts: AlertArgs,
    #[command(flatten)]
    pub log: LogArgs,
    /// Sign the commits of results with this SSH key
    #[arg(long, value_name = "FILE")]
    pub sign: Option<PathBuf>,
    /// Take up a history that was rewound since the last apply
    #[arg(long)]
    pub accept_rewind: bool,
    /// The commit that is trusted to have brought the fleet's Access document
    #[arg(long, value_name = "COMMIT")]
    pub introduction: Option<String>,
    /// Seconds that devices in flight are awaited after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub grace: u64,
    #[command(flatten)]
    pub forge: ForgeArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct GatewayArgs {
    #[command(subcommand)]
    pub command: Option<GatewayCommand>,
    /// Where devices connect, with MQTT over TLS
    #[arg(long, value_name = "ADDR:PORT", env = "FLEETFORM_MQTT", default_value = "0.0.0.0:8883")]
    #[arg(help_heading = "Gateway")]
    pub mqtt: std::net::SocketAddr,
    /// Where back ends use IoT Hub's REST API, such as 0.0.0.0:443; absent: nowhere
    #[arg(long, value_name = "ADDR:PORT", env = "FLEETFORM_HTTPS", help_heading = "Gateway")]
    pub https: Option<std::net::SocketAddr>,
    /// The certificate of the fleet's `hostName` with its chain, in PEM
    #[arg(long, value_name = "FILE", env = "FLEETFORM_CERTIFICATE", help_heading = "Gateway", required = true)]
    pub certificate: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", env = "FLEETFORM_KEY", help_heading = "Gateway", required = true)]
    pub key: Option<PathBuf>,
    /// Addresses of proxies in front of the gateway, whose failed logins are not counted: many clients have them
    #[arg(long = "trusted-proxy", value_name = "ADDR", env = "FLEETFORM_TRUSTED_PROXIES", value_delimiter = ',')]
    #[arg(help_heading = "Gateway")]
    pub trusted_proxies: Vec<std::net::IpAddr>,
    #[command(flatten)]
    pub watch: WatchArgs,
}

#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Make IoT Hub's five policies with new keys, in .fleetform/gateway.json
    Init,
    /// Print the connection string of a policy, for a back end
    ConnectionString {
        /// The policy
        #[arg(default_value = "iothubowner")]
        policy: String,
        /// The port of the REST API, when it is not 443
        #[arg(long)]
        port: Option<u16>,
    },
}

#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// JSON files, each with one object, an array, or a page {"value": [...]}, and folders of such files; `-` is stdin.
    /// References between items are resolved when they are converted in one call
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write a file for each document below this folder (jobs/, groups/, …), and overwrite none; stdout when absent
    #[arg(short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// What the files hold, such as iot-hub-job or iot-central-device-group; recognised by its shape when absent
    #[arg(long, value_name = "KIND", value_parser = super::values::parse_source)]
    pub from: Option<crate::convert::Source>,
    /// Write the keys of devices that are in the input (devices/ID/credentials.json) into the files of imports, where
    /// whoever can read the repository can read them
    #[arg(long)]
    pub keys: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct AdoptArgs {
    /// They have run: mark every declared job as done, and run none of them; or only the jobs with these names, also
    /// beside a results branch
    #[arg(long, value_name = "JOB", num_args = 0..)]
    pub mark_done: Option<Vec<String>>,
    /// They have not run: let the next apply run every declared job
    #[arg(long)]
    pub run: bool,
}

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Rehearse a commit, a branch or a tag; the work tree when absent
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
    /// Devices that refuse, such as 5%
    #[arg(long, value_name = "PERCENT", value_parser = super::values::parse_probability)]
    pub failures: Option<crate::model::fleet::Probability>,
    /// Devices that are not connected, such as 2%
    #[arg(long, value_name = "PERCENT", value_parser = super::values::parse_probability)]
    pub offline: Option<crate::model::fleet::Probability>,
    /// The mean time until a device answers, such as 200ms
    #[arg(long, value_name = "TIME", value_parser = crate::manifest::parse_duration)]
    pub latency: Option<std::time::Duration>,
    /// Chooses which devices fail; another seed is another rehearsal
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Leave devices that wait to come online, as apply without --wait does, and do not wait until they expire
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// List runs, the newest first
    List {
        /// Runs with this status
        #[arg(long, value_parser = super::values::parse_run_status)]
        status: Option<crate::ops::job::ListedStatus>,
        /// Runs of the last weeks, days, hours or minutes, such as 30d, or since a date
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Runs that are about a device whose id fits, with * and ?; and what became of it in each
        #[arg(long, value_name = "PATTERN")]
        device: Option<String>,
    },
    /// Show a run: its batches, and its devices when asked for
    Show {
        name: String,
        /// The run token; the newest run when absent
        #[arg(long)]
        run: Option<String>,
        /// Say why it is where it is: the numbers behind a cancel, a hold, a wait, a stop or a failure
        #[arg(long, conflicts_with_all = ["devices", "status", "device", "columns"])]
        why: bool,
        /// Show it live while a process works on it, here or elsewhere, with its rate and the time left
        #[arg(long, conflicts_with_all = ["devices", "status", "device", "columns", "why"])]
        follow: bool,
        #[command(flatten)]
        devices: DeviceGrid,
    },
    /// Stop a job: no new device starts, those in flight finish (commits `suspend: true`)
    Stop {
        name: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Continue a stopped job with its pending devices (commits `suspend: false`)
    Continue {
        name: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Make a new job like this one
    Copy {
        name: String,
        /// The name of the new job; the old one with -copy when absent
        new_name: Option<String>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Make a new job for the devices that failed or are pending
    Rerun {
        name: String,
        /// The name of the new job; the old one with -rerun when absent
        new_name: Option<String>,
        /// The run token; the newest run when absent
        #[arg(long)]
        run: Option<String>,
        /// Take the devices that are pending in a run that was canceled, failed or was stopped, not those that failed
        #[arg(long)]
        pending: bool,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Write the devices of a run as CSV
    Results {
        name: String,
        /// The run token; the newest run when absent
        #[arg(long)]
        run: Option<String>,
        /// A file; stdout when absent
        #[arg(short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// List schedules with their next and last occurrences
    List,
    /// Show the next occurrences of a schedule, on its wall clock and in UTC
    Next {
        name: String,
        /// At most so many
        #[arg(short = 'n', value_name = "N", default_value_t = 10)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=limits::OCCURRENCES_SHOWN_MAX))]
        count: u64,
        /// Those at or after a date, a time of the schedule's wall clock, or an instant, such as 2027-03-01,
        /// 2027-03-01T02:30 or 2027-03-01T01:30:00Z; now when absent
        #[arg(long, value_name = "DATE")]
        from: Option<String>,
    },
    /// Keep the next occurrences from starting (commits `suspend: true`); one that is under way goes on
    Unschedule {
        name: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Let the occurrences to come start again (commits `suspend: false`)
    Reschedule {
        name: String,
        #[command(flatten)]
        edit: EditArgs,
    },
}

#[derive(Debug, Args)]
pub struct DeviceGrid {
    /// Show the devices
    #[arg(long)]
    pub devices: bool,
    /// Only devices that are pending, completed or failed
    #[arg(long, value_parser = super::values::parse_device_status)]
    pub status: Option<crate::model::outcome::DeviceStatus>,
    /// Only devices whose id fits, with * and ?
    #[arg(long, value_name = "PATTERN")]
    pub device: Option<String>,
    /// Columns of the device grid, such as id,status,reason; remembered for the next time, until `--columns default`
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub columns: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the groups, with the devices that are in each now
    List,
    /// Show a group: its condition, its devices and what uses it
    Show { name: String },
}

#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// List the imports, with the report of each
    List,
    /// Show an import: its report and the rejected rows
    Show { name: String },
}
