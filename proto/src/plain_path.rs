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

#[cfg(test)]
mod tests {
    use super::*;

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
