//! The projects, and how each is configured and built. Upstream's sources, upstream's
//! build, upstream's flags; without what few machines have the libraries for.

/// The compilers that a project is built by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// gcc and g++.
    Gcc,
    /// clang and clang++.
    Clang,
}

impl Compiler {
    /// What CC and CXX are.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Compiler::Gcc => ("gcc", "g++"),
            Compiler::Clang => ("clang", "clang++"),
        }
    }
}

/// Its language, for the reader of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// C.
    C,
    /// C++.
    Cxx,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Project {
    /// As it is asked for.
    pub name: &'static str,
    /// Debian's source package.
    pub package: &'static str,
    /// Shell lines, each run at the top of the sources.
    pub configure: &'static [&'static str],
    /// What follows `make -jN`.
    pub build: &'static str,
    /// A shell line, after which all objects are made anew.
    pub clean: &'static str,
    /// What builds it.
    pub compiler: Compiler,
    /// What it is written in.
    pub language: Language,
    /// Takes too long to be built when it is not named.
    pub large: bool,
}

impl Project {
    const fn new(name: &'static str, configure: &'static [&'static str]) -> Project {
        Project {
            name,
            package: name,
            configure,
            build: "",
            clean: "make clean",
            compiler: Compiler::Gcc,
            language: Language::C,
            large: false,
        }
    }

    const fn package(self, package: &'static str) -> Project {
        Project { package, ..self }
    }

    const fn build(self, build: &'static str) -> Project {
        Project { build, ..self }
    }

    const fn clean(self, clean: &'static str) -> Project {
        Project { clean, ..self }
    }

    const fn clang(self) -> Project {
        Project {
            compiler: Compiler::Clang,
            ..self
        }
    }

    const fn cxx(self) -> Project {
        Project {
            language: Language::Cxx,
            ..self
        }
    }

    const fn large(self) -> Project {
        Project {
            large: true,
            ..self
        }
    }
}

/// All of them, the small ones first.
pub const PROJECTS: [Project; 29] = [
    Project::new("lua", &[])
        .package("lua5.4")
        .build("linux CC=gcc"),
    Project::new("lua-clang", &[])
        .package("lua5.4")
        .build("linux CC=clang")
        .clang(),
    Project::new("zlib", &["./configure --static"]),
    // Its configure script would have to be made first.
    Project::new(
        "expat",
        &["cmake -S expat -B out -DEXPAT_BUILD_DOCS=OFF -DEXPAT_BUILD_TESTS=OFF"],
    )
    .build("-C out")
    .clean("make -C out clean"),
    Project::new("libpng", &["./configure --disable-shared"]).package("libpng1.6"),
    Project::new("gzip", &["./configure"]),
    Project::new("sed", &["./configure --disable-nls"]),
    Project::new("grep", &["./configure --disable-nls"]),
    // The repository's state: automake and gettext have to be here.
    Project::new("make", &["autoreconf -fi", "./configure --disable-nls"]).package("make-dfsg"),
    Project::new("tar", &["./configure --disable-nls"]),
    Project::new("gawk", &["./configure --disable-nls"]),
    Project::new("xz", &["./configure --disable-nls"]).package("xz-utils"),
    Project::new("xz-clang", &["./configure --disable-nls --disable-shared"])
        .package("xz-utils")
        .clang(),
    Project::new("fmt", &["cmake -S . -B out -DFMT_DOC=OFF -DFMT_TEST=OFF"])
        .package("fmtlib")
        .build("-C out")
        .clean("make -C out clean")
        .cxx(),
    Project::new(
        "leveldb",
        &["cmake -S . -B out -DLEVELDB_BUILD_TESTS=OFF -DLEVELDB_BUILD_BENCHMARKS=OFF"],
    )
    .build("-C out")
    .clean("make -C out clean")
    .cxx(),
    Project::new("zstd", &[])
        .package("libzstd")
        .build("-C lib libzstd.a"),
    Project::new("sqlite", &["./configure --disable-tcl"]).package("sqlite3"),
    Project::new("bash", &["./configure --disable-nls"]),
    Project::new(
        "nginx",
        &["./configure --without-http_rewrite_module --without-http_gzip_module"],
    )
    // Its own takes the makefile away too.
    .clean("find objs -name '*.o' -delete"),
    Project::new("redis", &[])
        .build("MALLOC=libc")
        .clean("make distclean"),
    Project::new("curl", &["./configure --without-ssl --disable-shared"]),
    Project::new("busybox", &["make defconfig"]),
    Project::new("coreutils", &["./configure --disable-nls"]),
    Project::new("git", &[])
        .build("NO_CURL=1 NO_EXPAT=1 NO_GETTEXT=1 NO_TCLTK=1 NO_PERL=1 NO_PYTHON=1 NO_OPENSSL=1"),
    Project::new("python", &["./configure"])
        .package("python3.11")
        .build("libpython3.11.a"),
    Project::new(
        "openssl",
        &["./Configure linux-x86_64 no-asm no-shared no-tests"],
    )
    .build("build_libs"),
    Project::new("linux-tiny", &["make tinyconfig"])
        .package("linux")
        .build("vmlinux")
        .large(),
    Project::new(
        "ffmpeg",
        &["./configure --disable-x86asm --disable-doc --disable-programs"],
    )
    .large(),
    Project::new(
        "ffmpeg-clang",
        &["./configure --cc=clang --disable-x86asm --disable-doc --disable-programs"],
    )
    .package("ffmpeg")
    .clang()
    .large(),
];
