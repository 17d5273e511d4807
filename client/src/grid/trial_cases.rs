//! What toolchains are tried with: sources, and the options that each is compiled with. And
//! which options a compile may have that goes where these have shown equality: what was
//! tried, and what chooses no code. Pure.

/// What C compilers are tried with: its name, and its text. Of headers there are the
/// compiler's own alone: a cross compiler may lack others.
pub const C: [(&str, &str); 4] = [
    ("integers.c", include_str!("../../trials/integers.c")),
    ("floats.c", include_str!("../../trials/floats.c")),
    ("loops.c", include_str!("../../trials/loops.c")),
    ("system.c", include_str!("../../trials/system.c")),
];
/// What C++ compilers are tried with. The second may not compile: it needs the library.
pub const CXX: [(&str, &str); 2] = [
    ("objects.cc", include_str!("../../trials/objects.cc")),
    (LIBRARY, include_str!("../../trials/library.cc")),
];
/// The source that needs a library.
pub const LIBRARY: &str = "library.cc";
/// The options that each source is compiled with.
pub const OPTIONS: [&[&str]; 8] = [
    &["-O2"],
    &["-O0"],
    &["-O1", "-fPIC", "-fstack-protector"],
    &["-O3", "-ffast-math", "-funroll-loops"],
    &[
        "-Os",
        "-fPIE",
        "-fno-common",
        "-ffunction-sections",
        "-fdata-sections",
    ],
    &[
        "-O2",
        "-fPIC",
        "-fstack-protector-strong",
        "-fno-plt",
        "-fvisibility=hidden",
    ],
    &[
        "-O2",
        "-fno-pie",
        "-fomit-frame-pointer",
        "-fno-strict-aliasing",
        "-fwrapv",
    ],
    &[
        "-O3",
        "-fno-omit-frame-pointer",
        "-fno-math-errno",
        "-fno-builtin",
        "-fno-stack-protector",
        "-fno-asynchronous-unwind-tables",
    ],
];
/// And this, which the tree form alone can carry.
pub const WITH_DEBUG_INFO: &[&str] = &["-O2", "-g"];

/// Options by their whole word that [`OPTIONS`] do not have, and that choose no other code or
/// the code of one that they have.
const WORDS: [&str; 26] = [
    "-c",
    "-S",
    "-O",
    "-g0",
    "-g2",
    "-gdwarf-4",
    "-gdwarf-5",
    "-w",
    "-ansi",
    "-pipe",
    "-pthread",
    "-m64",
    "-P",
    "-C",
    "-fpic",
    "-fpie",
    "-fno-PIE",
    "-fno-pic",
    "-fno-PIC",
    "-fcommon",
    "-fstrict-aliasing",
    "-fexceptions",
    "-fno-ident",
    "-fasynchronous-unwind-tables",
    "-ffreestanding",
    "-Qunused-arguments",
];
/// Options by their start that choose no code.
const STARTS: [&str; 22] = [
    "-D",
    "-U",
    "-I",
    "-iquote",
    "-isystem",
    "-idirafter",
    "-include",
    "-imacros",
    "-M",
    "-o",
    "-W",
    "-pedantic",
    "-std=",
    "-x",
    "-fdiagnostics-",
    "-fno-diagnostics-",
    "-fcolor-diagnostics",
    "-fno-color-diagnostics",
    "-fmessage-length=",
    "-fdebug-prefix-map=",
    "-ffile-prefix-map=",
    "-fmacro-prefix-map=",
];
/// Starts among these that do choose something.
const EXCEPT: [&str; 3] = ["-Wa,", "-Wp,", "-Wl,"];

/// Whether a compile with an option, as the table spells it or as it was typed, may go where
/// equality was tried.
pub fn covers(word: &[u8]) -> bool {
    let Ok(word) = std::str::from_utf8(word) else {
        return false;
    };
    let tried = OPTIONS.iter().chain([&WITH_DEBUG_INFO]);
    let is_tried = tried
        .flat_map(|options| options.iter())
        .any(|option| *option == word);
    let is_harmless = STARTS.iter().any(|start| word.starts_with(start))
        && !EXCEPT.iter().any(|start| word.starts_with(start));
    is_tried || WORDS.contains(&word) || is_harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_covered_and_what_was_not_is_not() {
        for word in [
            "-O2",
            "-g",
            "-fPIC",
            "-DX=1",
            "-Wall",
            "-std=gnu11",
            "-MD",
            "-o",
            "-include",
            "-fvisibility=hidden",
        ] {
            assert!(covers(word.as_bytes()), "{word}");
        }
        for word in [
            "-flto",
            "-fsanitize=address",
            "-fprofile-use=x",
            "-fopenmp",
            "-m32",
            "-mavx2",
            "-Wa,-q",
            "-fvisibility=internal",
            "-ftrivial-auto-var-init=zero",
            "-Ofast",
            "-g3",
            "-fcf-protection",
        ] {
            assert!(!covers(word.as_bytes()), "{word}");
        }
    }
}
