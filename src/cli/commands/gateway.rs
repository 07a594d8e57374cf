//! `gateway init`, `gateway connection-string`, and the listener of back ends.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use super::{CommandResult, Output};
use crate::cli::args::GatewayCommand;
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::listen::GivenSockets;
use crate::model::text::sanitize_line;
use crate::ops::Environment;
use crate::ops::hub::{connection_string, make_policies};
use crate::rest::{RestOptions, RestServer};

/// The port of HTTPS, which a connection string need not name.
const HTTPS_PORT: u16 = 443;

pub fn run(environment: &Environment, command: &GatewayCommand, output: &Output) -> CommandResult {
    match command {
        GatewayCommand::Init => {
            let path = make_policies(environment)?;
            let path = path.display();
            if output.is_json {
                output.json_line(&serde_json::json!({"file": path.to_string()}))?;
            } else {
                output.say(&format!(
                    "Wrote {path}: the policies iothubowner, service, device, registryRead and registryReadWrite, with new \
                     keys. `fleetform gateway connection-string iothubowner` prints one for a back end."
                ));
            }
        }
        GatewayCommand::ConnectionString { policy, port } => {
            let text = connection_string(environment, policy, port.filter(|port| *port != HTTPS_PORT))?;
            output.result(&format!("{text}\n"))?;
        }
    }
    Ok(exit::OK)
}

/// The names of the sockets that systemd may pass on.
const SOCKETS: [&str; 2] = ["mqtt", "https"];

/// A socket that systemd has passed on, with its address.
pub type Given = (SocketAddr, Arc<TcpListener>);

/// Takes over the sockets of the devices and of the REST API that systemd has opened.
///
/// # Errors
/// `CommandError::Usage`: one is none that listens with TCP, or has another name.
pub fn sockets() -> Result<[Option<Given>; 2], CommandError> {
    let help = "Give each socket unit one ListenStream=, and FileDescriptorName=mqtt or FileDescriptorName=https.";
    let wrong = |what: String| CommandError::Usage { what, help: help.to_string() };
    let unusable = |error: std::io::Error| wrong(format!("the sockets of systemd cannot be used: {error}"));
    let mut given = GivenSockets::from_environment().map_err(unusable)?;
    let mut taken = SOCKETS.map(|name| given.take(name)).into_iter();
    if let Some(name) = given.other() {
        return Err(wrong(format!("a socket of systemd is named `{}`", sanitize_line(name))));
    }
    let mut next = || -> Result<Option<Given>, CommandError> {
        let Some(listener) = taken.next().flatten() else { return Ok(None) };
        Ok(Some((listener.local_addr().map_err(unusable)?, Arc::new(listener))))
    };
    Ok([next()?, next()?])
}

/// Binds the address of the REST API, unless something listens there already.
///
/// # Errors
/// `CommandError::Unavailable`: the address cannot be listened on; `CommandError::Usage`: a file of the certificate
/// cannot be used.
pub fn bind(
    address: SocketAddr,
    listener: Option<Arc<TcpListener>>,
    (certificate, key): (&Path, &Path),
) -> Result<RestServer, CommandError> {
    let options = RestOptions { address, listener, certificate: certificate.to_path_buf(), key: key.to_path_buf() };
    let bound = RestServer::bind(&options).map_err(|error| {
        let what = format!("back ends cannot be served on {address}: {error}");
        match error.kind() {
            ErrorKind::PermissionDenied => CommandError::Denied {
                what,
                help: format!(
                    "Port {} is for privileged users. With systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE. Elsewhere: \
                     `setcap cap_net_bind_service=+ep` on the binary, `sysctl net.ipv4.ip_unprivileged_port_start=443`, \
                     or another port behind a redirect to it.",
                    address.port()
                ),
            },
            _ => CommandError::Unavailable {
                what,
                help: "Give --https a free address with a port, such as 0.0.0.0:443.".to_string(),
            },
        }
    })?;
    bound.map_err(|error| unusable(&error))
}

/// Returns that the files of the certificate cannot be used.
pub fn unusable(error: &dyn std::error::Error) -> CommandError {
    CommandError::Usage {
        what: format!("the certificate cannot be used: {error}"),
        help: "Give --certificate and --key the PEM files of the fleet's `hostName`.".to_string(),
    }
}
