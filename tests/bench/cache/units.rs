//! Compiles of a project, one by one.

use std::fs;
use std::path::{Path, PathBuf};

use hg_tests::command::{run, scrubbed};
use hg_tests::workload::Workload;

/// One compile.
pub struct Unit {
    /// Where it runs.
    pub folder: PathBuf,
    /// The compiler and its arguments.
    pub words: Vec<String>,
}

/// Compiles that belong together.
pub struct Project {
    /// For the table.
    pub name: String,
    /// In the order of its Makefile.
    pub units: Vec<Unit>,
}

/// The compiles of a workload, unpacked into `folder` and built once, as `make -n`
/// gives them.
///
/// # Errors
/// It can't be had or built: words.
pub fn real(workload: Workload, compiler: &str, folder: &Path) -> Result<Project, String> {
    workload.unpack(folder)?;
    let make = |words: &[&str]| {
        let mut command = scrubbed("make", folder, folder);
        command
            .args(words)
            .arg(format!("{}={compiler}", workload.compiler_variable));
        run(&mut command)
    };
    let listed = make(&["-n"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let front = format!("{compiler} ");
    let units: Vec<Unit> = text
        .lines()
        .filter(|line| line.starts_with(&front) && line.contains(" -c "))
        .map(|line| Unit {
            folder: folder.to_path_buf(),
            words: line.split_whitespace().map(str::to_owned).collect(),
        })
        .collect();
    if units.len() != workload.objects {
        return Err(format!("{} compiles in {text}", units.len()));
    }
    // Makes the folders for objects, and lets the sources grow old.
    let built = make(&["-s"]);
    if !built.ok() {
        return Err(built.words());
    }
    Ok(Project {
        name: format!("{} by {compiler}", workload.name),
        units,
    })
}

/// Writes a file in folders that are made.
///
/// # Panics
/// It can't be.
pub fn write(path: &Path, text: &str) {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).expect("a folder");
    }
    fs::write(path, text).expect("a source");
}
