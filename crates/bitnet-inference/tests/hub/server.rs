//! A hub and its content server on this machine, with faults on demand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// The model it has.
pub const ID: &str = "owner/name";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Offset that a Range header asks for.
    fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A status, and what `x-error-code` says about it.
    Status(u16, &'static str),
    /// The connection ends before the byte of the content at this offset.
    CutAt(usize),
    /// As [`Self::CutAt`], but the connection stays open, silent.
    SilentAt(usize),
    /// A Range header is ignored, and the connection ends before the byte at this offset.
    WholeCutAt(usize),
    /// The answer does not say how long it is, and ends before the byte at this offset.
    UnsizedCutAt(usize),
    /// The last byte of the content is another.
    Damage,
    /// The content is this instead.
    Content(Vec<u8>),
    /// A header says this.
    Header(&'static str, String),
    /// The answer is a redirect to this place.
    Redirect(String),
}

/// Files of a commit: name, content, and whether it is large (then it is at the content server).
pub type Files = BTreeMap<String, (Vec<u8>, bool)>;

struct State {
    files: Files,
    commit: String,
    token: Option<String>,
    /// Method, end of the path, fault, how often it still happens.
    faults: Vec<(&'static str, String, Fault, usize)>,
}

/// The hub, and the server its large files are redirected to.
pub struct Hub {
    pub home: Server,
    pub cdn: Server,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub fn start(files: Files) -> Self {
        let state = State { files, commit: COMMIT.to_owned(), token: None, faults: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let at_cdn = Arc::clone(&state);
        let cdn = Server::start(move |request| at_cdn.lock().unwrap().answer_cdn(request));
        let (at_home, cdn_url) = (Arc::clone(&state), cdn.url());
        let home = Server::start(move |request| at_home.lock().unwrap().answer_home(request, &cdn_url));
        Self { home, cdn, state }
    }

    /// Only who sends `token` gets answers.
    pub fn require(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.to_owned());
    }

    /// The next `times` requests of `method` to a path that ends in `path` meet `fault`.
    pub fn break_times(&self, times: usize, method: &'static str, path: &str, fault: Fault) {
        self.state.lock().unwrap().faults.push((method, path.to_owned(), fault, times));
    }

    /// As [`Self::break_times`], until [`Self::repair`].
    pub fn break_all(&self, method: &'static str, path: &str, fault: Fault) {
        self.break_times(usize::MAX, method, path, fault);
    }

    pub fn repair(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// The branch moves on.
    pub fn push(&self, commit: &str, name: &str, content: &[u8]) {
        let mut state = self.state.lock().unwrap();
        commit.clone_into(&mut state.commit);
        state.files.get_mut(name).unwrap().0 = content.to_vec();
    }
}

impl State {
    fn fault(&mut self, request: &Request) -> Option<Fault> {
        let hit = |rule: &&mut (&str, String, Fault, usize)| {
            rule.3 > 0 && rule.0 == request.method && request.path.ends_with(&rule.1)
        };
        let rule = self.faults.iter_mut().find(hit)?;
        rule.3 -= 1;
        Some(rule.2.clone())
    }

    fn answer_home(&mut self, request: &Request, cdn: &str) -> Reply {
        let fault = self.fault(request);
        let expected = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if expected.is_some() && request.header("authorization") != expected.as_deref() {
            return Reply::status(401).with("x-error-code", "RepoNotFound");
        }
        let reply = if request.path.starts_with("/api/models/") {
            Reply::content(self.listing().into_bytes())
        } else if let Some(name) = request.path.strip_prefix(&format!("/{ID}/resolve/{}/", self.commit)) {
            self.resolve(name, request, cdn, fault.as_ref())
        } else {
            Reply::status(404).with("x-error-code", "RepoNotFound")
        };
        reply.apply(fault)
    }

    fn listing(&self) -> String {
        let siblings: Vec<_> =
            self.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        serde_json::json!({ "id": ID, "sha": self.commit, "siblings": siblings, "gated": false }).to_string()
    }

    fn resolve(&self, name: &str, request: &Request, cdn: &str, fault: Option<&Fault>) -> Reply {
        let Some((content, is_large)) = self.files.get(name) else {
            return Reply::status(404).with("x-error-code", "EntryNotFound");
        };
        let etag = format!("\"{}\"", etag(content, *is_large));
        let reply = if *is_large {
            Reply::status(302)
                .with("location", &format!("{cdn}/content/{name}"))
                .with("x-linked-etag", &etag)
                .with("x-linked-size", &content.len().to_string())
        } else {
            Reply::range(content, request, fault).with("etag", &etag)
        };
        reply.with("x-repo-commit", &self.commit)
    }

    fn answer_cdn(&mut self, request: &Request) -> Reply {
        let fault = self.fault(request);
        let name = request.path.strip_prefix("/content/").unwrap_or_default();
        let Some((content, _)) = self.files.get(name) else { return Reply::status(404) };
        let content = match &fault {
            Some(Fault::Content(other)) => other,
            _ => content,
        };
        Reply::range(content, request, fault.as_ref()).with("etag", "\"of-the-content-server\"").apply(fault)
    }
}

/// SHA-256 of a large file, the git hash of another.
pub fn etag(content: &[u8], is_large: bool) -> String {
    let hash = if is_large {
        digest(&SHA256, content)
    } else {
        let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
        digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob)
    };
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// An answer.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    /// Content from its first byte on, and the offset to send from.
    content: Vec<u8>,
    from: usize,
    /// Where sending ends.
    end: Option<usize>,
    is_sized: bool,
    then_silent: bool,
}

impl Reply {
    fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content: Vec::new(),
            from: 0,
            end: None,
            is_sized: true,
            then_silent: false,
        }
    }

    fn content(content: Vec<u8>) -> Self {
        Self { content, ..Self::status(200) }
    }

    /// The part of `content` that the request asks for.
    fn range(content: &[u8], request: &Request, fault: Option<&Fault>) -> Self {
        let size = content.len();
        match request.from() {
            Some(from) if from >= size => Self::status(416).with("content-range", &format!("bytes */{size}")),
            Some(from) if !matches!(fault, Some(Fault::WholeCutAt(_))) => {
                let range = format!("bytes {from}-{}/{size}", size - 1);
                Self { status: 206, from, ..Self::content(content.to_vec()) }.with("content-range", &range)
            }
            _ => Self::content(content.to_vec()),
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(key, _)| *key != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn apply(mut self, fault: Option<Fault>) -> Self {
        match fault {
            None | Some(Fault::Content(_)) => self,
            Some(Fault::Status(status, code)) => Self::status(status).with("x-error-code", code),
            Some(Fault::Redirect(location)) => Self::status(307).with("location", &location),
            Some(Fault::Header(name, value)) => self.with(name, &value),
            Some(Fault::Damage) => {
                *self.content.last_mut().unwrap() ^= 1;
                self
            }
            Some(Fault::CutAt(end) | Fault::WholeCutAt(end)) => Self { end: Some(end), ..self },
            Some(Fault::UnsizedCutAt(end)) => Self { end: Some(end), is_sized: false, ..self },
            Some(Fault::SilentAt(end)) => Self { end: Some(end), then_silent: true, ..self },
        }
    }

    fn send(&self, stream: &mut TcpStream, is_head: bool) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Reason\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if self.is_sized {
            write!(head, "content-length: {}\r\n", self.content.len() - self.from).unwrap();
        }
        head += "\r\n";
        stream.write_all(head.as_bytes())?;
        if !is_head {
            let end = self.end.unwrap_or(usize::MAX).clamp(self.from, self.content.len());
            stream.write_all(&self.content[self.from..end])?;
        }
        stream.flush()?;
        if self.then_silent {
            thread::sleep(Duration::from_secs(60));
        }
        Ok(())
    }
}

/// A server that answers one request for each connection and remembers them all.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    is_stopped: Arc<AtomicBool>,
}

impl Server {
    fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (log, stop, answer) = (Arc::clone(&requests), Arc::clone(&is_stopped), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { address, requests, is_stopped }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests until now.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Forgets the requests until now.
    pub fn forget(&self) {
        self.requests.lock().unwrap().clear();
    }

    /// Ends the server: connections are refused.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        while TcpStream::connect(self.address).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) {
    let Some(request) = read_request(&stream) else { return };
    log.lock().unwrap().push(request.clone());
    // A client that has heard enough hangs up.
    drop(answer(&request).send(&mut stream, request.method == "HEAD"));
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let (method, rest) = first.split_once(' ')?;
    let (path, _) = rest.split_once(' ')?;
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':').map(|(k, v)| (k.to_ascii_lowercase(), v.trim().to_owned())))
        .collect();
    Some(Request { method: method.to_owned(), path: path.to_owned(), headers })
}
