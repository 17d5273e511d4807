//! Line markers in preprocessed text: which file a line is from, and which text is the
//! user's.

use std::borrow::Cow;

use memchr::memmem;

use crate::source::lex::{decode, line_of, string};

/// Folders whose headers come with the system and hide nothing in pieces.
const SYSTEM_FOLDERS: [&[u8]; 5] = [
    b"/usr/include/",
    b"/usr/lib/gcc/",
    b"/usr/lib/gcc-cross/",
    b"/usr/lib/llvm",
    b"/usr/lib/clang/",
];

/// `# 12 "path" flags` at the start of a line.
pub(super) struct Marker<'t> {
    /// Where the line starts, and where the next one does.
    pub(super) start: usize,
    pub(super) end: usize,
    /// As spelled: with the compiler's escapes.
    pub(super) path: &'t [u8],
    pub(super) enters: bool,
    pub(super) returns: bool,
}

pub(super) struct Markers<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Markers<'t> {
    pub(super) fn of(text: &'t [u8]) -> Self {
        Markers { text, at: 0 }
    }

    fn parse(&self, start: usize) -> Option<Marker<'t>> {
        let line = self.text.get(start..)?;
        let rest = line.strip_prefix(b"# ")?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let rest = rest[digits..].strip_prefix(b" \"")?;
        if digits == 0 {
            return None;
        }
        let (path, after) = string(rest)?;
        let flags = line_of(after);
        let flags_at = self.text.len() - after.len();
        Some(Marker {
            start,
            end: (flags_at + flags.len() + 1).min(self.text.len()),
            path,
            enters: flags.starts_with(b" 1"),
            returns: flags.starts_with(b" 2"),
        })
    }
}

impl<'t> Iterator for Markers<'t> {
    type Item = Marker<'t>;

    fn next(&mut self) -> Option<Marker<'t>> {
        while self.at < self.text.len() {
            let start = match self.at {
                0 if self.text.starts_with(b"# ") => 0,
                from => {
                    // A marker ends with its newline: step back onto it.
                    let from = from.saturating_sub(1);
                    from + memmem::find(&self.text[from..], b"\n# ")? + 1
                }
            };
            self.at = start + 2;
            if let Some(marker) = self.parse(start) {
                self.at = marker.end.max(self.at);
                return Some(marker);
            }
        }
        None
    }
}

pub(crate) fn is_system(path: &[u8]) -> bool {
    let path = normal(path);
    SYSTEM_FOLDERS.iter().any(|folder| path.starts_with(folder)) || is_of_a_target(&path)
}

/// Whether it is where a distribution has the headers of another machine than its own:
/// `/usr/aarch64-linux-gnu/include/...`.
fn is_of_a_target(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/usr/") else {
        return false;
    };
    let mut names = rest.split(|byte| *byte == b'/');
    let triple = names.next().unwrap_or_default();
    triple.contains(&b'-') && names.next() == Some(b"include")
}

/// Without `..` (clang spells `/usr/bin/../lib/gcc/...`).
fn normal(path: &[u8]) -> Cow<'_, [u8]> {
    if memmem::find(path, b"/..").is_none() {
        return Cow::Borrowed(path);
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b".." if parts.len() > 1 => {
                parts.pop();
            }
            b"." => {}
            part => parts.push(part),
        }
    }
    Cow::Owned(parts.join(&b'/'))
}

/// A marker's path without its escapes.
pub(super) fn unescape(path: &[u8]) -> Vec<u8> {
    if !path.contains(&b'\\') {
        return path.to_vec();
    }
    let mut plain = Vec::with_capacity(path.len());
    decode(path, &mut plain);
    plain
}

/// All of `text` that is not from the system's folders. If files are not left as they were
/// entered, the source fakes markers, and all of it is the user's.
/// (gcc 12 forgets to mark a short header now and then: its text then counts as
/// its includer's.)
pub fn user_text(text: &[u8]) -> Cow<'_, [u8]> {
    let mut user = Vec::new();
    // Path and whether it is the user's, of each file that is open.
    let mut open: Vec<(&[u8], bool)> = vec![(b"", true)];
    let mut is_user = true;
    let mut from = 0;
    for marker in Markers::of(text) {
        if is_user {
            user.extend_from_slice(&text[from..marker.start]);
        }
        from = marker.end;
        if marker.enters {
            open.push((marker.path, !is_system(marker.path)));
        } else if marker.returns {
            match open.iter().rposition(|(path, _)| *path == marker.path) {
                Some(at) => open.truncate(at + 1),
                None => return Cow::Borrowed(text),
            }
        } else {
            // A bare marker may come from the user's own #line: it renames the
            // file, and does not make it the system's.
            let outermost = open.len() == 1;
            if let Some((path, is_user)) = open.last_mut() {
                *path = marker.path;
                *is_user = if outermost {
                    marker.path != b"<built-in>"
                } else {
                    *is_user
                };
            }
        }
        is_user = open.last().is_none_or(|(_, is_user)| *is_user);
    }
    if open.len() > 1 {
        return Cow::Borrowed(text);
    }
    if is_user {
        user.extend_from_slice(&text[from..]);
    }
    Cow::Owned(user)
}

/// Whether a file of `text` ends in a backslash: in the text a line follows it.
pub(super) fn open_end(text: &[u8]) -> bool {
    memmem::find_iter(text, b"\\\n").any(|at| {
        let after = &text[at + 2..];
        after.is_empty() || after.starts_with(b"# ") || after.starts_with(b"#line ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_system() {
        for path in [
            "/usr/include/stdio.h",
            "/usr/bin/../lib/gcc/x86_64-linux-gnu/12/include/stddef.h",
            "/usr/lib/gcc-cross/aarch64-linux-gnu/12/../../../../aarch64-linux-gnu/include/c++/12/map",
            "/usr/x86_64-w64-mingw32/include/windows.h",
        ] {
            assert!(is_system(path.as_bytes()), "{path}");
        }
        for path in [
            "/usr/local/include/a.h",
            "/usr/src/include/a.h",
            "/usr/my-project/src/a.h",
            "/home/me/usr/include/a.h",
            "/usr/include/../../home/a.h",
        ] {
            assert!(!is_system(path.as_bytes()), "{path}");
        }
    }
}
