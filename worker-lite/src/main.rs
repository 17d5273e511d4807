//! The program `hg-worker-lite`: reads its command line and hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    hg_worker_lite::config::run()
}
