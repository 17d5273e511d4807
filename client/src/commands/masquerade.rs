//! A folder of links named like the compilers of this machine, each to us, so
//! that a build that calls `gcc` calls `hgbuild gcc`. A configured build keeps its
//! path: it is the same one for every hgbuild of a user, and each run leads all of it
//! to the hgbuild that runs.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;

use crate::local::compiler::{Search, name_of};
use crate::private;

/// Compilers on one machine.
const LINKS_MAX: usize = 512;

/// Makes the folder, or brings it up to date, and gives its path.
///
/// # Errors
/// It can't be made.
pub fn prepare(home: &Path) -> io::Result<PathBuf> {
    let folder = home.join("masquerade");
    private::make(&folder)?;
    private::check(&folder, &fs::metadata(&folder)?).map_err(io::Error::other)?;
    mend(&folder, compilers(), &std::env::current_exe()?)?;
    Ok(folder)
}

/// Leads `names`, and what is in the folder from other runs, to `own`.
fn mend(folder: &Path, names: BTreeSet<OsString>, own: &Path) -> io::Result<()> {
    let mut all = names;
    links(folder, &mut all);
    // Each version had a folder of its own once, which trees that it configured name.
    for inner in fs::read_dir(folder)?.flatten() {
        if !inner.file_type()?.is_dir() {
            continue;
        }
        let mut old = BTreeSet::new();
        links(&inner.path(), &mut old);
        for name in &old {
            lead(&inner.path().join(name), &Path::new("..").join(name))?;
        }
        all.append(&mut old);
    }
    all.iter()
        .try_for_each(|name| lead(&folder.join(name), own))
}

/// Makes `link` lead `to` a program. It is there at all times: others compile.
fn lead(link: &Path, to: &Path) -> io::Result<()> {
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
        links(&folder, &mut names);
    }
    names
}

/// Adds those in `folder`.
fn links(folder: &Path, names: &mut BTreeSet<OsString>) {
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
        mend(&folder, names(), Path::new("/one/hgbuild")).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    fs::read_link(folder.join("gcc")).unwrap();
                }
            });
            for turn in 0..500 {
                let own = ["/one/hgbuild", "/two/hgbuild"][turn % 2];
                mend(&folder, names(), Path::new(own)).unwrap();
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
