//! The command `hg-coord`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hg_coord::server::main()
}
