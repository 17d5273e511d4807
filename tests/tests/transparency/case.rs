//! What a case is: files, a command, and where the compiles in it should run.
//! Unaware of how it is run.

/// gcc.
pub const GCC: &[&str] = &["gcc"];
/// g++.
pub const GXX: &[&str] = &["g++"];
/// clang.
pub const CLANG: &[&str] = &["clang"];
/// clang++.
pub const CLANGXX: &[&str] = &["clang++"];
/// gcc and g++.
pub const GNU: &[&str] = &["gcc", "g++"];
/// clang and clang++.
pub const LLVM: &[&str] = &["clang", "clang++"];
/// Both C compilers.
pub const C: &[&str] = &["gcc", "clang"];
/// Both C++ compilers.
pub const CXX: &[&str] = &["g++", "clang++"];
/// One driver of each kind and family.
pub const BOTH: &[&str] = &["gcc", "clang++"];
/// All four.
pub const ALL: &[&str] = &["gcc", "g++", "clang", "clang++"];

/// Files that every case has.
pub const FILES: &[(&str, &str)] = &[
    (
        "a.h",
        "#ifndef A_H\n#define A_H\n#include <stddef.h>\n#define SQUARE(x) ((x) * (x))\nint add(int a, int b);\n#endif\n",
    ),
    (
        "a.c",
        "#include \"a.h\"\n#include <string.h>\nint add(int a, int b) { return SQUARE(a) + b; }\nsize_t len(const char *s) { return strlen(s) + 1; }\n",
    ),
    (
        "a.cc",
        "#include \"a.h\"\n#include <cstring>\nnamespace n { template <class T> T twice(T x) { return x + x; } struct S { virtual ~S() {} int v = 1; }; }\nint add(int a, int b) { n::S s; return n::twice(a) + SQUARE(b) + s.v; }\n",
    ),
    (
        "w.c",
        "int f(int a)\n{\n\tint unused;\n\tif (a = 1) return 2;\n\treturn \"text\" == 0;\n}\n",
    ),
    (
        "e.c",
        "struct s { int a; };\nint f(struct s *s)\n{\n\treturn s->b + undeclared;\n}\n",
    ),
    (
        "sub/b.c",
        "#include \"../a.h\"\n#include \"c.h\"\nint b(void) { return SQUARE(C); }\n",
    ),
    ("sub/c.h", "#pragma once\n#define C 7\n"),
    ("inc/i.h", "#define I 41\n"),
    ("i.c", "#include <i.h>\nint i = I;\n"),
];

/// Compiles to be compared with and without hgbuild.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// For messages.
    pub name: &'static str,
    /// Each is a case of its own.
    pub compilers: &'static [&'static str],
    /// Where each invocation of hgbuild should compile, in order: `remote`, or
    /// the code of the reason why not; `any`. `*` alone: whatever. Before a `|`
    /// for gcc and g++, after it for clang and clang++.
    pub expect: &'static str,
    /// For sh: `$cc` is the compiler, `$hg` is hgbuild or nothing, `$src` is `a.c` or `a.cc`.
    pub script: &'static str,
    /// Beside [`FILES`].
    pub files: &'static [(&'static str, &'static str)],
    /// For sh, before the script; what it says is not compared.
    pub setup: &'static str,
    /// Files whose content differs from one plain run to the next.
    pub unequal: &'static [&'static str],
    /// Sources are `.c` for C++ compilers too.
    pub keeps_names: bool,
    /// hgbuild adds its own lines to stderr, which start with its name.
    pub build: bool,
}

/// A case with nothing special.
pub const fn case(
    name: &'static str,
    compilers: &'static [&'static str],
    expect: &'static str,
    script: &'static str,
) -> Case {
    Case {
        name,
        compilers,
        expect,
        script,
        files: &[],
        setup: "",
        unequal: &[],
        keeps_names: false,
        build: false,
    }
}

impl Case {
    /// More files.
    pub const fn with(mut self, files: &'static [(&'static str, &'static str)]) -> Case {
        self.files = files;
        self
    }

    /// Commands that go before.
    pub const fn after(mut self, setup: &'static str) -> Case {
        self.setup = setup;
        self
    }

    /// Only these files' presence and mode count.
    pub const fn unequal(mut self, names: &'static [&'static str]) -> Case {
        self.unequal = names;
        self
    }

    /// Sources are `.c` for C++ compilers too.
    pub const fn keeps_names(mut self) -> Case {
        self.keeps_names = true;
        self
    }

    /// A build command behind `$hg`.
    pub const fn build(mut self) -> Case {
        self.build = true;
        self
    }

    /// The part of the expectation that counts for `compiler`.
    pub fn expectation(&self, compiler: &str) -> &'static str {
        match self.expect.split_once('|') {
            None => self.expect,
            Some((_, clang)) if compiler.starts_with("clang") => clang,
            Some((gcc, _)) => gcc,
        }
    }
}
