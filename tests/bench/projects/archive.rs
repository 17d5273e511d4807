//! Where the projects' sources come from: the upstream tarballs of Debian's source
//! packages, fetched by apt with lists of its own, since few machines have `deb-src`
//! lines. The system's own configuration is only read.

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::step::{self, STEP_TIME_MAX};

/// The system's own sources, which say where source packages are too.
const SYSTEM: &str = "/etc/apt";

/// Tarballs that were fetched before, and a way to more.
pub struct Archive {
    /// A folder for each package.
    kept: PathBuf,
    /// Made when the first one is missing.
    lists: OnceCell<Result<Lists, String>>,
}

impl Archive {
    /// One that keeps its tarballs in `kept`.
    pub fn new(kept: PathBuf) -> Archive {
        Archive {
            kept,
            lists: OnceCell::new(),
        }
    }

    /// The upstream tarball of a source package.
    ///
    /// # Errors
    /// Words: apt can't be run, or has none.
    pub fn tarball(&self, package: &str) -> Result<PathBuf, String> {
        let folder = self.kept.join(package);
        if let Some(tarball) = upstream(&folder) {
            return Ok(tarball);
        }
        let lists = self.lists.get_or_init(Lists::new).as_ref()?;
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut command = lists.apt_get(&folder);
        command.args(["source", "--download-only", package]);
        let fetched = step::run(&mut command, STEP_TIME_MAX);
        // A mirror may have the tarball, but not the patches of its latest version.
        match (upstream(&folder), fetched) {
            (Some(tarball), _) => Ok(tarball),
            (None, Err(why)) => Err(why),
            (None, Ok(_)) => Err(format!("{package}: no upstream tarball")),
        }
    }
}

/// Puts what is in `tarball`, but for its topmost folder, into `folder`, which is made.
///
/// # Errors
/// Words: the disk, or no such tarball.
pub fn unpack(tarball: &Path, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut tar = Command::new("tar");
    tar.arg("xf")
        .arg(tarball)
        .args(["--strip-components=1", "-C"]);
    step::run(tar.arg(folder), STEP_TIME_MAX).map(drop)
}

/// `NAME_VERSION.orig.tar.*` in `folder`, whole: apt renames what it has checked.
fn upstream(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let tarball = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let end = name.split_once(".orig.tar.").map(|(_, end)| end);
        end.is_some_and(|end| ["gz", "xz", "bz2"].contains(&end))
    };
    entries.map(|entry| entry.path()).find(tarball)
}

/// apt's lists of source packages.
struct Lists {
    folder: TempDir,
}

impl Lists {
    fn new() -> Result<Lists, String> {
        let folder = tempfile::tempdir().and_then(|folder| {
            for name in ["parts", "lists/partial", "cache/archives/partial"] {
                fs::create_dir_all(folder.path().join(name))?;
            }
            copy_sources(&folder.path().join("parts"))?;
            Ok(folder)
        });
        let folder = folder.map_err(|error| format!("apt's lists: {error}"))?;
        let lists = Lists { folder };
        let mut update = lists.apt_get(lists.folder.path());
        step::run(update.arg("update"), STEP_TIME_MAX)?;
        Ok(lists)
    }

    /// apt-get in `folder`, with these lists and nothing kept elsewhere.
    fn apt_get(&self, folder: &Path) -> Command {
        let own = |name: &str| self.folder.path().join(name).display().to_string();
        let mut command = Command::new("apt-get");
        command.current_dir(folder).arg("-q");
        for option in [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={}", own("parts")),
            format!("Dir::State::lists={}", own("lists")),
            format!("Dir::Cache={}", own("cache")),
            // Root's helper user can't write to a private folder.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// The system's sources, each with its source packages, into `parts`.
fn copy_sources(parts: &Path) -> io::Result<()> {
    let system = Path::new(SYSTEM);
    let listed = fs::read_dir(system.join("sources.list.d"));
    let listed = listed.into_iter().flatten().flatten();
    let all = listed
        .map(|entry| entry.path())
        .chain([system.join("sources.list")]);
    for path in all {
        let kind = path.extension().unwrap_or_default().to_string_lossy();
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let text = match &*kind {
            "sources" => text.replace("Types: deb\n", "Types: deb deb-src\n"),
            "list" => text.lines().map(with_source_packages).collect(),
            _ => continue,
        };
        fs::write(parts.join(path.file_name().unwrap_or_default()), text)?;
    }
    Ok(())
}

/// A line of sources.list(5) and, if it is of binary packages, its like.
fn with_source_packages(line: &str) -> String {
    match line.strip_prefix("deb ") {
        Some(rest) => format!("{line}\ndeb-src {rest}\n"),
        None => format!("{line}\n"),
    }
}
