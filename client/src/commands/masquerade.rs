//! A folder of links named like the compilers of this machine, each to us, so
//! that a build that calls `gcc` calls `hgbuild gcc`. A configured build keeps its
//! path: it is the same one for every hgbuild of a user, and each run leads all of it
//! to the hgbuild that runs. A build that another one has started meanwhile goes on with
//! the hgbuild that it was started with: to that one we hand over.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;

use crate::local::compiler::{Search, name_of};
use crate::private;

/// Compilers on one machine.
const LINKS_MAX: usize = 512;

/// Names the variable with the hgbuild that a build was started with.
const BUILD_PROGRAM: &str = "HG_BUILD_PROGRAM";
/// Names the variable with the folder of links.
const FOLDER: &str = "HG_MASQUERADE";

/// Becomes the hgbuild that the build around us was started with, if that is another one
/// and we were called as `arg0` by a link of the folder. Returns where we are to do it
/// ourselves: it is us, or it is gone.
pub fn hand_over(arg0: &OsStr, args: &[OsString]) {
    let (Some(program), Some(folder)) = (env::var_os(BUILD_PROGRAM), env::var_os(FOLDER)) else {
        return;
    };
    let by_path = Path::new(arg0).parent().unwrap_or(Path::new(""));
    let by_name = by_path.as_os_str().is_empty();
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let (Ok(own), Ok(theirs)) = (
        env::current_exe().and_then(|own| identity(&own)),
        identity(Path::new(&program)),
    ) else {
        return;
    };
    if own != theirs && (by_name || by_path == Path::new(&folder)) {
        let mut command = process::Command::new(program);
        // Once: whatever it is, it does not hand over again.
        let command = command.arg0(arg0).args(args).env_remove(BUILD_PROGRAM);
        let _ = command.exec();
    }
}

/// A folder that leads to us.
pub struct Masquerade {
    /// The folder itself.
    pub folder: PathBuf,
    own: PathBuf,
}

impl Masquerade {
    /// Makes the folder, or brings it up to date.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn prepare(home: &Path) -> io::Result<Masquerade> {
        let folder = home.join("masquerade");
        private::make(&folder)?;
        private::check(&folder, &fs::metadata(&folder)?).map_err(io::Error::other)?;
        let own = env::current_exe()?;
        point_links(&folder, compilers(), &own)?;
        Ok(Masquerade { folder, own })
    }

    /// The variables of a build that it leads: where it is, and to whom.
    pub fn variables(&self) -> [(&'static str, &Path); 2] {
        [(FOLDER, &self.folder), (BUILD_PROGRAM, &self.own)]
    }
}

/// Makes links to `own` of all `names`, and of what is in the folder from other runs.
fn point_links(folder: &Path, names: BTreeSet<OsString>, own: &Path) -> io::Result<()> {
    let mut all = names;
    add_compiler_names(folder, &mut all);
    // Each version had a folder of its own once, which trees that it configured name.
    for inner in fs::read_dir(folder)?.flatten() {
        if !inner.file_type()?.is_dir() {
            continue;
        }
        let mut old = BTreeSet::new();
        add_compiler_names(&inner.path(), &mut old);
        for name in &old {
            point_link(&inner.path().join(name), &Path::new("..").join(name))?;
        }
        all.append(&mut old);
    }
    all.iter()
        .try_for_each(|name| point_link(&folder.join(name), own))
}

/// Makes `link` a link `to` a program. It is there at all times: others compile.
fn point_link(link: &Path, to: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|now| now == to) {
        return Ok(());
    }
    let new = link.with_file_name(format!(".{}", process::id()));
    // A leftover of a process of this number is nobody's.
    let _ = fs::remove_file(&new);
    symlink(to, &new)?;
    fs::rename(&new, link)
}

/// The names of compilers in PATH.
fn compilers() -> BTreeSet<OsString> {
    let mut names = BTreeSet::new();
    for folder in Search::new().folders() {
        add_compiler_names(&folder, &mut names);
    }
    names
}

/// Adds the names of compilers in `folder` to `names`.
fn add_compiler_names(folder: &Path, names: &mut BTreeSet<OsString>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for name in entries.map(|entry| entry.file_name()) {
        if name_of(&name).is_some() && names.len() < LINKS_MAX {
            names.insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_link_is_always_there_and_old_folders_follow() {
        let folder = std::env::temp_dir().join(format!("hg-masquerade-{}", process::id()));
        let old = folder.join("0123456789ab");
        fs::create_dir_all(&old).unwrap();
        symlink("/gone/hgbuild", old.join("g++")).unwrap();
        let names = || BTreeSet::from([OsString::from("gcc")]);
        point_links(&folder, names(), Path::new("/one/hgbuild")).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    fs::read_link(folder.join("gcc")).unwrap();
                }
            });
            for turn in 0..500 {
                let own = ["/one/hgbuild", "/two/hgbuild"][turn % 2];
                point_links(&folder, names(), Path::new(own)).unwrap();
            }
            ended.store(true, Ordering::Relaxed);
            looks.join().unwrap();
        });
        for name in ["gcc", "g++"] {
            let link = fs::read_link(folder.join(name)).unwrap();
            assert_eq!(link, Path::new("/two/hgbuild"), "{name}");
        }
        assert_eq!(fs::read_link(old.join("g++")).unwrap(), Path::new("../g++"));
        fs::remove_dir_all(folder).unwrap();
    }
}
