//! HTTP for the registry client: TLS roots, time-outs, redirects that carry no credentials to other hosts, and retries
//! where a server asks for patience.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

use crate::dns::{Names, is_loopback};
use crate::error::{Error, Result};

const REDIRECTS: usize = 10;
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A request's headers.
pub(crate) type Headers<'h> = [(header::HeaderName, &'h str)];

/// HTTP clients, one for the world and one for this machine, whose certificates need no authority (as for Docker).
pub(crate) struct Client {
    world: OnceLock<Agent>,
    loopback: OnceLock<Agent>,
}

impl Client {
    pub(crate) fn new() -> Self {
        Client { world: OnceLock::new(), loopback: OnceLock::new() }
    }

    /// A GET that follows redirects. `Authorization` goes to the first host only, and never from https to http.
    pub(crate) fn get(&self, url: &str, headers: &Headers<'_>) -> Result<Response<Body>> {
        let mut url = parse(url)?;
        let mut credentials = true;
        for _ in 0..REDIRECTS {
            let mut request = Request::get(url.clone());
            for (name, value) in headers.iter().filter(|(name, _)| credentials || name != header::AUTHORIZATION) {
                request = request.header(name, *value);
            }
            let request = request.body(()).map_err(|cause| failed(&url, &cause))?;
            let response = self.send(&url, request)?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            let next = target(&url, &response)?;
            credentials = credentials && next.authority() == url.authority() && next.scheme() == url.scheme();
            url = next;
        }
        Err(Error::Registry(format!("GET {url}: more than {REDIRECTS} redirects")))
    }

    /// Like [`Client::get`], and again when the server is overloaded or fails.
    pub(crate) fn get_patiently(&self, url: &str, headers: &Headers<'_>) -> Result<Response<Body>> {
        let mut tries = 0;
        loop {
            let response = self.get(url, headers)?;
            tries += 1;
            if tries == TRIES || !is_temporary(response.status()) {
                return Ok(response);
            }
            std::thread::sleep(pause(tries, response.headers().get(header::RETRY_AFTER)));
        }
    }

    fn send(&self, url: &Uri, request: Request<()>) -> Result<Response<Body>> {
        let local = is_loopback(url.host().unwrap_or(""));
        let agent = if local { &self.loopback } else { &self.world }.get_or_init(|| agent(local));
        agent.run(request).map_err(|cause| failed(url, &cause))
    }
}

fn failed(url: &Uri, cause: &dyn std::fmt::Display) -> Error {
    // Queries may carry signatures of object stores.
    let place = url.to_string();
    let place = place.split('?').next().unwrap_or("");
    Error::Registry(format!("GET {place}: {cause}"))
}

fn parse(url: &str) -> Result<Uri> {
    url.parse().map_err(|cause| Error::Registry(format!("malformed URL {url:?}: {cause}")))
}

/// Where a redirect leads; from https only to https.
fn target(from: &Uri, response: &Response<Body>) -> Result<Uri> {
    let bad = |why: &str| Error::Registry(format!("GET {from}: redirect {why}"));
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| bad("without a target"))?;
    let (scheme, authority) = (from.scheme_str().unwrap_or("https"), from.authority().map_or("", |name| name.as_str()));
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    let next = parse(&absolute)?;
    match (scheme, next.scheme_str()) {
        ("https", Some("https")) | ("http", Some("http" | "https")) => Ok(next),
        _ => Err(bad("from https to something less")),
    }
}

/// Whether it is worth asking again.
pub(crate) fn is_temporary(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// How long to wait before the next try: what the server says, else doubling.
pub(crate) fn pause(tries: u32, retry_after: Option<&HeaderValue>) -> Duration {
    let asked = retry_after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    asked.unwrap_or(FIRST_PAUSE * 2u32.pow(tries.min(8))).min(LONGEST_PAUSE)
}

fn agent(loopback: bool) -> Agent {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(if loopback { RootCerts::WebPki } else { roots() })
        .disable_verification(loopback)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("kiste/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(64 << 10)
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Names)
}

/// The machine's certificate authorities; Mozilla's where it has none.
fn roots() -> RootCerts {
    let native = rustls_native_certs::load_native_certs().certs;
    if native.is_empty() {
        return RootCerts::WebPki;
    }
    let owned = native.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
    RootCerts::from(owned.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    const KEY: &str = include_str!("../tests/data/key.pem");
    const CERTIFICATE: &str = include_str!("../tests/data/certificate.pem");

    /// Greets one client with a certificate that nobody vouches for.
    fn self_signed() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(Arc::new(config)).unwrap();
            let _ = StreamOwned::new(connection, stream).read(&mut [0; 64]);
        });
        url
    }

    #[test]
    fn the_world_must_prove_its_identity() {
        let error = agent(false).get(self_signed()).call().unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        let error = agent(true).get(self_signed()).call().unwrap_err().to_string();
        assert!(!error.contains("certificate"), "on this machine it need not, but: {error}");
    }

    #[test]
    fn redirects() {
        let to = |from: &str, location: &str| {
            let response = Response::builder().header("location", location).body(Body::builder().data("")).unwrap();
            target(&from.parse().unwrap(), &response).map(|url| url.to_string())
        };
        assert_eq!(to("https://a:1/b/c", "/d?e=f").unwrap(), "https://a:1/d?e=f");
        assert_eq!(to("https://a/b", "https://c/d").unwrap(), "https://c/d");
        assert_eq!(to("https://a/b", "//c/d").unwrap(), "https://c/d");
        assert_eq!(to("http://127.0.0.1:5/b", "http://127.0.0.1:6/d").unwrap(), "http://127.0.0.1:6/d");
        for bad in ["http://a/b", "file:///etc/passwd", "relative", "", "https://"] {
            assert!(to("https://a/b", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patience() {
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        assert_eq!(pause(1, Some(&header("7"))), Duration::from_secs(7));
        assert_eq!(pause(1, Some(&header("99999"))), LONGEST_PAUSE);
        assert!(pause(1, None) < pause(2, None) && pause(1, Some(&header("soon"))) == pause(1, None));
    }
}
