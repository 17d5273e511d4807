//! What a path leads through: each link and folder on the way, as the kernel goes it.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Links on the way along one path, as the kernel's own bound.
const LINKS_MAX: usize = 40;

/// What is found at a path that itself has no links in it.
pub enum Step {
    /// A link, which leads to this.
    Link(PathBuf),
    /// A folder that is passed through.
    Through,
    /// A folder that the way leaves upwards again; `/` too.
    Up,
    /// The end of the way, which is no link.
    End(Metadata),
}

/// Goes along the absolute `path`, and tells `found` of each step where it is.
///
/// # Errors
/// Something on the way isn't there, there are too many links (`ELOOP`), or what `found`
/// says.
pub fn along(path: &Path, mut found: impl FnMut(&Path, Step) -> io::Result<()>) -> io::Result<()> {
    let mut links = 0;
    let mut left = names(path);
    let mut real = PathBuf::from("/");
    while let Some(name) = left.pop() {
        if name == ".." {
            found(&real, Step::Up)?;
            real.pop();
            continue;
        }
        let next = real.join(&name);
        let meta = fs::symlink_metadata(&next)?;
        if meta.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
            }
            let target = fs::read_link(&next)?;
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            left.extend(names(&target));
            found(&next, Step::Link(target))?;
            continue;
        }
        let step = match left.is_empty() {
            true => Step::End(meta),
            false => Step::Through,
        };
        found(&next, step)?;
        real = next;
    }
    Ok(())
}

/// A path's names from its last to its first.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The steps in `path`, as letters and the names they are found at.
    fn steps(path: &Path) -> io::Result<Vec<String>> {
        let mut steps = Vec::new();
        along(path, |at, step| {
            let letter = match step {
                Step::Link(_) => "link",
                Step::Through => "through",
                Step::Up => "up",
                Step::End(_) => "end",
            };
            let name = at.file_name().unwrap_or_default().to_string_lossy();
            steps.push(format!("{letter} {name}"));
            Ok(())
        })?;
        Ok(steps)
    }

    #[test]
    fn links_are_followed_and_folders_left_upwards_are_told() {
        let folder = std::env::temp_dir().join(format!("hg-way-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::create_dir_all(folder.join("lib")).unwrap();
        let root = fs::canonicalize(&folder).unwrap();
        fs::write(root.join("lib/cc1"), "").unwrap();
        symlink("../lib/cc1", root.join("bin/cc")).unwrap();
        symlink("loop", root.join("loop")).unwrap();

        let found = steps(&root.join("bin/cc")).unwrap();
        let end = ["through bin", "link cc", "up bin", "through lib", "end cc1"];
        assert_eq!(found[found.len() - end.len()..], end);
        let error = steps(&root.join("loop")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ELOOP));
        let error = steps(&root.join("lib/none")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&folder).unwrap();
    }
}
