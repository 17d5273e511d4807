//! The language of sequences: files, a command, and steps that edit the world and
//! build in it. Unaware of how they are run.

/// Both C compilers.
pub const C: &[&str] = &["gcc", "clang"];
/// Both C++ compilers.
pub const CXX: &[&str] = &["g++", "clang++"];
/// gcc.
pub const GCC: &[&str] = &["gcc"];
/// clang.
pub const CLANG: &[&str] = &["clang"];

/// Files that every case has.
pub const FILES: &[(&str, &str)] = &[
    ("a.c", "#include \"a.h\"\nint f(void) { return A; }\n"),
    (
        "a.cc",
        "#include \"a.h\"\nnamespace n { template <class T> T id(T x) { return x; } }\nint f() { return n::id(A); }\n",
    ),
    ("a.h", "#define A 1\n"),
];

/// One step. Paths are relative to the case's folder. After an edit come the
/// builds: the plain compiler once, then hgbuild twice, and all three must be the
/// same in every respect.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Build: it succeeds, and hgbuild's second run is a hit.
    Hit,
    /// As `Hit`, and the plain result is not that of the build before.
    New,
    /// As `Hit`, and the first run is a hit too.
    First,
    /// Build: it succeeds, and neither run is a hit.
    Bypass,
    /// As `Bypass`, and the plain result is not that of the build before.
    NewBypass,
    /// Build: it fails, and neither run is a hit.
    Fails,
    /// Build: whatever, as long as it is the same.
    Any,
    /// As `Any`, and the plain result is not that of the build before.
    NewAny,
    /// As `Any`, and hgbuild may say one line of its own on stderr.
    Warned,
    /// Writes a file in place, in folders that are made.
    Write(&'static str, &'static str),
    /// As `Write`, and gives it the mtime that it had.
    Stealth(&'static str, &'static str),
    /// As `Write`, by a new file that is renamed over the old one.
    Replace(&'static str, &'static str),
    /// As `Replace`, with an mtime of years ago.
    Old(&'static str, &'static str),
    /// A new mtime, nothing else.
    Touch(&'static str),
    /// Removes a file, a link or a whole folder.
    Remove(&'static str),
    /// From, to.
    Rename(&'static str, &'static str),
    /// What a symbolic link says, and where it is; an old one goes.
    Link(&'static str, &'static str),
    /// A variable of the environment.
    Env(&'static str, &'static str),
    /// A variable less.
    Unset(&'static str),
    /// Another command, for sh: `$cc` is the compiler, with or without hgbuild.
    Run(&'static str),
    /// For sh, before each single run; what it says is not compared.
    Before(&'static str),
    /// For sh, once: `$CACHE` is the cache's folder.
    Sh(&'static str),
}

impl Step {
    /// Whether it says where the cache is, what may be in it, or alters it.
    pub fn is_about_the_cache(&self) -> bool {
        match self {
            Step::Env(name, _) => name.starts_with("HG_"),
            Step::Sh(script) | Step::Before(script) => script.contains("$CACHE"),
            _ => false,
        }
    }
}

/// A sequence.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// For messages.
    pub name: &'static str,
    /// Each is a case of its own.
    pub compilers: &'static [&'static str],
    /// The first command; see [`Step::Run`].
    pub script: &'static str,
    /// Beside [`FILES`], or instead of them.
    pub files: &'static [(&'static str, &'static str)],
    /// In order.
    pub steps: &'static [Step],
    /// Files whose content differs from one plain run to the next.
    pub unequal: &'static [&'static str],
}

/// A case without surprises in its files.
pub const fn case(
    name: &'static str,
    compilers: &'static [&'static str],
    script: &'static str,
    files: &'static [(&'static str, &'static str)],
    steps: &'static [Step],
) -> Case {
    Case {
        name,
        compilers,
        script,
        files,
        steps,
        unequal: &[],
    }
}

impl Case {
    /// What it runs by name behind hgbuild, beside its compiler.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> {
        let runs = self.steps.iter().filter_map(|step| match step {
            Step::Run(script) => Some(*script),
            _ => None,
        });
        let scripts = std::iter::once(self.script).chain(runs);
        scripts.flat_map(|script| {
            let behind = script.split("${hg}").skip(1);
            behind.filter_map(|words| words.split(' ').next())
        })
    }

    /// Only these files' presence and mode count.
    pub const fn unequal(mut self, names: &'static [&'static str]) -> Case {
        self.unequal = names;
        self
    }
}
