//! Generates the messages from `proto/`, without a system `protoc`, and says for which
//! target that is.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 3] = [
    "hybridgrid/v1/task.proto",
    "hybridgrid/v1/worker.proto",
    "hybridgrid/v1/build.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let target = std::env::var("TARGET")?;
    println!("cargo:rustc-env=HG_TARGET={target}");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    prost_build::Config::new()
        .out_dir(&out)
        // Said once; what carries a hello carries all other messages too.
        .boxed(".hybridgrid.v1.Hello.machine")
        .compile_fds(descriptors)?;
    Ok(())
}
