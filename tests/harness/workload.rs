//! Real C and C++ projects, from packages of Cargo's registry that carry them
//! (`workloads/Cargo.toml` pins them), built by the Makefiles beside it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::folder::copy;
use crate::programs::cargo;

/// A project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Also the folder of its Makefile.
    pub name: &'static str,
    /// Of the registry.
    package: &'static str,
    /// Where in the package the sources are.
    folder: &'static str,
    /// How many objects its Makefile makes.
    pub objects: usize,
    /// The make variable that names its compiler: `CC` or `CXX`.
    pub compiler_variable: &'static str,
}

/// Lua 5.4: C.
pub const LUA: Workload = Workload {
    name: "lua",
    package: "lua-src",
    folder: "lua-5.4.9",
    objects: 32,
    compiler_variable: "CC",
};

/// zlib: C.
pub const ZLIB: Workload = Workload {
    name: "zlib",
    package: "libz-sys",
    folder: "src/zlib",
    objects: 15,
    compiler_variable: "CC",
};

/// zstd: C, with large files and assembler in it.
pub const ZSTD: Workload = Workload {
    name: "zstd",
    package: "zstd-sys",
    folder: "zstd/lib",
    objects: 33,
    compiler_variable: "CC",
};

/// LevelDB: C++.
pub const LEVELDB: Workload = Workload {
    name: "leveldb",
    package: "leveldb-sys",
    folder: "deps/leveldb-1.22",
    objects: 39,
    compiler_variable: "CXX",
};

impl Workload {
    /// Puts the Makefile and the sources (as `src/`) into `folder`, which is made.
    ///
    /// # Errors
    /// Words: the registry can't be had, or the disk.
    pub fn unpack(&self, folder: &Path) -> Result<(), String> {
        let from = self.sources()?;
        let makefile = pins().join(self.name).join("Makefile");
        copy(&from, &folder.join("src"))
            .and_then(|()| fs::copy(&makefile, folder.join("Makefile")))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(())
    }

    /// Where cargo keeps the sources, which it fetches if need be.
    ///
    /// # Errors
    /// Words: the registry can't be had.
    pub fn sources(&self) -> Result<PathBuf, String> {
        Ok(self.package_folder()?.join(self.folder))
    }

    /// Where cargo keeps the package, which it fetches if need be.
    fn package_folder(&self) -> Result<PathBuf, String> {
        let output = cargo()
            .args(["metadata", "--quiet", "--locked", "--format-version", "1"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .arg("--manifest-path")
            .arg(pins().join("Cargo.toml"))
            .output()
            .map_err(|error| format!("cargo can't be run: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("the registry can't be had: {}", said.trim()));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata: {error}"))?;
        let packages = metadata["packages"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        packages
            .iter()
            .find(|package| package["name"] == self.package)
            .and_then(|package| package["manifest_path"].as_str())
            .and_then(|manifest| Path::new(manifest).parent())
            .map(Path::to_path_buf)
            .ok_or_else(|| format!("{} is not pinned", self.package))
    }
}

fn pins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads")
}
