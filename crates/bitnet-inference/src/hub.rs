//! Models from the Hugging Face hub, through the cache that its own tools use.
//!
//! ```no_run
//! use bitnet_inference::hub::{self, Progress};
//!
//! let folder = hub::download("microsoft/bitnet-b1.58-2B-4T", Progress::Bar)?;
//! assert!(folder.join("model.safetensors").exists());
//! # Ok::<(), bitnet_inference::Error>(())
//! ```
//!
//! One download: the listing of the revision names a commit and its files; the headers of each file that is needed
//! and absent name its blob and size; the blob is fetched, checked and only then linked into the snapshot of the
//! commit; the reference of the revision is written last.

mod blob;
mod cache;
mod client;
mod config;
mod failure;
mod files;
mod header;
mod id;

use std::io::Write;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use crate::Result;
use cache::RepoCache;
use client::Client;
pub use config::HubConfig;
use failure::{Failure, hub_error};
use id::HubId;

/// Whether a download shows how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Nothing is drawn.
    #[default]
    Hidden,
    /// A bar on stderr, while bytes are fetched and if stderr is a terminal.
    Bar,
}

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder with its files, or its GGUF file.
    pub path: PathBuf,
    /// Why this is the copy found in the cache and not what the hub has now: one line, `None` when the hub confirmed
    /// it and when the configuration is offline.
    pub warning: Option<String>,
}

/// Whether `s` has the form of a hub id: `owner/name`, `owner/name@revision`; with `:file.gguf`, or a part of such a name,
/// for one of several GGUF files; `owner/name/file.gguf`.
///
/// Says nothing about whether the model exists. A relative path can have this form too: look for a folder first.
pub fn is_hub_id(s: &str) -> bool {
    HubId::parse(s).is_some()
}

/// Makes the model `id` available locally, as the environment configures it ([`HubConfig::from_env`]), and returns
/// its folder or GGUF file.
///
/// Fetches only what is needed and not cached. A warning goes to stderr as one line.
///
/// Errors: as [`fetch`].
pub fn download(id: &str, progress: Progress) -> Result<PathBuf> {
    let snapshot = fetch(id, &HubConfig::from_env(), progress)?;
    if let Some(warning) = snapshot.warning {
        // Where nobody can read it, nobody misses it.
        drop(writeln!(std::io::stderr(), "warning: {warning}"));
    }
    Ok(snapshot.path)
}

/// Makes the model `id` available locally.
///
/// When the hub cannot be reached and the cache holds a complete snapshot of the revision, that snapshot is returned
/// with a warning.
///
/// Errors: [`Error::Hub`](crate::Error::Hub) for what the hub, the network or a full disk refuses, [`Error::Io`](crate::Error::Io) for files of the cache.
pub fn fetch(id: &str, config: &HubConfig, progress: Progress) -> Result<Snapshot> {
    let Some(parsed) = HubId::parse(id) else {
        return Err(hub_error(
            id,
            "is not a hub id, which is owner/name, owner/name@revision or owner/name:file.gguf",
        ));
    };
    let cache = RepoCache::new(&config.cache_dir, &parsed);
    if config.offline {
        return match cache.complete_snapshot(&parsed) {
            Ok(path) => Ok(Snapshot { path, warning: None }),
            Err(missing) => {
                Err(hub_error(id, format!("{missing}, and offline (HF_HUB_OFFLINE) nothing is fetched")))
            }
        };
    }
    let reason = match fetch_online(&parsed, config, &cache, progress) {
        Ok(path) => return Ok(Snapshot { path, warning: None }),
        Err(Failure::Final(error)) => return Err(error),
        Err(Failure::Unreachable(reason) | Failure::Transient(reason)) => reason,
    };
    match cache.complete_snapshot(&parsed) {
        Ok(path) => {
            Ok(Snapshot { path, warning: Some(format!("{id}: {reason}; using the copy in the cache")) })
        }
        Err(_) => Err(hub_error(id, reason)),
    }
}

fn fetch_online(
    id: &HubId,
    config: &HubConfig,
    cache: &RepoCache,
    progress: Progress,
) -> Result<PathBuf, Failure> {
    let client = Client::new(id, config);
    let listing = client.listing()?;
    let commit = &listing.commit;
    let wanted = files::wanted(&listing.files, id.file()).map_err(|reason| client.refuse(reason))?;
    let bar = progress.bar();
    fetch_missing(&client, cache, commit, &wanted, &bar)?;
    let folder = cache.snapshot(commit);
    if wanted.iter().any(|name| name == files::INDEX) {
        let shards: Vec<String> = files::shards(&folder)?.into_iter().collect();
        if let Some(absent) = shards.iter().find(|shard| !listing.files.contains(*shard)) {
            return Err(client.refuse(format!("has no {absent}, which {} names", files::INDEX)));
        }
        fetch_missing(&client, cache, commit, &shards, &bar)?;
    }
    cache.write_ref(id.revision(), commit)?;
    let is_gguf = |name: &&String| Path::new(name).extension().is_some_and(|extension| extension == "gguf");
    Ok(wanted.first().filter(is_gguf).map_or_else(|| folder.clone(), |file| folder.join(file)))
}

/// Fetches those of `names` that the snapshot of `commit` lacks.
fn fetch_missing(
    client: &Client<'_>,
    cache: &RepoCache,
    commit: &str,
    names: &[String],
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for name in names.iter().filter(|name| !cache.has(commit, name)) {
        missing.push(client.remote_file(commit, name)?);
    }
    bar.inc_length(missing.iter().map(|file| file.size_bytes).sum());
    for file in &missing {
        blob::fetch(client, cache, commit, file, bar)?;
        cache.link(&file.etag, commit, &file.name)?;
    }
    Ok(())
}

impl Progress {
    fn bar(self) -> ProgressBar {
        const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        match self {
            Self::Hidden => ProgressBar::hidden(),
            Self::Bar => ProgressBar::new(0)
                .with_style(ProgressStyle::with_template(TEMPLATE).expect("the template is valid"))
                .with_finish(ProgressFinish::AndClear),
        }
    }
}
