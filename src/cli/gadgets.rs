//! The arguments of `device run` and `device fleet`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// What devices are, and how they behave.
#[derive(Debug, Args)]
pub struct GadgetArgs {
    /// The broker, such as `mqtts://broker.acme.example` or `mqtt://127.0.0.1:1883`; that of the fleet when absent, with
    /// its prefix and its authority
    #[arg(long, value_name = "URL", value_parser = parse_broker)]
    pub broker: Option<BrokerAddress>,
    /// What all topics begin with; as the fleet says when absent, else `fleetform`
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    pub prefix: Option<String>,
    /// The user at the broker; `{id}` in it stands for the id of the device
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// A file with the password
    #[arg(long, value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
    /// A PEM file with the authorities that are trusted, in place of those of the system
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Remember executed methods in this file: none is executed twice, also when the process is killed
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Execute a method with a command of the shell; the payload is its input, its output the answer. With any of these,
    /// other methods are answered with 404
    #[arg(long = "method", value_name = "NAME=COMMAND", value_parser = parse_method)]
    pub methods: Vec<(String, String)>,
    /// Properties to report at the start, a JSON object
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    pub reported: Option<JsonObject>,
    /// Speak only this version of MQTT; when absent 5, or 3.1.1 where the broker does not know it
    #[arg(long, value_name = "VERSION", value_enum)]
    pub mqtt: Option<MqttChoice>,
    /// Append a line for each executed method to this file
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// The time until a method is answered, or executed, such as `100ms` or `50ms..150ms`
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse_latency)]
    pub latency: (Duration, Duration),
    /// The status of answers that are no command's
    #[arg(long, value_name = "STATUS", default_value_t = 200, value_parser = clap::value_parser!(u16).range(100..600))]
    pub answers: u16,
}

/// Which devices a fleet has.
#[derive(Debug, Args)]
pub struct FleetArgs {
    /// How many; all of the file when absent
    #[arg(short = 'n', value_name = "N", required_unless_present = "ids_from")]
    pub count: Option<usize>,
    /// What their ids begin with: `lamp-` makes lamp-0001, lamp-0002, …
    #[arg(long, value_name = "PREFIX", default_value = "device-", conflicts_with = "ids_from")]
    pub ids: String,
    /// A file with an id a line, or a CSV file with a column IOTC_DEVICEID
    #[arg(long, value_name = "FILE")]
    pub ids_from: Option<PathBuf>,
    #[command(flatten)]
    pub gadget: GadgetArgs,
}

/// The version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MqttChoice {
    #[value(name = "5")]
    V5,
    #[value(name = "3.1.1")]
    V311,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
}

/// An object, as one value of an option.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonObject(pub serde_json::Map<String, serde_json::Value>);

fn parse_broker(text: &str) -> Result<BrokerAddress, String> {
    let (host, port, is_tls) = crate::manifest::parse_broker_url(text)?;
    Ok(BrokerAddress { host, port, is_tls })
}

fn parse_prefix(text: &str) -> Result<String, String> {
    crate::manifest::topic_prefix_problem(text).map_or_else(|| Ok(text.to_string()), |problem| Err(problem.to_string()))
}

fn parse_method(text: &str) -> Result<(String, String), String> {
    let (name, command) = text.split_once('=').ok_or("it is NAME=COMMAND, such as reboot='echo {}'")?;
    if name.is_empty() || command.trim().is_empty() {
        return Err("neither the name nor the command is empty".to_string());
    }
    Ok((name.to_string(), command.to_string()))
}

fn parse_object(text: &str) -> Result<JsonObject, String> {
    let object = serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))?;
    Ok(JsonObject(object))
}

fn parse_latency(text: &str) -> Result<(Duration, Duration), String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let (least, most) = (crate::manifest::parse_duration(least)?, crate::manifest::parse_duration(most)?);
    if least > most { Err("the first time is the shorter one".to_string()) } else { Ok((least, most)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let ms = Duration::from_millis;
        assert_eq!(parse_latency("50ms..150ms"), Ok((ms(50), ms(150))));
        assert_eq!(parse_latency("0ms"), Ok((ms(0), ms(0))));
        assert_eq!(parse_latency("1s"), Ok((ms(1_000), ms(1_000))));
        assert!(parse_latency("2s..1s").is_err() && parse_latency("..").is_err() && parse_latency("1s..").is_err());
        assert_eq!(parse_method("a=b=c"), Ok(("a".to_string(), "b=c".to_string())));
        assert!(parse_method("a").is_err() && parse_method("=c").is_err() && parse_method("a= ").is_err());
        assert!(parse_object("[]").is_err() && parse_object("{").is_err() && parse_object("{\"a\":1}").is_ok());
        assert!(parse_prefix("a/b").is_ok() && parse_prefix("a/#").is_err());
        let local = BrokerAddress { host: "127.0.0.1".to_string(), port: 1883, is_tls: false };
        assert_eq!(parse_broker("mqtt://127.0.0.1"), Ok(local));
        assert!(parse_broker("127.0.0.1:1883").is_err());
    }
}
