//! Paths of a task in the tree form at which something else than a compiler's
//! preprocessor would find its files: loaders, drivers and libc take code and options
//! from there. Pure.
//!
//! What they look for was found with `strace -f -e trace=%file` of gcc 11 and 12, g++,
//! clang 14 and 19 and clang++ in a locale with catalogues, with a character set to be
//! converted, for other targets, with sanitizers and with an assembler of its own, and on a
//! terminal.

/// Folders of which no task may have anything: settings of the machine.
const FOLDERS: [&[u8]; 1] = [b"/etc"];

/// Names of folders in which catalogues, character sets and libraries lie.
const FOLDER_NAMES: [&[u8]; 4] = [
    b"gconv",
    b"gconv-modules.d",
    b"glibc-hwcaps",
    b"LC_MESSAGES",
];

/// Names that are taken below a folder of [`SHARED`]: headers lie in folders of these names too.
const SHARED_NAMES: [&[u8]; 3] = [b"locale", b"locale-langpack", b"terminfo"];
/// What holds a system's data.
const SHARED: [&[u8]; 4] = [b"lib", b"lib64", b"lib32", b"share"];

/// gcc's options, in a file of this name.
pub const SPECS: &str = "specs";
/// clang's options, in files whose names end so.
pub const CONFIGURATION: &str = ".cfg";
/// Libraries that are loaded into every program.
pub const PRELOAD: &str = "/etc/ld.so.preload";

/// Names of files: gcc's options, lists of character sets and of locales.
const FILE_NAMES: [&[u8]; 4] = [
    SPECS.as_bytes(),
    b"gconv-modules",
    b"gconv-modules.cache",
    b"locale-archive",
];

/// Why a file at the plain `path` would be taken by others; `None`: it is for the
/// compiler alone.
pub fn taken_by_others(path: &[u8]) -> Option<&'static str> {
    let below = |folder: &&[u8]| {
        let rest = path.strip_prefix(*folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    if FOLDERS.iter().any(below) {
        return Some("a place for settings of the machine");
    }
    let mut names = path.rsplit(|byte| *byte == b'/');
    let name = names.next().unwrap_or_default();
    if name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.") {
        return Some("a name of a library");
    }
    if FILE_NAMES.contains(&name) || name.ends_with(b".mo") {
        return Some("a name that drivers and libc look for");
    }
    // The innermost first, each with the one that it lies in.
    let mut inner = name;
    for folder in names {
        let shared = SHARED.contains(&folder) && SHARED_NAMES.contains(&inner);
        if shared || FOLDER_NAMES.contains(&folder) {
            return Some("a place that libc looks into");
        }
        // clang's are beside it.
        if folder == b"bin" && inner == name && name.ends_with(CONFIGURATION.as_bytes()) {
            return Some("a place for options of a driver");
        }
        inner = folder;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_would_take() {
        for path in [
            "/etc",
            "/etc/ld.so.preload",
            "/etc/ld-musl-x86_64.path",
            "/etc/nsswitch.conf",
            "/usr/lib/gcc/x86_64-linux-gnu/12/specs",
            "/specs",
            "/usr/lib/llvm-14/bin/clang.cfg",
            "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules",
            "/x/gconv-modules.d/extra.conf",
            "/usr/share/locale/de/LC_MESSAGES/gcc.mo",
            "/usr/share/locale/locale.alias",
            "/usr/lib/locale/C.utf8/LC_CTYPE",
            "/x.mo",
            "/w/libevil.so",
            "/w/libevil.so.2",
            "/usr/lib/glibc-hwcaps/x86-64-v2/x",
            "/lib/terminfo/x/xterm",
        ] {
            assert!(taken_by_others(path.as_bytes()).is_some(), "{path}");
        }
        for path in [
            "/etcetera/a.h",
            "/home/me/etc/a.h",
            "/w/specs.h",
            "/w/specs/a.h",
            "/w/so.h",
            "/w/a.sol",
            "/w/options.cfg",
            "/w/bin/a.h",
            "/w/locale.h",
            "/usr/include/boost/locale/encoding.hpp",
            "/w/terminfo/a.h",
            "/w/bin/x/options.cfg",
            "/usr/include/x86_64-linux-gnu/bits/types/locale_t.h",
            "/usr/include/gconv.h",
            "/usr/include/locale.h",
            "/w/terminfo.c",
            "/w/a.mode",
        ] {
            assert_eq!(taken_by_others(path.as_bytes()), None, "{path}");
        }
    }
}
