//! The compiler's own lists of the files it read: dependency rules, and clang's list of
//! headers. Pure. A list that is misread leads to names of files that don't exist, which the
//! caller takes for "unknown".

/// Files that the compiler itself says it read.
#[derive(Debug, Default, Clone)]
pub struct Listed {
    /// Paths as the compiler spells them.
    pub paths: Vec<Vec<u8>>,
    /// The compiler read no other files.
    pub complete: bool,
}

/// The prerequisites of the first rule of `text`; `complete`: system headers too.
pub fn from_rule(text: &[u8], complete: bool) -> Listed {
    // Nothing said is not the same as nothing read.
    let Some(mut at) = after_target(text) else {
        return Listed::default();
    };
    let mut paths = Vec::new();
    let mut path = Vec::new();
    while at < text.len() {
        let rest = &text[at..];
        let slashes = rest.iter().take_while(|byte| **byte == b'\\').count();
        match rest.get(slashes) {
            Some(b'\n') if slashes % 2 == 1 => {
                end(&mut path, &mut paths);
                at += slashes + 1;
            }
            // Before a blank, backslashes are doubled.
            Some(byte @ (b' ' | b'\t')) => {
                path.extend(std::iter::repeat_n(b'\\', slashes / 2));
                match slashes % 2 {
                    1 => path.push(*byte),
                    _ => end(&mut path, &mut paths),
                }
                at += slashes + 1;
            }
            Some(byte @ (b'#' | b':')) if slashes > 0 => {
                path.extend(std::iter::repeat_n(b'\\', slashes - 1));
                path.push(*byte);
                at += slashes + 1;
            }
            Some(b'\n') => {
                path.extend(std::iter::repeat_n(b'\\', slashes));
                break;
            }
            Some(byte) => {
                path.extend(std::iter::repeat_n(b'\\', slashes));
                path.push(*byte);
                let doubled = *byte == b'$' && rest.get(slashes + 1) == Some(&b'$');
                at += slashes + 1 + usize::from(doubled);
            }
            None => break,
        }
    }
    end(&mut path, &mut paths);
    Listed { paths, complete }
}

fn end(path: &mut Vec<u8>, paths: &mut Vec<Vec<u8>>) {
    if !path.is_empty() {
        paths.push(std::mem::take(path));
    }
}

fn after_target(text: &[u8]) -> Option<usize> {
    let ends = |at: &usize| matches!(text.get(at + 1), None | Some(b' ' | b'\n' | b'\\'));
    let escaped = |at: &usize| *at > 0 && text[at - 1] == b'\\';
    memchr::memchr_iter(b':', text)
        .find(|at| ends(at) && !escaped(at))
        .map(|at| at + 1)
}

/// The list that clang's `CC_PRINT_HEADERS` makes: a path on each line, after
/// dots for the depth in some versions. The source is not in it.
pub fn from_headers(text: &[u8], source: &[u8]) -> Listed {
    let mut paths = vec![source.to_vec()];
    for line in text.split(|byte| *byte == b'\n') {
        let dots = line.iter().take_while(|byte| **byte == b'.').count();
        let path = match line[dots..].strip_prefix(b" ") {
            Some(path) if dots > 0 => path,
            _ => line,
        };
        if !path.is_empty() {
            paths.push(path.to_vec());
        }
    }
    Listed {
        // Nothing said is not the same as nothing read; and a backslash is
        // escaped in some versions.
        complete: paths.len() > 1 && !text.contains(&b'\\'),
        paths,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Vec<String> {
        let listed = from_rule(text.as_bytes(), true);
        let name = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
        listed.paths.iter().map(name).collect()
    }

    #[test]
    fn rules() {
        assert_eq!(
            rule("a.o: a.c b.h \\\n /c/d.h\n\nb.h:\n"),
            ["a.c", "b.h", "/c/d.h"]
        );
        assert_eq!(rule("a.o: a.c\\\n b.h\n"), ["a.c", "b.h"]);
        assert_eq!(
            rule("x y.o: \\\n  with\\ blank.c d$$x \\#h c\\:d\n"),
            ["with blank.c", "d$x", "#h", "c:d"]
        );
        assert_eq!(rule("a.o:\n"), [""; 0]);
        assert_eq!(
            rule("a.o: back\\slash.c end\\\\\\ x\n"),
            ["back\\slash.c", "end\\ x"]
        );
        assert_eq!(rule("c:/a.o: a.c"), ["a.c"]);
        assert!(!from_rule(b"nonsense", true).complete);
        assert!(!from_rule(b"", true).complete);
        assert!(from_rule(b"a.o: a.c\n", true).complete);
    }

    #[test]
    fn headers() {
        let listed = from_headers(b". a.h\n.. /usr/include/b c.h\n", b"a.c");
        let all = [&b"a.c"[..], b"a.h", b"/usr/include/b c.h"];
        assert_eq!(listed.paths, all);
        assert!(listed.complete);
        let listed = from_headers(b"a.h\n/usr/include/b c.h\n", b"a.c");
        assert_eq!(listed.paths, all);
        assert!(!from_headers(b"", b"a.c").complete);
    }
}
