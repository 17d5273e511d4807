//! Generates the gRPC service from `../proto/proto`, without a system `protoc`.
//! The messages are hg-proto's own; only the service is made here, and a client
//! beside it, for our own commands.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

const ROOT: &str = "../proto/proto";
const FILES: [&str; 2] = ["hybridgrid/v1/task.proto", "hybridgrid/v1/build.proto"];
const MESSAGES: (&str, &str) = (".hybridgrid.v1", "::hg_proto::v1");

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES, [ROOT])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // For reflection.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .extern_path(MESSAGES.0, MESSAGES.1)
        .out_dir(&out)
        .compile_fds(descriptors)?;
    Ok(())
}
