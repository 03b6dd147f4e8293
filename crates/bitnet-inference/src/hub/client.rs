//! Requests to the hub, and what its answers mean.
//!
//! Redirects are followed here and not by the HTTP library: the headers that describe a file come with the redirect
//! to its content, and the token goes to the origin of the endpoint only.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LOCATION, RANGE};
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use ureq::{Agent, Body, Timeout};

use super::cache::is_commit;
use super::config::HubConfig;
use super::failure::{Failure, hub_error};
use super::header::{content_range, is_etag, is_sha256, number, origin, redirected, text, unquote};
use super::id::HubId;

/// How often a step is tried.
pub(super) const ATTEMPTS: u32 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 10;
/// Describe the content behind a redirect.
const LINKED_ETAG: &str = "x-linked-etag";
const LINKED_SIZE: &str = "x-linked-size";
const USER_AGENT: &str = concat!("bitnet-rust/", env!("CARGO_PKG_VERSION"));

/// Asks the hub about one model.
#[derive(Debug)]
pub(super) struct Client<'a> {
    id: &'a HubId,
    config: &'a HubConfig,
    agent: Agent,
}

/// A revision of a model.
#[derive(Debug)]
pub(super) struct Listing {
    /// The commit it is at.
    pub(super) commit: String,
    /// Names of all its files.
    pub(super) files: BTreeSet<String>,
}

/// A file of a commit.
#[derive(Debug)]
pub(super) struct RemoteFile {
    pub(super) name: String,
    /// Name of its content; a plain file name.
    pub(super) etag: String,
    pub(super) size_bytes: u64,
    /// SHA-256 of the content, in hexadecimal digits, if the hub gives it. It does for large files.
    pub(super) sha256: Option<String>,
}

/// Content on its way.
pub(super) struct Content {
    /// Offset of the first byte.
    pub(super) start: u64,
    /// Size of the whole, as the server of the content knows it.
    pub(super) size_bytes: Option<u64>,
    pub(super) reader: Box<dyn Read>,
}

#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl<'a> Client<'a> {
    /// A client for the model `id`.
    pub(super) fn new(id: &'a HubId, config: &'a HubConfig) -> Self {
        let timeout = Some(config.timeout);
        let agent = Agent::config_builder()
            .user_agent(USER_AGENT)
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout)
            .build()
            .into();
        Self { id, config, agent }
    }

    /// What the revision is and has.
    pub(super) fn listing(&self) -> Result<Listing, Failure> {
        let revision = self.id.revision().replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.config.endpoint, self.id.repo());
        // No retry without a connection: the cache may do, and whoever waits is offline.
        let body = self.retry(false, || {
            let (_, mut response) = self.send(&Method::GET, &url, 0)?;
            self.check("the listing", &response)?;
            response.body_mut().read_to_vec().map_err(|error| self.failure(&error))
        })?;
        let info: ModelInfo = serde_json::from_slice(&body)
            .map_err(|error| self.refuse(format!("cannot read the listing of the hub: {error}")))?;
        if !is_commit(&info.sha) {
            return Err(self.refuse(format!("the hub names {:?} as its commit", info.sha)));
        }
        let files = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        Ok(Listing { commit: info.sha, files })
    }

    /// What the file `name` of a commit is.
    pub(super) fn remote_file(&self, commit: &str, name: &str) -> Result<RemoteFile, Failure> {
        self.retry(true, || {
            let (_, response) = self.send(&Method::HEAD, &self.url(commit, name), 0)?;
            if !response.status().is_redirection() {
                self.check(name, &response)?;
            }
            self.describe(name, response.headers())
        })
    }

    fn describe(&self, name: &str, headers: &HeaderMap) -> Result<RemoteFile, Failure> {
        let linked = text(headers, LINKED_ETAG).map(unquote);
        let etag = linked.or_else(|| text(headers, ETAG.as_str()).map(unquote));
        let Some(etag) = etag.filter(|etag| is_etag(etag)) else {
            return Err(self.refuse(format!("the hub names no content for {name}")));
        };
        let size = number(headers, LINKED_SIZE);
        // The length of a redirect's own body would be no answer.
        let size = size.or_else(|| number(headers, CONTENT_LENGTH.as_str()).filter(|_| linked.is_none()));
        let Some(size_bytes) = size else {
            return Err(self.refuse(format!("the hub does not say how large {name} is")));
        };
        let sha256 = linked.filter(|etag| is_sha256(etag)).map(str::to_owned);
        Ok(RemoteFile { name: name.to_owned(), etag: etag.to_owned(), size_bytes, sha256 })
    }

    /// Content of the file `name` of a commit, from offset `from` if the server can; `None` when it has no such
    /// offset.
    pub(super) fn content(&self, commit: &str, name: &str, from: u64) -> Result<Option<Content>, Failure> {
        let (url, response) = self.send(&Method::GET, &self.url(commit, name), from)?;
        let status = response.status();
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(None);
        }
        if status.is_client_error() && !self.is_home(&url) {
            // Addresses of content expire; the next attempt gets a new one.
            return Err(Failure::Transient(format!("the server of {name} answered {}", status.as_u16())));
        }
        self.check(name, &response)?;
        let headers = response.headers();
        let (start, size_bytes) = if status == StatusCode::PARTIAL_CONTENT {
            let range = text(headers, CONTENT_RANGE.as_str()).and_then(content_range);
            range.ok_or_else(|| {
                self.refuse(format!("the server of {name} does not say which part it sends"))
            })?
        } else {
            (0, number(headers, CONTENT_LENGTH.as_str()))
        };
        if start != 0 && start != from {
            return Err(self.refuse(format!("the server of {name} sent offset {start} instead of {from}")));
        }
        Ok(Some(Content { start, size_bytes, reader: Box::new(response.into_body().into_reader()) }))
    }

    /// That the model cannot be had.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> Failure {
        Failure::Final(hub_error(self.id, reason))
    }

    /// Waits after attempt number `attempt`, counted from one.
    pub(super) fn wait(&self, attempt: u32) {
        std::thread::sleep(self.config.retry_delay * 2_u32.pow(attempt - 1));
    }

    fn retry<T>(&self, unreachable_too: bool, step: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        for attempt in 1..ATTEMPTS {
            match step() {
                Err(Failure::Transient(_)) => self.wait(attempt),
                Err(Failure::Unreachable(_)) if unreachable_too => self.wait(attempt),
                result => return result,
            }
        }
        step()
    }

    fn url(&self, commit: &str, name: &str) -> String {
        format!("{}/{}/resolve/{commit}/{name}", self.config.endpoint, self.id.repo())
    }

    /// Sends one request and follows its redirects. Returns the address that answered with it.
    fn send(&self, method: &Method, url: &str, from: u64) -> Result<(Uri, Response<Body>), Failure> {
        let invalid = |url: &str| self.refuse(format!("{url:?} is not an address"));
        let mut url: Uri = url.parse().map_err(|_| invalid(url))?;
        for _ in 0..MAX_REDIRECTS {
            let mut request = Request::builder().method(method).uri(&url);
            if let Some(token) = self.config.token.as_ref().filter(|_| self.is_home(&url)) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let request =
                request.body(()).map_err(|_| self.refuse("the token has characters that no token has"))?;
            let response = self.agent.run(request).map_err(|error| self.failure(&error))?;
            let describes_file = *method == Method::HEAD && response.headers().contains_key(LINKED_ETAG);
            if !response.status().is_redirection() || describes_file {
                return Ok((url, response));
            }
            let location = text(response.headers(), LOCATION.as_str()).unwrap_or_default();
            url = redirected(&url, location).ok_or_else(|| invalid(location))?;
        }
        Err(self.refuse("the hub redirects without end"))
    }

    /// Whether `url` is at the origin of the endpoint.
    fn is_home(&self, url: &Uri) -> bool {
        self.config.endpoint.parse::<Uri>().is_ok_and(|endpoint| origin(&endpoint) == origin(url))
    }

    /// What an answer other than success means.
    fn check(&self, what: &str, response: &Response<Body>) -> Result<(), Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let is_transient = status.is_server_error()
            || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        if is_transient {
            return Err(Failure::Transient(format!("the hub answered {} for {what}", status.as_u16())));
        }
        let code = text(response.headers(), "x-error-code").unwrap_or_default();
        Err(self.refuse(self.refusal(what, status, code)))
    }

    fn refusal(&self, what: &str, status: StatusCode, code: &str) -> String {
        let HubConfig { endpoint, token, .. } = self.config;
        let page = format!("{endpoint}/{}", self.id.repo());
        match (status.as_u16(), code, token) {
            (401 | 403, "GatedRepo", None) => {
                format!("is gated and needs a token: accept the licence at {page}, then set HF_TOKEN")
            }
            (401 | 403, "GatedRepo", Some(_)) => {
                format!("is gated, and the token has no access: accept the licence at {page}")
            }
            // To a stranger the hub does not tell a private model from one that does not exist.
            (401 | 403, _, None) => "needs a token: set HF_TOKEN (or there is no such model)".to_owned(),
            (401 | 403, _, Some(_)) => "the hub refuses the token: check HF_TOKEN".to_owned(),
            (404, "RevisionNotFound", _) => format!("there is no revision {:?}", self.id.revision()),
            (404, "EntryNotFound", _) => format!("has no {what}"),
            (404, _, _) => format!("there is no such model or revision at {endpoint}"),
            (status, _, _) => format!("the hub answered {status} for {what}"),
        }
    }

    /// What a request without an answer means.
    fn failure(&self, error: &ureq::Error) -> Failure {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
        let endpoint = &self.config.endpoint;
        let unreachable = |why: String| Failure::Unreachable(format!("no connection to {endpoint}: {why}"));
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                self.refuse(format!("cannot ask {endpoint}: {error}"))
            }
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect)
            | ureq::Error::Tls(_)
            | ureq::Error::Rustls(_) => unreachable(error.to_string()),
            ureq::Error::Io(io) => match io.kind() {
                BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof => {
                    Failure::Transient(format!("the connection to {endpoint} was cut: {io}"))
                }
                // No address, no route, nobody there, a certificate that does not fit.
                _ => unreachable(io.to_string()),
            },
            _ => Failure::Transient(format!("the connection to {endpoint} was cut: {error}")),
        }
    }
}
