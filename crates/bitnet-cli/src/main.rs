//! The `bitnet` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(bitnet_cli::main(std::env::args_os()))
}
