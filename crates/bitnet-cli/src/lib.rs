//! The `bitnet` command as a library, so that the Python package runs the same one: parsing and printing, no maths.

mod args;
mod doctor;
mod eval;
mod failure;
mod inspect;
mod interrupt;
mod run;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};

use clap::Parser;

use crate::args::{Args, Command};
use crate::failure::Failure;

/// Exit status of a success.
const SUCCESS: u8 = 0;

/// Runs the command line `args`, the program's name first, and returns the exit status: 0, 2 for a wrong use, 130
/// after Ctrl-C, 1 for everything else.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    finish(match args.command {
        Command::Run(args) => run::run(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Doctor(args) => doctor::doctor(&args),
    })
}

/// Help and version, which come as errors too; or what is wrong with the arguments, in one line.
fn refuse(error: &clap::Error) -> u8 {
    // A closed pipe is nobody's error.
    if !error.use_stderr() || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        drop(error.print());
    } else {
        // The usage follows behind an empty line.
        let text = error.to_string();
        let message = text.split("\n\n").next().unwrap_or_default();
        let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
        drop(writeln!(std::io::stderr(), "{line} (see --help)"));
    }
    u8::try_from(error.exit_code()).unwrap_or(Failure::USAGE)
}

fn finish(done: Result<(), Failure>) -> u8 {
    match done {
        Ok(()) => SUCCESS,
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => SUCCESS,
        Err(failure) => {
            drop(writeln!(std::io::stderr(), "error: {}", failure.line()));
            failure.status()
        }
    }
}

/// One JSON object on stdout.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Output(error.into()))?;
    print_line(&text)
}

fn print_line(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(Failure::Output)
}
