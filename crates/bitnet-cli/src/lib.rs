//! The `bitnet` command as a library, so that the Python package runs the same one: parsing and printing, no maths.

mod args;
mod batch;
mod bench;
mod chat;
mod convert;
mod cpu;
mod doctor;
mod eval;
mod failure;
mod inspect;
mod interrupt;
mod merge;
mod output;
mod quantize;
mod run;
mod text;
mod train;
mod verify;

use std::ffi::OsString;
use std::path::Path;

use bitnet_inference::Error;
use bitnet_inference::report::Report;
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::{Args, Command};
use crate::failure::Failure;

/// Runs the command line `args`, the program's name first, and returns the exit status: 0, 2 for a wrong use, 130
/// after Ctrl-C, 1 for everything else.
///
/// It prints to standard output and standard error, ends quietly when standard output is closed, and never ends the
/// process itself. It takes Ctrl-C over for the rest of the process; work that Ctrl-C leaves behind, such as a
/// download, goes on until the process ends, so a caller should pass the status on and end.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    interrupt::watch();
    let done = match args.command {
        Command::Run(args) => run::run(args),
        Command::Chat(args) => chat::chat(args),
        Command::Batch(args) => batch::batch(&args),
        Command::Inspect(args) => inspect::inspect(args),
        Command::Eval(args) => eval::eval(args),
        Command::Bench(args) => bench::bench(args),
        Command::Convert(args) => convert::convert(args),
        Command::Merge(args) => merge::merge(args),
        Command::Verify(args) => verify::verify(args),
        Command::Quantize(args) => quantize::quantize(args),
        Command::Train(args) => train::train(&args),
        Command::Doctor(args) => doctor::doctor(&args),
    };
    let Err(failure) = done else { return 0 };
    if !failure.is_silent() {
        output::note(&format!("error: {failure}"));
    }
    failure.status()
}

/// Writes a report to a new file, an HTML page or a PNG plot as its name says: what `bitnet quantize --report` does.
///
/// Errors: [`Error::InvalidOption`] for another name, [`Error::Io`].
pub fn save_report(report: &Report, path: &Path) -> Result<(), Error> {
    quantize::save(report, path)
}

/// Help and version, which come as errors too; or what is wrong with the arguments, in one line.
fn refuse(error: &clap::Error) -> u8 {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Fails on a closed pipe, which is nobody's error.
        drop(error.print());
    } else {
        let text = error.to_string();
        // Behind the message come tips and the usage; arguments may quote anything, so look from the end.
        let parts = ["\n\nFor more information", "\n\nUsage:", "\n\n  tip:"];
        let message = parts.iter().fold(&*text, |text, part| text.rfind(part).map_or(text, |at| &text[..at]));
        let hint = match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(name)) => format!("did you mean {name}?"),
            _ => "see --help".to_owned(),
        };
        output::note(&format!("{message} ({hint})"));
    }
    u8::try_from(error.exit_code()).unwrap_or(Failure::USAGE)
}
