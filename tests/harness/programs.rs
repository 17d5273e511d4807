//! The programs under test, built from this checkout in the profile of whoever
//! asks. `cargo test --workspace` from a clean target folder would not build
//! another package's binaries, so we do.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the three programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `hgbuild`.
    pub client: PathBuf,
    /// `hg-coord`.
    pub coordinator: PathBuf,
    /// `hg-worker-lite`.
    pub worker: PathBuf,
}

/// Each is the one program of a package of its name.
const PROGRAMS: [&str; 3] = ["hgbuild", "hg-coord", "hg-worker-lite"];

/// The checkout.
pub fn checkout() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The cargo that built us, or the one in PATH.
pub fn cargo() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(checkout());
    // What the cargo that started us says of our own package. Build scripts look at their
    // own by the same names: ring, and with it nearly all else, would be built anew each
    // time that a build comes from within and then from without.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The programs, built now if they are missing or stale; once per process.
///
/// # Panics
/// They can't be built: there is nothing to test.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| match build(true) {
        Ok(programs) => programs,
        Err(why) => panic!("{why}"),
    })
}

/// Builds the programs beside this executable, in its profile. `quiet`: only
/// errors are shown.
///
/// # Errors
/// Words for people: cargo is missing, or says no (it has said why on stderr).
pub fn build(quiet: bool) -> Result<Programs, String> {
    let (folder, profile) = profile()?;
    let target = folder.parent().unwrap_or(&folder);
    // Features are united over all packages of one call: a release is built as it ships,
    // each program by itself, and all else with what `--workspace` has built already.
    let calls: Vec<Vec<&str>> = match profile.as_str() {
        "release" => PROGRAMS.map(|name| vec!["--package", name]).into(),
        _ => {
            let programs = PROGRAMS.iter().flat_map(|name| ["--bin", name]);
            vec![["--workspace"].into_iter().chain(programs).collect()]
        }
    };
    for packages in calls {
        let mut command = cargo();
        command.args(["build", "--profile", &profile]);
        if quiet {
            command.arg("--quiet");
        }
        command.args(&packages);
        command.arg("--target-dir").arg(target);
        let status = command
            .status()
            .map_err(|error| format!("cargo can't be run: {error}"))?;
        if !status.success() {
            return Err(format!("cargo build of {} failed", packages.join(" ")));
        }
    }
    Ok(Programs {
        client: folder.join("hgbuild"),
        coordinator: folder.join("hg-coord"),
        worker: folder.join("hg-worker-lite"),
    })
}

/// The folder of the profile this executable was built in, and its name.
fn profile() -> Result<(PathBuf, String), String> {
    let executable = env::current_exe().map_err(|error| format!("this executable: {error}"))?;
    let mut folder = executable.parent().unwrap_or(Path::new("/")).to_path_buf();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let profile = match name.as_str() {
        "debug" => "dev".to_owned(),
        _ => name,
    };
    Ok((folder, profile))
}
