//! Files that must be there, memory-mapped.

use std::io;
use std::path::Path;

use bitnet_core::Buffer;
use bitnet_inference::checkpoint::map_file;

use crate::{Error, Result};

/// The bytes of a file.
///
/// Errors: that of the system, also for a file that is not there.
pub(crate) fn mapped(path: &Path) -> Result<Buffer> {
    map_file(path)?.ok_or_else(|| Error::io(path, io::ErrorKind::NotFound.into()))
}
