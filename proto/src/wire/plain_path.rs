//! Paths of the tree form of a task: absolute, and spelled in one way only. Pure;
//! knows nothing of links, so that whoever resolves a `..` here must know that
//! there are none.

/// Whether `path` is absolute and plain: `/a/b`, without `.`, `..`, empty parts
/// and NUL. `/` itself is none.
pub fn is_plain(path: &[u8]) -> bool {
    let part = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    let parts = path
        .strip_prefix(b"/")
        .map(|rest| rest.split(|b| *b == b'/'));
    parts.is_some_and(|mut parts| parts.all(part)) && !path.contains(&0)
}

/// The plain path of `path` as seen from `folder`, which is plain or `/`.
pub fn plain(folder: &[u8], path: &[u8]) -> Vec<u8> {
    let from = if path.starts_with(b"/") { b"" } else { folder };
    let mut plain = Vec::with_capacity(from.len() + path.len() + 2);
    for part in from.split(|b| *b == b'/').chain(path.split(|b| *b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => plain.truncate(plain.iter().rposition(|b| *b == b'/').unwrap_or(0)),
            part => {
                plain.push(b'/');
                plain.extend_from_slice(part);
            }
        }
    }
    if plain.is_empty() {
        plain.push(b'/');
    }
    plain
}

/// The first thing that is wrong with files and folders that are to lie beside each
/// other: as many as a task has, so that hashing each with the folders above it would
/// cost more than all else that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collision<'p> {
    /// Two files at one place.
    Twice(&'p [u8]),
    /// A file below another one.
    Below(&'p [u8]),
    /// A file in place of this folder, or of one that leads to it.
    Folder(&'p [u8]),
}

/// What collides among `files` and `folders`, each spelled in one way: plain, or the
/// same without the slash at its start.
pub fn collision<'p>(
    files: impl Iterator<Item = &'p [u8]>,
    folders: impl Iterator<Item = &'p [u8]>,
) -> Option<Collision<'p>> {
    let mut files: Vec<&[u8]> = files.collect();
    files.sort_unstable();
    if let Some(pair) = files.windows(2).find(|pair| pair[0] == pair[1]) {
        return Some(Collision::Twice(pair[0]));
    }
    let is_file = |path: &[u8]| files.binary_search(&path).is_ok();
    let is_below_file = |path: &[u8]| above(path).any(is_file);
    let mut folder = None;
    for file in &files {
        let own = above(file).next();
        // Most lie beside the one before.
        if own != folder && is_below_file(file) {
            return Some(Collision::Below(file));
        }
        folder = own;
    }
    let mut folders = folders.filter(|folder| is_file(folder) || is_below_file(folder));
    folders.next().map(Collision::Folder)
}

/// The folders that a path leads through, the innermost first.
pub fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().rev();
    let slashes = slashes.filter(|(at, byte)| **byte == b'/' && *at > 0);
    slashes.map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'p>(files: &[&'p str], folders: &[&'p str]) -> Option<Collision<'p>> {
        let bytes = |paths: &[&'p str]| -> Vec<&'p [u8]> {
            paths.iter().map(|path| path.as_bytes()).collect()
        };
        collision(bytes(files).into_iter(), bytes(folders).into_iter())
    }

    #[test]
    fn collisions() {
        let twice = found(&["/a/b", "/a", "/c", "/a/b"], &[]);
        assert_eq!(twice, Some(Collision::Twice(b"/a/b")));
        // What sorts between a folder and what is in it makes no difference.
        let below = found(&["/a/b", "/a/b-c", "/a/b.d/e", "/a/b/c"], &[]);
        assert_eq!(below, Some(Collision::Below(b"/a/b/c")));
        let below = found(&["a", "a.b/c", "a/x/y/z"], &[]);
        assert_eq!(below, Some(Collision::Below(b"a/x/y/z")));
        for folder in ["/a/b", "/a/b/c", "/a/b/c/d"] {
            let files = ["/a/b", "/a/c"];
            assert_eq!(
                found(&files, &["/a", folder]),
                Some(Collision::Folder(folder.as_bytes()))
            );
        }
        let files = ["/a/b", "/a/bc", "/a/b.c", "/a/c/d", "/a/c/e", "/ab/c"];
        assert_eq!(found(&files, &["/a", "/a/c", "/a/b-", "/x"]), None);
        assert_eq!(found(&["a", "b/c"], &["b", "c"]), None);
        assert_eq!(found(&[], &["/a"]), None);
    }

    #[test]
    fn collisions_are_those_of_every_pair() {
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let mut path = |slash: &str| -> String {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = seed >> 33;
                let part = |n: u64| ["a", "b", "a.", "a-b"][(n % 4) as usize];
                let parts = (0..=number % 3).map(|at| part(number >> (2 + 2 * at)));
                format!("{slash}{}", parts.collect::<Vec<_>>().join("/"))
            };
            let files = [path("/"), path("/"), path("/"), path("/")];
            let folders = [path("/"), path("/")];
            let leads = |from: &str, to: &str| to.starts_with(&format!("{from}/"));
            let pairs = |bad: &dyn Fn(usize, usize) -> bool| {
                (0..4).any(|a| (0..4).any(|b| a != b && bad(a, b)))
            };
            let twice = pairs(&|a, b| files[a] == files[b]);
            let below = pairs(&|a, b| leads(&files[a], &files[b]));
            let in_place = |file: &String| {
                folders
                    .iter()
                    .any(|folder| folder == file || leads(file, folder))
            };
            let folder = files.iter().any(in_place);
            let collision = found(
                &files.each_ref().map(|f| &f[..]),
                &folders.each_ref().map(|f| &f[..]),
            );
            let expected = match (twice, below, folder) {
                (true, _, _) => matches!(collision, Some(Collision::Twice(_))),
                (_, true, _) => matches!(collision, Some(Collision::Below(_))),
                (_, _, true) => matches!(collision, Some(Collision::Folder(_))),
                _ => collision.is_none(),
            };
            assert!(expected, "{files:?} {folders:?}: {collision:?}");
        }
    }

    #[test]
    fn one_spelling() {
        for (path, plain_path) in [
            ("a.c", "/w/x/a.c"),
            ("./b//a.c", "/w/x/b/a.c"),
            ("../a.c", "/w/a.c"),
            ("b/../../c/.", "/w/c"),
            ("/usr/bin/../lib/x", "/usr/lib/x"),
            ("../../../..", "/"),
            (".", "/w/x"),
        ] {
            let found = plain(b"/w/x", path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), plain_path, "{path}");
            assert!(is_plain(&found) || found == b"/");
        }
        assert_eq!(plain(b"/", b"a"), b"/a");
        for odd in ["", "/", "a", "/a/", "//a", "/a/./b", "/a/..", "/a\0"] {
            assert!(!is_plain(odd.as_bytes()), "{odd}");
        }
    }
}
