//! Links the unwinder into the program: a shared one costs a tenth of a
//! millisecond at each start, which is a part of what a cached answer takes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let host = env::var("HOST").unwrap_or_default();
    let gnu = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    // For another machine, its own linker decides.
    if !gnu || !is("TARGET", &host) || !has_static_unwinder() {
        return;
    }
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return;
    };
    // Rust asks for libgcc_s by name: the linker finds this script first.
    if fs::write(out.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n").is_ok() {
        println!("cargo::rustc-link-arg-bins=-L{}", out.display());
    }
}

/// Whether the C compiler that links comes with libgcc_eh.a.
fn has_static_unwinder() -> bool {
    let asked = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output();
    asked.is_ok_and(|said| {
        let path = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        Path::new(&path).is_absolute()
    })
}
