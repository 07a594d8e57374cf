//! An address that messages are posted to.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use ureq::Agent;
use ureq::http::{Request, Uri, header};

use super::Batch;
use crate::model::alert::AlertBody;
use crate::model::encoding::hex;
use crate::model::limits::ALERT_CALL_TIME_MAX;
use crate::model::text::{sanitize_line, shorten};
use crate::tls::{HttpCalls, HttpServer, http_client};

/// The header with `sha256=` and the HMAC-SHA-256 (RFC 2104) of the body, in hex, as GitHub signs its webhooks.
pub const SIGNATURE: &str = "X-Fleetform-Signature-256";

/// An address with its key. Neither is ever shown: that of a chat is a secret.
pub struct Webhook {
    uri: Uri,
    host: String,
    secret: Option<Vec<u8>>,
    body: AlertBody,
    agent: Agent,
}

impl Webhook {
    /// Returns the webhook of an address.
    ///
    /// # Errors
    /// A phrase about the address, without it.
    pub fn new(url: &str, secret: Option<Vec<u8>>, body: AlertBody) -> Result<Webhook, String> {
        let (HttpServer { host, is_local, is_plain }, uri) = HttpServer::of(url.trim())?;
        let agent = http_client(HttpCalls { time_max: ALERT_CALL_TIME_MAX, is_plain, skips_proxy: is_local });
        Ok(Webhook { uri, host, secret, body, agent })
    }

    /// Posts a message.
    ///
    /// # Errors
    /// A sentence: nobody is there, or the message is not taken.
    pub fn post(&self, batch: &Batch) -> Result<(), String> {
        let body = batch.body(self.body).to_string();
        let mut request =
            Request::builder().method("POST").uri(self.uri.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| "the key cannot sign".to_string())?;
            mac.update(body.as_bytes());
            request = request.header(SIGNATURE, format!("sha256={}", hex(&mac.finalize().into_bytes())));
        }
        let request = request.body(body).map_err(|_| "the request cannot be made".to_string())?;
        let host = &self.host;
        match self.agent.run(request) {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("{host} answers with {}", answer.status().as_u16())),
            Err(error) => {
                let text = sanitize_line(&error.to_string()).replace(&self.uri.to_string(), "(the address)");
                Err(format!("{host} cannot be reached: {}", shorten(&text, 200)))
            }
        }
    }
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("host", &self.host).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_https_or_of_this_machine() {
        let fault = |url: &str| Webhook::new(url, None, AlertBody::Json).err();
        assert_eq!(fault("https://chat.example/hooks/T1?x=1"), None);
        assert_eq!(fault("http://127.0.0.1:9/"), None);
        assert_eq!(fault("http://[::1]:9/"), None);
        for url in ["http://chat.example/", "ftp://chat.example/", "chat.example", "", "https://"] {
            let why = fault(url).unwrap_or_else(|| panic!("`{url}` is refused"));
            assert!(!why.contains("chat.example"), "{why}");
        }
    }
}
