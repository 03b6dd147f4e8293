//! The folder of one model in the hub cache.
//!
//! ```text
//! models--owner--name/
//!   blobs/<etag>                content; complete as soon as it has this name
//!   blobs/<etag>.part           the beginning of content
//!   snapshots/<commit>/<file>   -> ../../blobs/<etag>
//!   refs/<revision>             the commit it was last seen at
//! .locks/models--owner--name/<etag>.lock
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::files;
use super::id::HubId;
use crate::{Error, Result};

/// How many references this process has written.
static WRITERS: AtomicU64 = AtomicU64::new(0);

/// The folder of one model.
#[derive(Debug)]
pub(super) struct RepoCache {
    repo: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// The folder of `id` in the cache `cache_dir`. Creates nothing.
    pub(super) fn new(cache_dir: &Path, id: &HubId) -> Self {
        let folder = format!("models--{}", id.repo().replace('/', "--"));
        Self { locks: cache_dir.join(".locks").join(&folder), repo: cache_dir.join(folder) }
    }

    /// Content under its final name.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.repo.join("blobs").join(etag)
    }

    /// The beginning of content.
    pub(super) fn part(&self, etag: &str) -> PathBuf {
        self.repo.join("blobs").join(format!("{etag}.part"))
    }

    /// The files of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.join("snapshots").join(commit)
    }

    /// Whether the file `name` of a commit is there, complete.
    pub(super) fn has(&self, commit: &str, name: &str) -> bool {
        self.snapshot(commit).join(name).is_file()
    }

    /// Opens the file that whoever writes a blob locks.
    pub(super) fn lock_file(&self, etag: &str) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        File::create(&path).map_err(|error| Error::io(path, error))
    }

    /// Makes the blob visible as the file `name` of a commit.
    pub(super) fn link(&self, etag: &str, commit: &str, name: &str) -> Result<()> {
        let link = self.snapshot(commit).join(name);
        create_parent(&link)?;
        if link.is_symlink() && !link.exists() {
            // Its blob was deleted.
            fs::remove_file(&link).map_err(|error| Error::io(&link, error))?;
        }
        let depth = Path::new(name).components().count();
        let target = (0..=depth).map(|_| "..").collect::<PathBuf>().join("blobs").join(etag);
        match link_to(&self.blob(etag), &target, &link) {
            // Another process was faster, or the blob is back under an old link.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && link.is_file() => Ok(()),
            result => result.map_err(|error| Error::io(link, error)),
        }
    }

    /// Remembers the commit of a revision.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.repo.join("refs").join(revision);
        create_parent(&path)?;
        // A name that no revision and no other writer has.
        let number = WRITERS.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_file_name(format!("-{}-{number}.part", std::process::id()));
        fs::write(&temporary, commit)
            .and_then(|()| fs::rename(&temporary, &path))
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
            .map_err(|error| Error::io(path, error))
    }

    /// The snapshot that `id` means, or its GGUF file, without asking the hub; else what is missing.
    pub(super) fn complete_snapshot(&self, id: &HubId) -> Result<PathBuf, String> {
        let Some(commit) = self.commit(id.revision()).filter(|commit| self.snapshot(commit).is_dir()) else {
            return Err("is not in the cache".to_owned());
        };
        let folder = self.snapshot(&commit);
        let has_weights = [files::SINGLE, files::INDEX].iter().any(|name| self.has(&commit, name));
        let mut names = BTreeSet::new();
        add_names(&folder, "", &mut names);
        if id.file().is_some() || !has_weights && files::has_gguf(&names) {
            let found = files::gguf(&names, id.file());
            return found.map(|names| folder.join(&names[0])).map_err(|fact| format!("{fact} in the cache"));
        }
        let missing = |name: &str| format!("is not complete in the cache, {name} is missing");
        if let Some(name) = files::REQUIRED.iter().find(|name| !self.has(&commit, name)) {
            return Err(missing(name));
        }
        if self.has(&commit, files::SINGLE) {
            return Ok(folder);
        }
        if !self.has(&commit, files::INDEX) {
            return Err(missing(files::SINGLE));
        }
        let shards = files::shards(&folder).map_err(|error| error.to_string())?;
        match shards.iter().find(|name| !self.has(&commit, name)) {
            Some(name) => Err(missing(name)),
            None => Ok(folder),
        }
    }

    /// The commit that `revision` was last seen at.
    fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.repo.join("refs").join(revision)).ok()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }
}

/// The complete files in a folder, with what is below it, as the hub names them.
fn add_names(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => add_names(&entry.path(), &format!("{name}/"), names),
            _ if entry.path().is_file() => drop(names.insert(name)),
            _ => {}
        }
    }
}

/// Whether `s` is the full name of a commit.
pub(super) fn is_commit(s: &str) -> bool {
    s.len() == 40 && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Creates the folder that `path` is in.
pub(super) fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().expect("paths of the cache have a folder");
    fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))
}

/// A symbolic link where the system lets us, else a hard link, else the blob itself: each appears at once.
fn link_to(blob: &Path, target: &Path, link: &Path) -> io::Result<()> {
    match symlink_file(target, link) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            fs::hard_link(blob, link).or_else(|_| fs::rename(blob, link))
        }
        result => result,
    }
}

#[cfg(unix)]
fn symlink_file(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink_file(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink_file(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn cache(folder: &Path) -> RepoCache {
        RepoCache::new(folder, &HubId::parse("owner/name").unwrap())
    }

    #[test]
    fn a_blob_becomes_a_file_of_a_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        create_parent(&cache.blob("etag")).unwrap();
        fs::write(cache.blob("etag"), "content").unwrap();

        assert!(!cache.has(COMMIT, "file"));
        cache.link("etag", COMMIT, "file").unwrap();
        cache.link("etag", COMMIT, "file").unwrap();
        assert!(cache.has(COMMIT, "file"));
        let path = folder.path().join("models--owner--name/snapshots").join(COMMIT).join("file");
        assert_eq!(fs::read_to_string(path).unwrap(), "content");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_without_its_blob_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        create_parent(&cache.snapshot(COMMIT).join("file")).unwrap();
        symlink_file(Path::new("../../blobs/etag"), &cache.snapshot(COMMIT).join("file")).unwrap();
        assert!(!cache.has(COMMIT, "file"));

        create_parent(&cache.blob("other")).unwrap();
        fs::write(cache.blob("other"), "content").unwrap();
        cache.link("other", COMMIT, "file").unwrap();
        assert!(cache.has(COMMIT, "file"));
    }

    #[test]
    fn a_revision_leads_to_its_commit() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        assert_eq!(cache.commit("refs/pr/5"), None);
        cache.write_ref("refs/pr/5", &"f".repeat(40)).unwrap();
        cache.write_ref("refs/pr/5", COMMIT).unwrap();
        assert_eq!(cache.commit("refs/pr/5").as_deref(), Some(COMMIT));
        assert_eq!(fs::read_dir(folder.path().join("models--owner--name/refs/refs/pr")).unwrap().count(), 1);

        fs::write(folder.path().join("models--owner--name/refs/main"), "../../elsewhere").unwrap();
        assert_eq!(cache.commit("main"), None);
    }
}
