//! The arguments of `device`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::edits::EditArgs;
use super::gadgets::{FleetArgs, GadgetArgs};

#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// List devices
    List {
        #[command(flatten)]
        choice: DeviceArgs,
        /// Print only how many there are, of all pages
        #[arg(long)]
        count: bool,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show a device: its twin, the groups that it is in, and what became of it in its last jobs
    Show { device_id: String },
    /// Write devices with their keys to a file that only you can read
    Export {
        #[command(flatten)]
        choice: DeviceArgs,
        /// csv: the six IOTC_ columns of IoT Central; iothub: an ExportImportDevice of IoT Hub a line, with the twin;
        /// mosquitto: a password file, without devices that are blocked or have no key; mosquitto-acl: which topics a
        /// device reaches
        #[arg(long, value_enum, default_value = "csv")]
        format: DeviceFormat,
        /// The file; `-` is stdout. In a git work tree only one that git ignores
        #[arg(short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Block devices now: jobs fail on them, and nothing is sent to them
    Block(ChangeArgs),
    /// Unblock devices now
    Unblock(ChangeArgs),
    /// Delete devices now, with their keys and twins
    Delete(ChangeArgs),
    /// Set properties of one device (commits a job)
    Set {
        device_id: String,
        /// Such as light.threshold=3: the value is JSON or plain text, and null removes
        #[arg(required = true, value_name = "PATH=VALUE")]
        assignments: Vec<String>,
        /// Tags, in place of desired properties
        #[arg(long, conflicts_with = "cloud")]
        tags: bool,
        /// Cloud properties, in place of desired properties
        #[arg(long)]
        cloud: bool,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Call a command of one device (commits a job)
    Call {
        device_id: String,
        /// The name of the command
        method: String,
        /// What to send with it, as JSON
        payload: Option<String>,
        /// The component that has the command
        #[arg(long, value_name = "NAME")]
        component: Option<String>,
        /// Sending it twice is harmless: it may be retried
        #[arg(long)]
        idempotent: bool,
        /// How long to wait for the device to connect, such as 30s
        #[arg(long, value_name = "DURATION")]
        connect_timeout: Option<String>,
        /// How long to wait for the answer, such as 30s
        #[arg(long, value_name = "DURATION")]
        response_timeout: Option<String>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Send a message to one device of IoT Hub: it waits until the device has connected to the gateway
    Send {
        device_id: String,
        /// What the device gets
        text: String,
        /// An own property, beside it
        #[arg(long, value_name = "NAME=VALUE", value_parser = super::values::parse_property)]
        property: Vec<(String, String)>,
        /// How long it waits, such as 30m; 1h when absent
        #[arg(long, value_name = "DURATION", value_parser = super::values::parse_seconds)]
        expires: Option<std::time::Duration>,
    },
    /// Be a device: connect to the broker, execute methods, acknowledge properties, until Ctrl-C
    ///
    /// The reference device of the device protocol. It reconnects for ever, and says on stderr what happens to it.
    Run {
        /// The id of the device, and its client id at the broker
        #[arg(long, value_name = "ID")]
        id: String,
        #[command(flatten)]
        gadget: Box<GadgetArgs>,
    },
    /// Be many devices, each with its own connection, until Ctrl-C
    ///
    /// For tests and for rehearsals with a real broker. It says on stderr how many are connected and what they did.
    Fleet(Box<FleetArgs>),
}

/// Which devices to change.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    #[arg(required = true, value_name = "DEVICE_ID")]
    pub device_ids: Vec<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Why; goes to the results branch with your name
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceFormat {
    Csv,
    Iothub,
    Mosquitto,
    MosquittoAcl,
}

/// A page of a list that is sorted by id.
#[derive(Debug, Args)]
pub struct PageArgs {
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Only those whose id comes after this one: the last one of the page before
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
}

#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// A condition, such as "tags.line = '3'"
    #[arg(long, value_name = "CONDITION")]
    pub query: Option<String>,
    /// An organization; devices of it and of those below it
    #[arg(long, value_name = "NAME")]
    pub organization: Option<String>,
}
