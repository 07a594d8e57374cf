//! What keeps a client from a broker, told apart as far as a person has to do something else about it.

use std::io;

use mqtt_protocol_core::mqtt::result_code::MqttError;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as RustlsError};

use crate::tls::TlsError;

/// Why there is no connection to a broker. `Display` goes on after the broker's address and a colon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    #[error("it cannot be reached: {reason}")]
    Unreachable { reason: String },
    #[error("it does not answer")]
    Silent,
    #[error("it closed the connection")]
    Closed,
    #[error("the connection was lost: {reason}")]
    Lost { reason: String },
    #[error("its certificate is not signed by an authority that is trusted")]
    UnknownAuthority,
    #[error("its certificate has expired")]
    Expired,
    #[error("its certificate is not valid yet")]
    NotYetValid,
    #[error("its certificate is for another name")]
    Name,
    #[error("it does not take our client certificate: {reason}")]
    ClientCertificate { reason: String },
    #[error("TLS fails: {reason}")]
    Tls { reason: String },
    #[error("TLS fails: it hung up in the handshake")]
    HungUp,
    #[error("it does not take our user name and password")]
    Credentials,
    #[error("it speaks neither MQTT 5 nor MQTT 3.1.1")]
    Version,
    #[error("it refuses us: {reason}")]
    Refused { reason: String },
    #[error("it ended the connection: {reason}")]
    Dismissed { reason: String },
    #[error("it does not let us subscribe to {filter}")]
    Subscription { filter: String },
    #[error("it breaks the rules of MQTT: {reason}")]
    Protocol { reason: String },
    #[error("it does not pass on to us what we write below {prefix}/")]
    Deaf { prefix: String },
    #[error("{what} cannot be used: {reason}")]
    Settings { what: String, reason: String, help: String },
}

impl From<TlsError> for BrokerError {
    fn from(error: TlsError) -> BrokerError {
        match error {
            TlsError::File { path, reason } => BrokerError::Settings {
                what: path,
                reason,
                help: "Name a PEM file that fleetform may read, absolute or relative to the folder of the fleet."
                    .to_string(),
            },
            TlsError::Failed { reason } => BrokerError::Tls { reason },
        }
    }
}

impl BrokerError {
    pub(super) fn protocol(error: MqttError) -> BrokerError {
        BrokerError::Protocol { reason: error.to_string() }
    }

    pub(super) fn unreachable(error: &io::Error) -> BrokerError {
        BrokerError::Unreachable { reason: error.to_string() }
    }

    /// Returns the error of a connection that was open. A broker may only then tell what it thinks of a certificate.
    pub(super) fn lost(error: &io::Error) -> BrokerError {
        match tls_error(error) {
            Some(_) => BrokerError::of_tls(error),
            None if error.kind() == io::ErrorKind::UnexpectedEof => BrokerError::Closed,
            None => BrokerError::Lost { reason: error.to_string() },
        }
    }

    pub(super) fn of_tls(error: &io::Error) -> BrokerError {
        let Some(tls) = tls_error(error) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => BrokerError::HungUp,
                _ => BrokerError::unreachable(error),
            };
        };
        match tls {
            RustlsError::InvalidCertificate(fault) => match fault {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => BrokerError::UnknownAuthority,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => BrokerError::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => BrokerError::NotYetValid,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    BrokerError::Name
                }
                other => BrokerError::Tls { reason: other.to_string() },
            },
            RustlsError::AlertReceived(
                alert @ (AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown),
            ) => BrokerError::ClientCertificate { reason: format!("{alert:?}") },
            RustlsError::InvalidMessage(_) => {
                BrokerError::Tls { reason: "it does not speak TLS on this port".to_string() }
            }
            other => BrokerError::Tls { reason: other.to_string() },
        }
    }

    /// Returns true when trying again does not help: a person has to change something.
    pub fn is_hopeless(&self) -> bool {
        match self {
            BrokerError::Unreachable { .. }
            | BrokerError::Silent
            | BrokerError::Closed
            | BrokerError::Lost { .. }
            | BrokerError::HungUp
            | BrokerError::Refused { .. }
            | BrokerError::Dismissed { .. }
            | BrokerError::Protocol { .. } => false,
            BrokerError::UnknownAuthority
            | BrokerError::Expired
            | BrokerError::NotYetValid
            | BrokerError::Name
            | BrokerError::ClientCertificate { .. }
            | BrokerError::Tls { .. }
            | BrokerError::Credentials
            | BrokerError::Version
            | BrokerError::Subscription { .. }
            | BrokerError::Deaf { .. }
            | BrokerError::Settings { .. } => true,
        }
    }

    /// Returns what to do about it, a whole sentence.
    pub fn help(&self) -> &str {
        match self {
            BrokerError::Unreachable { .. }
            | BrokerError::Silent
            | BrokerError::Closed
            | BrokerError::Lost { .. }
            | BrokerError::Dismissed { .. } => {
                "Check that the broker runs, and the address in `spec.link.mqtt.url`; a port with TLS needs `mqtts://`."
            }
            BrokerError::UnknownAuthority => {
                "Name the authority that signed the broker's certificate with `spec.link.mqtt.ca`, a PEM file."
            }
            BrokerError::Expired | BrokerError::NotYetValid => "Renew the broker's certificate, or set the clock.",
            BrokerError::Name => {
                "Use a name in `spec.link.mqtt.url` that the certificate has, or give the broker one that has this name."
            }
            BrokerError::ClientCertificate { .. } => {
                "Check `spec.link.mqtt.clientCertificate` and `clientKey`, and which authority the broker trusts."
            }
            BrokerError::Tls { .. } | BrokerError::HungUp => {
                "Check that the port of `spec.link.mqtt.url` speaks TLS, or write `mqtt://` for one that does not."
            }
            BrokerError::Credentials => "Check `spec.link.mqtt.username` and `password`, and the broker's users.",
            BrokerError::Version => "Use a broker that speaks one of them.",
            BrokerError::Refused { .. } => "Look into the broker's log.",
            BrokerError::Subscription { .. } | BrokerError::Deaf { .. } => {
                "Let this user of the broker read and write all topics of the prefix."
            }
            BrokerError::Protocol { .. } => "Check that the port of `spec.link.mqtt.url` is that of an MQTT broker.",
            BrokerError::Settings { help, .. } => help,
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&RustlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>())
}
