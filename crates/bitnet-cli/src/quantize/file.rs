//! Files a report is written to.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bitnet_inference::drawing::png;
use bitnet_inference::report::Report;
use bitnet_inference::{Error, Result, atomic_file};

use super::{html, ranking};

/// A file to be, of a format that its name says.
#[derive(Debug)]
pub(super) struct ReportFile {
    path: PathBuf,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Html,
    Png,
}

impl ReportFile {
    /// Checks what can be checked before there is a report: measuring takes long.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default();
        let format = if extension.eq_ignore_ascii_case("html") {
            Format::Html
        } else if extension.eq_ignore_ascii_case("png") {
            Format::Png
        } else {
            let (expected, got) = ("a name that ends in .html or .png", path.display().to_string());
            return Err(Error::InvalidOption { name: "report", expected, got });
        };
        atomic_file::refuse_existing(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let missing = io::Error::new(io::ErrorKind::NotFound, "is no folder to write a report to");
            return Err(Error::io(folder, missing));
        }
        Ok(Self { path: path.to_owned(), format })
    }

    /// Writes the report, whole or not at all.
    pub(super) fn write(&self, report: &Report) -> Result<()> {
        let bytes = match self.format {
            Format::Html => html::page(report).into_bytes(),
            Format::Png => {
                png::encode(&ranking::chart(report)).map_err(|error| Error::io(&self.path, error))?
            }
        };
        let fill =
            |file: &mut dyn Write| file.write_all(&bytes).map_err(|error| Error::io(&self.path, error));
        atomic_file::write(&self.path, fill)
    }
}
