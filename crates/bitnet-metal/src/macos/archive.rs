//! Compiled pipelines of earlier processes.
//!
//! A cache and no more: whatever is wrong with its file, kernels are compiled as if there were none.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSArray, NSProcessInfo, NSString, NSURL};
use objc2_metal::{
    MTLBinaryArchive, MTLBinaryArchiveDescriptor, MTLComputePipelineDescriptor, MTLComputePipelineState,
    MTLDevice, MTLFunction, MTLPipelineOption,
};

use crate::source::fingerprint;
use crate::{Error, Result};

/// The archive of the kernels, of one device and one version of the system.
#[derive(Debug)]
pub(super) struct Archive {
    path: Option<PathBuf>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    /// `None` where the system has no archives.
    archive: Option<Retained<ProtocolObject<dyn MTLBinaryArchive>>>,
    has_news: bool,
}

// SAFETY: an archive may be used by any thread, one at a time, which the lock sees to.
unsafe impl Send for Open {}

impl Archive {
    /// The archive of earlier processes, or an empty one.
    pub(super) fn open(device: &ProtocolObject<dyn MTLDevice>, device_name: &str) -> Self {
        let path = path(device_name);
        let stored = path.as_deref().filter(|path| path.is_file()).and_then(|path| load(device, Some(path)));
        let archive = stored.or_else(|| load(device, None));
        Self { path, open: Mutex::new(Open { archive, has_news: false }) }
    }

    /// The pipeline of a kernel, from the archive where it has it.
    pub(super) fn pipeline(
        &self,
        device: &ProtocolObject<dyn MTLDevice>,
        kernel: &str,
        function: &ProtocolObject<dyn MTLFunction>,
        threads: usize,
    ) -> Result<Retained<ProtocolObject<dyn MTLComputePipelineState>>> {
        let descriptor = MTLComputePipelineDescriptor::new();
        descriptor.setComputeFunction(Some(function));
        // So many, whatever registers they would like to have.
        descriptor.setMaxTotalThreadsPerThreadgroup(threads);
        descriptor.setLabel(Some(&NSString::from_str(kernel)));
        let make = |options| {
            device.newComputePipelineStateWithDescriptor_options_reflection_error(&descriptor, options, None)
        };
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(archive) = &open.archive {
            descriptor.setBinaryArchives(Some(&NSArray::from_slice(&[&**archive])));
            if let Ok(pipeline) = make(MTLPipelineOption::FailOnBinaryArchiveMiss) {
                return Ok(pipeline);
            }
            let is_added = archive.addComputePipelineFunctionsWithDescriptor_error(&descriptor).is_ok();
            open.has_news |= is_added;
        }
        make(MTLPipelineOption::None).map_err(|error| Error::Compile {
            kernel: kernel.to_owned(),
            reason: error.localizedDescription().to_string(),
        })
    }

    /// Writes what is new, beside the file and then in its place.
    pub(super) fn save(&self) {
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (Some(path), Some(archive), true) = (&self.path, &open.archive, open.has_news) else { return };
        let beside = path.with_extension(format!("{}.partial", std::process::id()));
        let is_written = path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
            && archive.serializeToURL_error(&url(&beside)).is_ok()
            && std::fs::rename(&beside, path).is_ok();
        if !is_written {
            // Then it is compiled again next time.
            let _ = std::fs::remove_file(&beside);
        }
        open.has_news = false;
    }
}

fn load(
    device: &ProtocolObject<dyn MTLDevice>,
    path: Option<&Path>,
) -> Option<Retained<ProtocolObject<dyn MTLBinaryArchive>>> {
    let descriptor = MTLBinaryArchiveDescriptor::new();
    descriptor.setUrl(path.map(url).as_deref());
    device.newBinaryArchiveWithDescriptor_error(&descriptor).ok()
}

fn url(path: &Path) -> Retained<NSURL> {
    NSURL::fileURLWithPath(&NSString::from_str(&path.to_string_lossy()))
}

/// One file for each set of sources, device and system: what a system compiled is of no use to the next.
fn path(device_name: &str) -> Option<PathBuf> {
    let home = std::env::home_dir().filter(|home| home.is_absolute())?;
    let system = NSProcessInfo::processInfo().operatingSystemVersionString().to_string();
    let name = format!("{:016x}.metalarchive", fingerprint([device_name, &system]));
    Some(home.join("Library/Caches/bitnet-rust").join(name))
}
