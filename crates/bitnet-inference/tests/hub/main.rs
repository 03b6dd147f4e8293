//! Downloads from a hub that runs beside the test: what arrives, what is asked for, and what is left after a fault.

#![cfg(feature = "hub")]

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitnet_inference::Error;
use bitnet_inference::hub::{HubConfig, Progress, Snapshot, fetch};
use server::{COMMIT, Fault, Files, Hub, ID, Request, etag};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const WEIGHT_BYTES: usize = 700_000;

/// A hub, a cache, and what a test may turn.
struct World {
    hub: Hub,
    cache: tempfile::TempDir,
    config: HubConfig,
}

impl World {
    fn new(files: Files) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let hub = Hub::start(files);
        let mut config = HubConfig::new(cache.path());
        config.endpoint = hub.home.url();
        config.retry_delay = Duration::from_millis(1);
        config.timeout = Duration::from_secs(5);
        Self { hub, cache, config }
    }

    fn fetch(&self) -> Result<Snapshot, Error> {
        fetch(ID, &self.config, Progress::Hidden)
    }

    /// The one line that says why it failed.
    fn reason(&self) -> String {
        self.reason_of(ID)
    }

    fn reason_of(&self, id: &str) -> String {
        let error = fetch(id, &self.config, Progress::Hidden).expect_err("the fetch must fail");
        let line = error.to_string();
        assert!(!line.contains('\n') && line.len() < 300, "{line:?} is not one line");
        line
    }

    fn repo(&self) -> PathBuf {
        self.cache.path().join("models--owner--name")
    }

    fn blob(&self, content: &[u8], is_large: bool) -> PathBuf {
        self.repo().join("blobs").join(etag(content, is_large))
    }

    fn weights_blob(&self) -> PathBuf {
        self.blob(&weights(), true)
    }

    fn weights_part(&self) -> PathBuf {
        self.weights_blob().with_extension("part")
    }

    fn forget_requests(&self) {
        self.hub.home.forget();
        self.hub.cdn.forget();
    }

    /// The Range headers that the content server saw.
    fn ranges(&self) -> Vec<Option<String>> {
        self.hub.cdn.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect()
    }
}

/// Bytes without a pattern.
fn bytes(seed: u32, length: usize) -> Vec<u8> {
    let mut x = seed;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn weights() -> Vec<u8> {
    bytes(1, WEIGHT_BYTES)
}

fn files(list: &[(&str, &[u8], bool)]) -> Files {
    list.iter().map(|&(name, content, is_large)| (name.to_owned(), (content.to_vec(), is_large))).collect()
}

/// A model in one file, among files that nobody needs.
fn one_file() -> Files {
    files(&[
        (".gitattributes", b"*.safetensors filter=lfs", false),
        ("README.md", b"# A model", false),
        (CONFIG, br#"{"model_type": "bitnet"}"#, false),
        ("generation_config.json", b"{}", false),
        ("ggml-model-i2_s.gguf", b"GGUF", true),
        (WEIGHTS, &weights(), true),
        ("onnx/model.onnx", b"onnx", true),
        (TOKENIZER, br#"{"version": "1.0"}"#, true),
    ])
}

/// A model whose index places its tensors as `weight_map` does, with two shards beside it.
fn indexed(weight_map: &str) -> Files {
    files(&[
        (CONFIG, b"{}", false),
        (TOKENIZER, b"{}", false),
        (INDEX, format!(r#"{{"metadata": {{}}, "weight_map": {weight_map}}}"#).as_bytes(), false),
        ("model-00001-of-00002.safetensors", &bytes(2, 5000), true),
        ("model-00002-of-00002.safetensors", &bytes(3, 6000), true),
        ("model-00003-of-00002.safetensors", b"not named", true),
    ])
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn paths(requests: &[Request], method: &str) -> Vec<String> {
    requests.iter().filter(|request| request.method == method).map(|request| request.path.clone()).collect()
}

#[test]
fn a_model_arrives_with_what_it_needs_and_nothing_else() {
    let world = World::new(one_file());
    let snapshot = fetch(ID, &world.config, Progress::Bar).unwrap();

    assert_eq!(snapshot.warning, None);
    assert_eq!(snapshot.path, world.repo().join("snapshots").join(COMMIT));
    assert_eq!(names(&snapshot.path), [CONFIG, "generation_config.json", WEIGHTS, TOKENIZER]);
    for (name, (content, _)) in one_file().iter().filter(|(name, _)| snapshot.path.join(name).exists()) {
        assert!(read(&snapshot.path, name) == *content, "{name} differs");
    }
    assert_eq!(fs::read_to_string(world.repo().join("refs/main")).unwrap(), COMMIT);
    assert!(world.weights_blob().is_file());
    assert_eq!(names(&world.repo().join("blobs")).len(), 4, "only whole blobs are left");
    assert_eq!(
        paths(&world.hub.cdn.requests(), "GET"),
        ["/content/tokenizer.json", "/content/model.safetensors"]
    );
    assert_eq!(
        world.hub.home.requests().len(),
        1 + 2 * 4,
        "a listing, and headers and content of four files"
    );
}

#[test]
fn a_second_call_asks_for_the_listing_only() {
    let world = World::new(one_file());
    let first = world.fetch().unwrap();
    world.forget_requests();

    assert_eq!(world.fetch().unwrap(), first);
    assert_eq!(paths(&world.hub.home.requests(), "GET"), ["/api/models/owner/name/revision/main"]);
    assert_eq!(world.hub.home.requests().len(), 1);
    assert!(world.hub.cdn.requests().is_empty());
}

#[test]
fn shards_arrive_as_the_index_names_them() {
    let map = r#"{"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
                  "c": "model-00001-of-00002.safetensors"}"#;
    let world = World::new(indexed(map));
    let folder = world.fetch().unwrap().path;
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(names(&folder), [CONFIG, shards[0], shards[1], INDEX, TOKENIZER]);
    assert!(read(&folder, shards[0]) == bytes(2, 5000) && read(&folder, shards[1]) == bytes(3, 6000));
}

#[test]
fn a_new_commit_fetches_what_changed() {
    let world = World::new(one_file());
    world.fetch().unwrap();
    world.forget_requests();

    let commit = "f".repeat(40);
    world.hub.push(&commit, CONFIG, b"{\"new\": true}");
    let folder = world.fetch().unwrap().path;
    assert!(folder.ends_with(&commit));
    assert_eq!(read(&folder, CONFIG), b"{\"new\": true}");
    assert!(read(&folder, WEIGHTS) == weights());
    assert!(world.hub.cdn.requests().is_empty(), "the weights are the same blob");
    assert_eq!(fs::read_to_string(world.repo().join("refs/main")).unwrap(), commit);
    assert_eq!(read(&world.repo().join("snapshots").join(COMMIT), CONFIG), one_file()[CONFIG].0);
}

#[test]
fn a_revision_is_asked_for_and_remembered() {
    let world = World::new(one_file());
    let id = format!("{ID}@refs/pr/5");
    let path = fetch(&id, &world.config, Progress::Hidden).unwrap().path;
    assert!(path.ends_with(COMMIT));
    assert_eq!(world.hub.home.requests()[0].path, "/api/models/owner/name/revision/refs%2Fpr%2F5");
    assert_eq!(fs::read_to_string(world.repo().join("refs/refs/pr/5")).unwrap(), COMMIT);
    assert!(!world.repo().join("refs/main").exists());
    let by_commit = format!("{ID}@{COMMIT}");
    assert_eq!(fetch(&by_commit, &world.config, Progress::Hidden).unwrap().path, path);
    assert_eq!(names(&world.repo().join("refs")), ["refs"], "a commit needs no reference");

    let offline = HubConfig { offline: true, ..world.config.clone() };
    assert_eq!(fetch(&id, &offline, Progress::Hidden).unwrap().path, path);
    assert_eq!(fetch(&by_commit, &offline, Progress::Hidden).unwrap().path, path);
    assert!(fetch(ID, &offline, Progress::Hidden).is_err(), "main was never asked for");
}

#[test]
fn a_cut_connection_is_resumed_where_it_ended() {
    let world = World::new(one_file());
    world.hub.break_times(1, "GET", WEIGHTS, Fault::CutAt(0));
    world.hub.break_times(1, "GET", "content/model.safetensors", Fault::CutAt(300_000));
    world.hub.break_times(1, "GET", "content/model.safetensors", Fault::CutAt(400_001));

    let folder = world.fetch().unwrap().path;
    assert!(read(&folder, WEIGHTS) == weights());
    let ranges = world.ranges();
    assert_eq!(ranges[1..], [None, Some("bytes=300000-".to_owned()), Some("bytes=400001-".to_owned())]);
}

#[test]
fn a_download_that_stays_cut_is_continued_by_the_next_call() {
    let world = World::new(one_file());
    world.hub.break_all("GET", "content/model.safetensors", Fault::CutAt(300_000));
    let reason = world.reason();
    assert!(
        reason.contains("cut") && reason.contains("300000 of 700000 bytes of model.safetensors"),
        "{reason}"
    );
    assert_eq!(world.ranges().len(), 1 + 5, "the tokenizer, one attempt with progress, four without");
    assert_eq!(fs::metadata(world.weights_part()).unwrap().len(), 300_000);
    assert!(!world.weights_blob().exists());
    let snapshot = world.repo().join("snapshots").join(COMMIT);
    assert!(!snapshot.join(WEIGHTS).exists() && !world.repo().join("refs/main").exists());

    world.hub.repair();
    world.forget_requests();
    let folder = world.fetch().unwrap().path;
    assert!(read(&folder, WEIGHTS) == weights());
    assert_eq!(world.ranges(), [Some("bytes=300000-".to_owned())]);
    assert!(!world.weights_part().exists());
}

#[test]
fn progress_however_small_keeps_a_download_alive() {
    let world = World::new(one_file());
    for step in 1..20 {
        world.hub.break_times(1, "GET", "content/model.safetensors", Fault::CutAt(step * 30_000));
    }
    assert!(read(&world.fetch().unwrap().path, WEIGHTS) == weights());
}

#[test]
fn a_server_that_cannot_resume_starts_anew() {
    let world = World::new(one_file());
    world.hub.break_times(1, "GET", "content/model.safetensors", Fault::CutAt(300_000));
    world.hub.break_times(1, "GET", "content/model.safetensors", Fault::WholeCutAt(100_000));
    world.hub.break_times(1, "GET", "content/model.safetensors", Fault::WholeCutAt(WEIGHT_BYTES));
    assert!(read(&world.fetch().unwrap().path, WEIGHTS) == weights());
    let ranges = world.ranges();
    assert_eq!(ranges[1..], [None, Some("bytes=300000-".to_owned()), Some("bytes=100000-".to_owned())]);
}

#[test]
fn an_answer_without_a_length_is_whole_when_it_has_the_size() {
    let world = World::new(one_file());
    world.hub.break_times(1, "GET", CONFIG, Fault::UnsizedCutAt(5));
    let folder = world.fetch().unwrap().path;
    assert_eq!(read(&folder, CONFIG), one_file()[CONFIG].0);
    let requests = world.hub.home.requests();
    assert!(requests.iter().any(|r| r.path.ends_with(CONFIG) && r.header("range") == Some("bytes=5-")));
}

#[test]
fn a_part_that_is_whole_needs_no_request() {
    let world = World::new(one_file());
    fs::create_dir_all(world.repo().join("blobs")).unwrap();
    fs::write(world.weights_part(), weights()).unwrap();
    assert!(read(&world.fetch().unwrap().path, WEIGHTS) == weights());
    assert_eq!(paths(&world.hub.cdn.requests(), "GET"), ["/content/tokenizer.json"]);
}

#[test]
fn a_damaged_part_is_thrown_away() {
    for length in [300_000, WEIGHT_BYTES, WEIGHT_BYTES + 1] {
        let world = World::new(one_file());
        fs::create_dir_all(world.repo().join("blobs")).unwrap();
        fs::write(world.weights_part(), vec![0; length]).unwrap();
        assert!(read(&world.fetch().unwrap().path, WEIGHTS) == weights(), "{length} zeros");
        assert_eq!(world.ranges().last().unwrap(), &None, "{length} zeros");
    }
    // The hub gives no SHA-256 of small files.
    let world = World::new(one_file());
    let config = &one_file()[CONFIG].0;
    fs::create_dir_all(world.repo().join("blobs")).unwrap();
    fs::write(world.blob(config, false).with_extension("part"), vec![0; config.len() + 1]).unwrap();
    assert_eq!(read(&world.fetch().unwrap().path, CONFIG), *config);
}

#[test]
fn a_blob_of_the_wrong_size_is_fetched_again() {
    let world = World::new(one_file());
    fs::create_dir_all(world.repo().join("blobs")).unwrap();
    fs::write(world.weights_blob(), "half").unwrap();
    assert!(read(&world.fetch().unwrap().path, WEIGHTS) == weights());
}

#[test]
fn silence_counts_as_a_cut() {
    let mut world = World::new(one_file());
    world.config.timeout = Duration::from_secs(1);
    world.hub.break_times(1, "GET", "content/model.safetensors", Fault::SilentAt(300_000));
    let start = Instant::now();
    assert!(read(&world.fetch().unwrap().path, WEIGHTS) == weights());
    assert!(start.elapsed() < Duration::from_secs(30), "the server is silent for a minute");
    assert!(world.ranges().contains(&Some("bytes=300000-".to_owned())));
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    let world = World::new(one_file());
    for (method, path) in
        [("GET", "revision/main"), ("HEAD", WEIGHTS), ("GET", CONFIG), ("GET", "content/model.safetensors")]
    {
        world.hub.break_times(1, method, path, Fault::Status(503, ""));
    }
    // An address of content that has expired.
    world.hub.break_times(1, "GET", "content/tokenizer.json", Fault::Status(403, ""));
    world.hub.break_times(1, "HEAD", TOKENIZER, Fault::Status(429, ""));
    let folder = world.fetch().unwrap().path;
    assert!(read(&folder, WEIGHTS) == weights());
    assert_eq!(read(&folder, TOKENIZER), one_file()[TOKENIZER].0);

    let world = World::new(one_file());
    world.hub.break_all("GET", "revision/main", Fault::Status(503, ""));
    let reason = world.reason();
    assert!(reason.starts_with("owner/name: the hub answered 503"), "{reason}");
    assert_eq!(world.hub.home.requests().len(), 5);
}

#[test]
fn the_token_goes_to_the_hub_only() {
    let mut world = World::new(one_file());
    world.config.token = Some("hf_secret".to_owned());
    world.hub.require("hf_secret");
    // A model that was renamed: a redirect at home keeps the token.
    let target = format!("/{ID}/resolve/{COMMIT}/{CONFIG}");
    world.hub.break_times(1, "HEAD", CONFIG, Fault::Redirect(target));
    world.fetch().unwrap();

    let at_home = world.hub.home.requests();
    assert!(at_home.iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));
    let at_cdn = world.hub.cdn.requests();
    assert_eq!(at_cdn.len(), 2);
    for request in at_cdn {
        assert!(!format!("{request:?}").contains("secret"), "{request:?}");
    }
}

#[test]
fn a_listing_that_is_elsewhere_is_asked_for_without_the_token() {
    let mut world = World::new(one_file());
    world.config.token = Some("hf_secret".to_owned());
    let elsewhere = format!("{}/content/config.json", world.hub.cdn.url());
    world.hub.break_all("GET", "revision/main", Fault::Redirect(elsewhere));
    world.reason();
    assert_eq!(world.hub.cdn.requests().len(), 1);
    assert_eq!(world.hub.cdn.requests()[0].header("authorization"), None);
}

#[test]
fn a_model_that_is_not_open_asks_for_a_token() {
    let mut world = World::new(one_file());
    world.hub.require("hf_right");
    let reason = world.reason();
    assert!(reason.starts_with("owner/name: needs a token: set HF_TOKEN"), "{reason}");
    world.config.token = Some("hf_wrong".to_owned());
    let reason = world.reason();
    assert!(reason.contains("refuses the token") && !reason.contains("hf_wrong"), "{reason}");
    world.config.token = Some("hf_\nwrong".to_owned());
    let reason = world.reason();
    assert!(reason.contains("characters") && !reason.contains("wrong"), "{reason}");
}

#[test]
fn a_gated_model_names_its_licence() {
    let mut world = World::new(one_file());
    let page = format!("accept the licence at {}/owner/name", world.hub.home.url());
    world.hub.break_all("HEAD", CONFIG, Fault::Status(401, "GatedRepo"));
    let reason = world.reason();
    assert!(reason.contains("is gated and needs a token") && reason.contains(&page), "{reason}");
    assert!(reason.contains("HF_TOKEN"), "{reason}");

    world.hub.repair();
    world.hub.break_all("HEAD", CONFIG, Fault::Status(403, "GatedRepo"));
    world.config.token = Some("hf_stranger".to_owned());
    let reason = world.reason();
    assert!(reason.contains("is gated, and the token has no access") && reason.contains(&page), "{reason}");
}

#[test]
fn a_model_or_revision_that_is_not_there_is_named() {
    let world = World::new(one_file());
    world.hub.break_times(1, "GET", "revision/main", Fault::Status(404, "RepoNotFound"));
    let reason = world.reason();
    assert!(reason.starts_with("owner/name: there is no such model"), "{reason}");

    world.hub.break_times(1, "GET", "revision/v2", Fault::Status(404, "RevisionNotFound"));
    assert_eq!(world.reason_of("owner/name@v2"), "owner/name@v2: there is no revision \"v2\"");
    assert!(world.reason_of("no hub id").contains("is not a hub id"));
    assert_eq!(world.hub.home.requests().len(), 2, "neither is worth another attempt");
}

#[test]
fn a_model_without_weights_is_refused_before_anything_is_fetched() {
    let world = World::new(files(&[("README.md", b"", false), ("model.bin", b"", true)]));
    assert_eq!(world.reason(), "owner/name: has neither safetensors nor GGUF files");
    assert_eq!(world.hub.home.requests().len(), 1);
}

#[test]
fn a_gguf_file_alone_is_the_model() {
    let mut world =
        World::new(files(&[("README.md", b"", false), ("ggml-model-i2_s.gguf", &weights(), true)]));
    let snapshot = world.fetch().unwrap();
    assert_eq!(snapshot.path.file_name().unwrap(), "ggml-model-i2_s.gguf");
    assert!(fs::read(&snapshot.path).unwrap() == weights());
    assert_eq!(names(snapshot.path.parent().unwrap()), ["ggml-model-i2_s.gguf"]);
    world.config.offline = true;
    assert_eq!(world.fetch().unwrap(), snapshot);
    fs::remove_file(world.weights_blob()).unwrap();
    assert!(world.reason().contains("HF_HUB_OFFLINE"));
}

#[test]
fn of_several_gguf_files_one_is_named() {
    let part = |number: u8| format!("tq2_0/m-0000{number}-of-00002.gguf");
    let (first, second) = (part(1), part(2));
    let mut world = World::new(files(&[
        ("m-i2_s.gguf", b"GGUF", true),
        ("m-TQ1_0.gguf", b"GGUF1", true),
        (&first, b"GGUF2", true),
        (&second, b"GGUF3", true),
    ]));
    assert_eq!(
        world.reason(),
        "owner/name: has several GGUF files, name one as in owner/name:m-TQ1_0.gguf: \
         m-TQ1_0.gguf, m-i2_s.gguf, tq2_0/m-00001-of-00002.gguf"
    );
    assert!(world.hub.cdn.requests().is_empty());
    let fetch = |world: &World, id: &str| fetch(id, &world.config, Progress::Hidden).unwrap().path;
    for id in ["owner/name:i2_s", "owner/name/m-i2_s.gguf", "owner/name@main:m-i2_s.gguf"] {
        assert!(fs::read(fetch(&world, id)).unwrap() == b"GGUF", "{id}");
    }
    let path = fetch(&world, "owner/name:tq2_0");
    assert!(path.ends_with(&first) && fs::read(&path).unwrap() == b"GGUF2");
    assert!(fs::read(path.with_file_name("m-00002-of-00002.gguf")).unwrap() == b"GGUF3");
    assert!(
        world.reason_of("owner/name:q4").contains("has no GGUF file with \"q4\" in its name, only m-TQ1_0")
    );
    world.config.offline = true;
    assert_eq!(fetch(&world, "owner/name:tq2_0"), path);
    fs::remove_file(path.with_file_name("m-00002-of-00002.gguf")).unwrap();
    let reason = world.reason_of("owner/name:tq2_0");
    assert!(
        reason.contains("has no tq2_0/m-00002-of-00002.gguf, a part of") && reason.contains("HF_HUB"),
        "{reason}"
    );
}

#[test]
fn a_hostile_listing_names_no_paths() {
    for name in ["../../evil.gguf", "/tmp/evil.gguf", "a/../../evil.gguf"] {
        let world = World::new(files(&[(name, b"GGUF", true)]));
        assert!(world.reason().contains("is not the name of a GGUF file"), "{name}");
        assert!(world.hub.cdn.requests().is_empty() && !world.repo().exists(), "{name}");
    }
}

#[test]
fn offline_finds_what_is_cached_without_a_request() {
    let mut world = World::new(one_file());
    let online = world.fetch().unwrap();
    world.forget_requests();
    world.config.offline = true;
    assert_eq!(world.fetch().unwrap(), online);

    fs::remove_file(world.blob(&one_file()[TOKENIZER].0, true)).unwrap();
    let reason = world.reason();
    assert!(reason.contains("tokenizer.json is missing") && reason.contains("HF_HUB_OFFLINE"), "{reason}");
    let reason = world.reason_of("owner/other");
    assert!(
        reason.starts_with("owner/other: is not in the cache") && reason.contains("HF_HUB_OFFLINE"),
        "{reason}"
    );
    assert!(world.hub.home.requests().is_empty() && world.hub.cdn.requests().is_empty());
}

#[test]
fn offline_wants_every_shard() {
    let map = r#"{"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}"#;
    let mut world = World::new(indexed(map));
    let online = world.fetch().unwrap();
    world.config.offline = true;
    assert_eq!(world.fetch().unwrap(), online);
    fs::remove_file(online.path.join("model-00002-of-00002.safetensors")).unwrap();
    assert!(world.reason().contains("model-00002-of-00002.safetensors is missing"));
}

#[test]
fn without_a_connection_the_cached_copy_is_used_with_a_warning() {
    let mut world = World::new(one_file());
    let online = world.fetch().unwrap();
    world.hub.home.stop();
    let snapshot = world.fetch().unwrap();
    assert_eq!(snapshot.path, online.path);
    let warning = snapshot.warning.expect("a copy that may be old comes with a warning");
    assert!(warning.contains("no connection to http://127.0.0.1") && !warning.contains('\n'), "{warning}");

    let reason = world.reason_of("owner/other");
    assert!(reason.starts_with("owner/other: no connection to http://127.0.0.1"), "{reason}");
    // A name that the domain name system reserves for nobody.
    world.config.endpoint = "http://hub.invalid".to_owned();
    let reason = world.reason_of("owner/other");
    assert!(reason.starts_with("owner/other: no connection to http://hub.invalid"), "{reason}");
}

#[test]
fn a_hub_that_fails_half_way_leaves_the_older_copy_usable() {
    let world = World::new(one_file());
    let old = world.fetch().unwrap();
    let content = bytes(9, 1000);
    world.hub.push(&"f".repeat(40), WEIGHTS, &content);
    world.hub.break_all("GET", "content/model.safetensors", Fault::CutAt(500));
    let snapshot = world.fetch().unwrap();
    assert_eq!(snapshot.path, old.path);
    assert!(snapshot.warning.unwrap().contains("cut"));

    world.hub.repair();
    assert!(read(&world.fetch().unwrap().path, WEIGHTS) == content);
}

#[test]
fn a_hostile_index_gets_nothing() {
    let hostile = [
        "../../../evil.safetensors",
        "/tmp/evil.safetensors",
        "a/b.safetensors",
        "..",
        "",
        "model.bin",
        "a\\\\b.safetensors",
    ];
    for name in hostile {
        let world =
            World::new(indexed(&format!(r#"{{"a": "model-00001-of-00002.safetensors", "b": "{name}"}}"#)));
        let reason = world.reason();
        assert!(reason.contains("is not the name of a safetensors file"), "{name}: {reason}");
        assert!(world.hub.cdn.requests().is_empty(), "{name}");
        assert!(!world.repo().join("refs").exists(), "{name}");
    }
    let world = World::new(indexed(r#"{"a": "model-9.safetensors"}"#));
    assert!(world.reason().contains("has no model-9.safetensors, which model.safetensors.index.json names"));
    let world = World::new(indexed("{}"));
    assert!(world.reason().contains("names no files"));
    let world = World::new(indexed("[1]"));
    assert!(world.reason().contains(INDEX));
}

#[test]
fn hostile_headers_name_no_paths() {
    for etag in ["../../../evil", "/tmp/evil", "", "a.part"] {
        let world = World::new(one_file());
        world.hub.break_all("HEAD", CONFIG, Fault::Header("etag", format!("\"{etag}\"")));
        assert!(world.reason().contains("names no content for config.json"), "{etag}");
        assert!(!world.repo().exists(), "{etag}");
    }
    for commit in ["main", "../../evil", &"A".repeat(40)] {
        let world = World::new(one_file());
        world.hub.push(commit, CONFIG, b"{}");
        assert!(world.reason().contains("as its commit"), "{commit}");
        assert!(!world.repo().exists(), "{commit}");
    }
}

#[test]
fn content_of_another_size_is_refused() {
    let longer = [weights(), vec![0]].concat();
    for other in [&weights()[..WEIGHT_BYTES - 1], &longer] {
        let world = World::new(one_file());
        world.hub.break_all("GET", "content/model.safetensors", Fault::Content(other.to_vec()));
        let reason = world.reason();
        let fact = format!("model.safetensors has 700000 bytes on the hub, its server sends {}", other.len());
        assert!(reason.contains(&fact), "{reason}");
        assert!(!world.weights_blob().exists() && !world.weights_part().exists());
        assert!(!world.repo().join("snapshots").join(COMMIT).join(WEIGHTS).exists());
    }
    // Less than a part already has.
    let world = World::new(one_file());
    fs::create_dir_all(world.repo().join("blobs")).unwrap();
    fs::write(world.weights_part(), &weights()[..300_000]).unwrap();
    world.hub.break_all("GET", "content/model.safetensors", Fault::Content(weights()[..200_000].to_vec()));
    assert!(world.reason().contains("its server sends 200000"));
}

#[test]
fn damaged_content_is_refused() {
    let world = World::new(one_file());
    world.hub.break_all("GET", "content/model.safetensors", Fault::Damage);
    let reason = world.reason();
    assert!(reason.contains("model.safetensors arrived damaged"), "{reason}");
    assert!(!world.weights_blob().exists() && !world.weights_part().exists());
    assert_eq!(world.ranges().len(), 2, "the tokenizer, and the weights once");
}

/// `/dev/full` refuses every byte as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_line_and_leaves_nothing() {
    let world = World::new(one_file());
    fs::create_dir_all(world.repo().join("blobs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", world.weights_part()).unwrap();
    let reason = world.reason();
    assert!(reason.contains("the disk is full: model.safetensors needs 700000 bytes"), "{reason}");
    assert!(!world.weights_blob().exists() && !world.weights_part().is_symlink());
    assert_eq!(world.ranges().len(), 2, "no second attempt");
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let world = World::new(one_file());
    fs::create_dir_all(world.repo()).unwrap();
    fs::write(world.repo().join("blobs"), "not a folder").unwrap();
    let error = world.fetch().unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.starts_with(world.repo())), "{error}");
}

#[test]
fn two_at_once_fetch_everything_once() {
    let world = World::new(one_file());
    let paths: Vec<PathBuf> = std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| world.fetch().unwrap().path)).collect();
        fetches.into_iter().map(|fetch| fetch.join().unwrap()).collect()
    });
    assert!(paths.iter().all(|path| *path == paths[0] && read(path, WEIGHTS) == weights()));
    assert_eq!(world.hub.cdn.requests().len(), 2);
}
