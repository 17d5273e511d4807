//! Trial of each compiler in the sandbox. The files that a compiler needs are found by what
//! it loads; one that needs more (an assembler that is a script, say) is better not offered
//! than tried with every task.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hg_proto::compiler::toolchain::{Family, Language};

use crate::log::{self, Level};
use crate::sandbox::facade::{Isolation, Launch, ResourceLimits, Sandbox, TaskFolder};
use crate::sandbox::totals::Totals;
use crate::tasks::compile::{self, CompileError};
use crate::tasks::control::Control;
use crate::tasks::toolchains::{Catalogue, Compiler};

/// Time that one trial may take: a cold start from a slow disk.
const TRIAL_MAX: Duration = Duration::from_secs(30);

/// Trials so far, of which several may go on.
static TRIALS: AtomicU64 = AtomicU64::new(0);

/// Removes the compilers from `found` that make no object in the sandbox, and logs why.
/// `tasks` is the folder of task folders.
pub fn retain_working(found: &mut Catalogue, sandbox: &Sandbox, tasks: &Path) {
    if sandbox.isolation() == Isolation::Folder {
        // Without isolation they see what they saw when they were found.
        return;
    }
    let mut tried = BTreeMap::new();
    found.retain(|_, compiler| {
        let result = tried
            .entry(needs(compiler))
            .or_insert_with(|| try_compiler(compiler, sandbox, tasks));
        if let Err(why) = result {
            let driver = compiler.driver.display();
            log::line(
                Level::Warn,
                format_args!("not offered: {driver}: does not work in the sandbox: {why}"),
            );
        }
        result.is_ok()
    });
}

/// What a trial of `compiler` shows to be there: the files of its driver, and gcc's for one
/// language. clang is one program under all of its names, for all languages.
fn needs(compiler: &Compiler) -> (PathBuf, Option<&'static str>) {
    let driver = &compiler.driver;
    let program = driver.canonicalize().unwrap_or_else(|_| driver.clone());
    let language = match compiler.family {
        Family::Gcc => Some(compiler.language.name()),
        Family::Clang => None,
    };
    (program, language)
}

/// Has the compiler make an object of an empty source.
///
/// # Errors
/// In words: what it says instead.
pub fn try_compiler(compiler: &Compiler, sandbox: &Sandbox, tasks: &Path) -> Result<(), String> {
    let folder = own_folder(tasks).map_err(|error| error.to_string())?;
    let language = match compiler.language {
        Language::C => "cpp-output",
        Language::Cxx => "c++-cpp-output",
    };
    fs::write(folder.root().join("in"), "int x;\n").map_err(|error| error.to_string())?;
    let words = ["-x", language, "-c", "in", "-o", "out"];
    let arguments = words.map(OsString::from);
    let limits = ResourceLimits {
        memory_bytes_max: u64::MAX,
        file_bytes_max: 16 << 20,
        cpu_s_max: TRIAL_MAX.as_secs(),
        nice: 0,
        totals: Totals::new(0, 0, u64::MAX, 16 << 20),
    };
    let launch = Launch {
        path_first: compiler.path_first.as_deref(),
        arguments: &arguments,
        ..Launch::new(
            &compiler.driver,
            &compiler.tools,
            &folder,
            Path::new(""),
            limits,
        )
    };
    let control = Control::new(0).map_err(|error| error.to_string())?;
    let ran = compile::run(
        sandbox,
        &launch,
        TRIAL_MAX.as_millis() as u32,
        false,
        &control,
        &|_| {},
    )
    .map_err(|error| match error {
        CompileError::Spawn(error) => error.to_string(),
        CompileError::Failed(failure) => failure.detail,
    })?;
    let made = folder.root().join("out").is_file();
    match ran.status.success() && made {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&ran.stderr);
            let line = said.lines().next().unwrap_or_default();
            Err(format!("{}: {line}", ran.status))
        }
    }
}

/// A folder for one trial: several clients may bring toolchains at once.
fn own_folder(tasks: &Path) -> io::Result<TaskFolder> {
    let name = format!("trial-{}", TRIALS.fetch_add(1, Ordering::Relaxed));
    TaskFolder::create(tasks, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_at_once_have_nothing_of_each_other() {
        let tasks = tempfile::tempdir().unwrap();
        let [one, other] = [(); 2].map(|()| own_folder(tasks.path()).unwrap());
        fs::write(one.root().join("out"), "").unwrap();
        assert!(!other.root().join("out").exists());
        drop(one);
        assert!(other.root().is_dir());
    }
}
