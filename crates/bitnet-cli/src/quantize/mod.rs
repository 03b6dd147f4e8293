//! `bitnet quantize`.

mod file;
mod histogram;
mod html;
mod pack;
mod ranking;
mod table;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use bitnet_core::ThreadPool;
use bitnet_inference::report::{self, Report, ReportOptions};
use bitnet_inference::{Checkpoint, Error, GgufOptions};

use self::file::ReportFile;
use crate::args::QuantizeArgs;
use crate::failure::Failure;
use crate::{interrupt, output, text};

/// Packs a model, or prints what quantization does to it and writes that to files.
pub(crate) fn quantize(args: QuantizeArgs) -> Result<(), Failure> {
    let files = args.report.iter().map(|path| ReportFile::new(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(output) = &args.output {
        let packed = pack::pack(&args, output)?;
        if files.is_empty() {
            return pack::print(&packed, output, args.json);
        }
    }
    let json = args.json;
    let report = measure(args)?;
    if json {
        output::json(&report)?;
    } else {
        output::text(&table::ranked(&report))?;
        output::table(&table::summary(&report))?;
    }
    Ok(files.iter().try_for_each(|file| file.write(&report))?)
}

/// Writes a report to a new file, `NAME.html` or `NAME.png`.
pub(crate) fn save(report: &Report, path: &Path) -> Result<(), Error> {
    ReportFile::new(path)?.write(report)
}

/// The report, under a progress bar.
fn measure(args: QuantizeArgs) -> Result<Report, Failure> {
    let text = args.text.map(text::read).transpose()?;
    let bar = output::progress_bar(0, "{bar:40} step {pos}/{len}, {eta} left");
    let handle = bar.clone();
    let report = interrupt::or_done(move || {
        let pool = Arc::new(ThreadPool::new(args.threads.unwrap_or_else(ThreadPool::default_threads))?);
        let model = Checkpoint::find(Some(&args.model), &args.gguf.options)?;
        let find = |model: String| Checkpoint::find(Some(&model), &GgufOptions::default());
        let reference = args.reference.map(find).transpose()?;
        let (tokens, precisions, min_sqnr_db) = (args.tokens, args.precisions, args.min_sqnr);
        let options = ReportOptions { tokens, precisions, min_sqnr_db };
        report::report(&model, reference.as_ref(), text.as_deref(), &options, &pool, |done, all| {
            handle.set_length(all as u64);
            handle.set_position(done as u64);
            interrupt::check()
        })
    });
    bar.finish_and_clear();
    report
}
