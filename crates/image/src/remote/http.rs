//! HTTP for the registry client: TLS, proxies, time-outs, redirects that carry no credentials to other hosts, and retries
//! where a connection breaks or a server asks for patience.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ureq::http::request::Builder;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, AsSendBody, Body, BodyReader, SendBody};

use super::access::Settings;
use super::certs::Trust;
use super::dns::Names;
use super::pace::{Paced, SLOWEST};
use super::{proxy, url};
use crate::error::{Error, Result};

const REDIRECTS: usize = 10;
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_secs(60);
/// The same after an upload, which the registry hashes once more before it answers.
const ANSWER_TO_UPLOAD: Duration = Duration::from_secs(600);

/// A request's headers.
pub(crate) type Headers<'h> = [(HeaderName, &'h str)];

/// What a request carries.
pub(crate) enum Payload<'p> {
    /// Nothing.
    None,
    /// Something that can be sent again.
    Bytes(&'p [u8]),
    /// Something that is read once; its length, if known.
    Stream(&'p mut dyn Read, Option<u64>),
}

/// An HTTP client that knows how each host is to be reached.
pub(crate) struct Client {
    settings: Arc<Settings>,
    agents: Mutex<HashMap<String, Agent>>,
}

impl Client {
    pub(crate) fn new(settings: &Arc<Settings>) -> Self {
        Client { settings: Arc::clone(settings), agents: Mutex::default() }
    }

    /// A GET or HEAD that follows redirects. `Authorization` goes to the first host only, and never from https to http.
    pub(crate) fn get(&self, method: &Method, url: &str, headers: &Headers<'_>) -> Result<Response<Body>> {
        self.follow(method, url, headers).map_err(|failure| failure.error)
    }

    /// Like [`Client::get`], and again when the connection breaks or the server is overloaded or fails.
    pub(crate) fn get_patiently(&self, method: &Method, url: &str, headers: &Headers<'_>) -> Result<Response<Body>> {
        patiently(|| self.follow(method, url, headers))
    }

    /// A request that changes something; with what can be sent again it is, if need be.
    pub(crate) fn change(
        &self,
        method: &Method,
        target: &Uri,
        headers: &Headers<'_>,
        payload: Payload<'_>,
    ) -> Result<Response<Body>> {
        match payload {
            Payload::Stream(..) => self.once(method, target, headers, payload).map_err(|failure| failure.error),
            Payload::None => patiently(|| self.once(method, target, headers, Payload::None)),
            Payload::Bytes(bytes) => patiently(|| self.once(method, target, headers, Payload::Bytes(bytes))),
        }
    }

    fn follow(&self, method: &Method, start: &str, headers: &Headers<'_>) -> Result<Response<Body>, Failed> {
        let mut place = url::parse(start)?;
        let mut credentials = true;
        for _ in 0..REDIRECTS {
            let carried: Vec<_> =
                headers.iter().filter(|(name, _)| credentials || name != header::AUTHORIZATION).cloned().collect();
            let response = self.once(method, &place, &carried, Payload::None)?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            let next = url::join(&place, location(response.headers()).unwrap_or(""))?;
            credentials = credentials && next.authority() == place.authority() && next.scheme() == place.scheme();
            place = next;
        }
        Err(Error::Registry(format!("{method} {}: more than {REDIRECTS} redirects", url::shown(&place))).into())
    }

    fn once(
        &self,
        method: &Method,
        target: &Uri,
        headers: &Headers<'_>,
        payload: Payload<'_>,
    ) -> Result<Response<Body>, Failed> {
        let mut request = Request::builder().method(method).uri(target.clone());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let agent = self.agent(target)?;
        let answer = if method == Method::PUT || method == Method::PATCH { ANSWER_TO_UPLOAD } else { ANSWER };
        let outcome = match payload {
            Payload::None if method == Method::POST || method == Method::PUT => run(&agent, request, answer, &b""[..]),
            Payload::None => run(&agent, request, answer, ()),
            Payload::Bytes(bytes) => run(&agent, request, answer, bytes),
            Payload::Stream(reader, size) => {
                let sized = size.map(|size| size.to_string());
                let request = sized.iter().fold(request, |request, size| request.header(header::CONTENT_LENGTH, size));
                run(&agent, request, answer, SendBody::from_reader(reader))
            }
        };
        outcome.map_err(|cause| Failed::of(method, target, &cause))
    }

    /// The connections to one host.
    fn agent(&self, target: &Uri) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&url::origin(target)) {
            return Ok(agent.clone());
        }
        let host = target.authority().map_or("", |authority| authority.as_str());
        let trust = self.settings.trust(host)?;
        let verify = !trust.roots.is_empty() || !self.settings.insecure(host);
        let agent = agent(&trust, verify, proxy::for_url(target)?);
        agents.insert(url::origin(target), agent.clone());
        Ok(agent)
    }
}

fn run(
    agent: &Agent,
    request: Builder,
    answer: Duration,
    body: impl AsSendBody,
) -> Result<Response<Body>, ureq::Error> {
    let request = agent.configure_request(request.body(body)?).timeout_recv_response(Some(answer)).build();
    agent.run(request)
}

/// Repeats what failed for a reason that may pass.
fn patiently(mut work: impl FnMut() -> Result<Response<Body>, Failed>) -> Result<Response<Body>> {
    let mut tries = 0;
    loop {
        tries += 1;
        let retry_after = match work() {
            Err(failure) if failure.passing && tries < TRIES => None,
            Err(failure) => return Err(failure.error),
            Ok(response) if is_temporary(response.status()) && tries < TRIES => {
                response.headers().get(header::RETRY_AFTER).cloned()
            }
            Ok(response) => return Ok(response),
        };
        std::thread::sleep(pause(tries, retry_after.as_ref()));
    }
}

/// A request without an answer.
struct Failed {
    error: Error,
    /// Whether it is worth another try.
    passing: bool,
}

impl Failed {
    fn of(method: &Method, target: &Uri, cause: &ureq::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
        let broken = [BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof];
        let passing = match cause {
            ureq::Error::Io(cause) => broken.contains(&cause.kind()),
            ureq::Error::Timeout(which) => *which != ureq::Timeout::Connect,
            _ => false,
        };
        Failed { error: Error::Registry(format!("{method} {}: {cause}", url::shown(target))), passing }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { error, passing: false }
    }
}

/// An answer's body as a stream of any length, at a bearable pace.
pub(crate) fn stream(response: Response<Body>) -> Paced<BodyReader<'static>> {
    Paced::new(response.into_body().into_with_config().limit(u64::MAX).reader(), SLOWEST)
}

/// An answer's body, whole; `what` names it in errors.
pub(crate) fn read_bounded(response: Response<Body>, limit: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = stream(response).take(limit + 1);
    reader.read_to_end(&mut bytes).map_err(|cause| Error::Registry(format!("read the {what}: {cause}")))?;
    if bytes.len() as u64 > limit {
        return Err(Error::untrusted(format!("the registry's {what} is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Where an answer points to.
pub(crate) fn location(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::LOCATION)?.to_str().ok()
}

/// Whether it is worth asking again.
fn is_temporary(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// How long to wait before the next try: what the server says, else doubling.
pub(crate) fn pause(tries: u32, retry_after: Option<&HeaderValue>) -> Duration {
    let asked = retry_after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    asked.unwrap_or(FIRST_PAUSE * 2u32.pow(tries.min(8))).min(LONGEST_PAUSE)
}

fn agent(trust: &Trust, verify: bool, proxy: Option<ureq::Proxy>) -> Agent {
    let roots = match trust.roots.as_slice() {
        _ if !verify => RootCerts::WebPki,
        [] => roots().map_or(RootCerts::WebPki, |all| RootCerts::from(all.to_vec())),
        more => RootCerts::from(roots().into_iter().flatten().chain(more).cloned().collect::<Vec<_>>()),
    };
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(roots)
        .client_cert(trust.identity.clone())
        .disable_verification(!verify)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .user_agent(concat!("kiste/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(64 << 10)
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Names)
}

/// The machine's certificate authorities; none where it has none, and then Mozilla's must do.
fn roots() -> Option<&'static [Certificate<'static>]> {
    static ROOTS: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    let all = ROOTS.get_or_init(|| {
        let native = rustls_native_certs::load_native_certs().certs;
        native.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
    });
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    const KEY: &str = include_str!("../../tests/data/key.pem");
    const CERTIFICATE: &str = include_str!("../../tests/data/certificate.pem");

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
        let nobody = Trust::default();
        let error = agent(&nobody, true, None).get(self_signed()).call().unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        let error = agent(&nobody, false, None).get(self_signed()).call().unwrap_err().to_string();
        assert!(!error.contains("certificate"), "on this machine it need not, but: {error}");
    }

    #[test]
    fn patience() {
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        assert_eq!(pause(1, Some(&header("7"))), Duration::from_secs(7));
        assert_eq!(pause(1, Some(&header("99999"))), LONGEST_PAUSE);
        assert!(pause(1, None) < pause(2, None) && pause(1, Some(&header("soon"))) == pause(1, None));
    }
}
