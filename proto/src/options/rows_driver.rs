//! Options that say what is to be done: stages, files, languages, dependency
//! files, preprocessing, linking; and those that only the driver sees.

use crate::options::row::{File, Role, Row, either, flag, joined, pair, separate, toggle};

pub(crate) const ROWS: &[Row] = &[
    // What to do.
    flag("-c").role(Role::Stage),
    flag("-S").role(Role::Stage),
    flag("-E").never("preprocess-only"),
    flag("-fsyntax-only").never("syntax-only"),
    either("-o", "x.o").role(Role::Output).names(File::Output),
    either("-x", "c").role(Role::Language),
    flag("-###").never("not-a-compile"),
    flag("--version").never("not-a-compile"),
    flag("-version").never("not-a-compile"),
    flag("--help").never("not-a-compile"),
    joined("--help=", "common").never("not-a-compile"),
    flag("--help-hidden").clang().never("not-a-compile"),
    flag("-help").clang().never("not-a-compile"),
    flag("--target-help").gcc().never("not-a-compile"),
    flag("-dumpmachine").never("not-a-compile"),
    flag("-dumpversion").never("not-a-compile"),
    flag("-dumpfullversion").gcc().never("not-a-compile"),
    flag("-dumpspecs").gcc().never("not-a-compile"),
    joined("-print-", "search-dirs").never("not-a-compile"),
    joined("--print-", "search-dirs").never("not-a-compile"),
    flag("-emit-ast").clang().never("not-a-compile"),
    flag("--precompile").clang().never("modules"),
    flag("--analyze").clang().never("not-a-compile"),
    flag("-emit-llvm").clang().tree_only("emit-llvm"),
    joined("-ccc-", "print-phases")
        .clang()
        .never("driver-option"),
    flag("-cc1").clang().never("clang-cc1-option"),
    flag("-cc1as").clang().never("clang-cc1-option"),
    // The driver's own.
    joined("-obj", "ect").never("language"),
    joined("-Obj", "C").never("language"),
    flag("-pipe").role(Role::Driver),
    flag("-v").never("driver-option"),
    flag("--verbose").never("driver-option"),
    flag("-time").never("driver-option"),
    joined("-time=", "x")
        .gcc()
        .never("driver-option")
        .names(File::Output),
    flag("-pass-exit-codes").gcc().never("driver-option"),
    separate("-wrapper", "x").gcc().never("driver-option"),
    either("-B", "x")
        .never("driver-option")
        .names(File::InputDir),
    flag("-no-integrated-cpp").gcc().never("driver-option"),
    separate("-dumpbase", "x").gcc().never("driver-option"),
    separate("-dumpbase-ext", "x").gcc().never("driver-option"),
    separate("-dumpdir", "x")
        .gcc()
        .never("driver-option")
        .names(File::Output),
    flag("-save-temps").writes("save-temps"),
    flag("-save-temps=obj").writes("save-temps"),
    flag("-save-temps=cwd").writes("save-temps"),
    joined("-save-temps=", "x").never("save-temps"),
    flag("--save-temps").writes("save-temps"),
    flag("-save-stats").clang().never("extra-output"),
    joined("-save-stats=", "obj").clang().never("extra-output"),
    joined("-specs=", "x").never("specs").names(File::Input),
    joined("--specs=", "x").never("specs").names(File::Input),
    separate("-specs", "x")
        .gcc()
        .never("specs")
        .names(File::Input),
    separate("--config", "x")
        .clang()
        .never("config")
        .names(File::Input),
    joined("--config=", "x")
        .clang()
        .never("config")
        .names(File::Input),
    joined("--config-", "user-dir=x")
        .clang()
        .never("config")
        .names(File::InputDir),
    joined("--driver-mode=", "g++")
        .clang()
        .never("driver-option"),
    joined("--rsp-quoting=", "posix")
        .clang()
        .never("driver-option"),
    separate("-arch", "x86_64").never("several-archs"),
    separate("-b", "x").clang().never("driver-option"),
    flag("-canonical-prefixes").role(Role::Preprocess),
    flag("-no-canonical-prefixes").role(Role::Preprocess),
    flag("-Qunused-arguments").clang().role(Role::Driver),
    flag("--start-no-unused-arguments")
        .clang()
        .never("driver-option"),
    flag("--end-no-unused-arguments")
        .clang()
        .never("driver-option"),
    either("-working-directory", "x")
        .clang()
        .never("driver-option"),
    separate("-aux-info", "x").gcc().reports(),
    joined("-aux-info=", "x")
        .gcc()
        .never("extra-output")
        .names(File::Output),
    separate("--serialize-diagnostics", "x").clang().reports(),
    separate("-serialize-diagnostics", "x").clang().reports(),
    // It goes to the end of a file that others write to as well.
    either("-MJ", "x")
        .clang()
        .never("extra-output")
        .names(File::Output),
    separate("-gen-cdb-fragment-path", "x")
        .clang()
        .never("extra-output")
        .names(File::Output),
    flag("-gen-reproducer").clang().never("extra-output"),
    separate("-target", "x86_64-linux-gnu").clang(),
    joined("--target=", "x86_64-linux-gnu").clang(),
    joined("--gcc-toolchain=", "/usr")
        .clang()
        .role(Role::Preprocess)
        .names(File::InputDir),
    separate("-ccc-gcc-name", "x")
        .clang()
        .never("driver-option"),
    // Dependency files.
    flag("-MD").role(Role::Dependency),
    flag("-MMD").role(Role::Dependency),
    flag("-MP").role(Role::Dependency),
    either("-MF", "x.d")
        .role(Role::Dependency)
        .names(File::Output),
    either("-MT", "x.o").role(Role::Dependency),
    either("-MQ", "x.o").role(Role::Dependency),
    joined("-Wp,-MD,", "x.d")
        .role(Role::Dependency)
        .names(File::Output),
    joined("-Wp,-MMD,", "x.d")
        .role(Role::Dependency)
        .names(File::Output),
    flag("-M").never("dependencies-only"),
    flag("-MM").never("dependencies-only"),
    flag("-MG").never("dependency-option"),
    flag("-MV").clang().never("dependency-option"),
    flag("-Mmodules").gcc().never("modules"),
    flag("-Mno-modules").gcc().never("modules"),
    separate("-dependency-file", "x")
        .clang()
        .never("dependency-option"),
    // Macros and headers.
    either("-D", "NAME=1").role(Role::Define),
    either("-U", "NAME").role(Role::Define),
    joined("-Wp,-D", "NAME=1").role(Role::Define).macros(),
    joined("-Wp,-U", "NAME").role(Role::Define).macros(),
    either("-I", "include")
        .role(Role::Preprocess)
        .names(File::InputDir),
    flag("-I-").never("preprocessor-option"),
    either("-include", "stdio.h")
        .role(Role::Preprocess)
        .names(File::Input),
    either("-imacros", "stdio.h")
        .gcc()
        .role(Role::Preprocess)
        .names(File::Input),
    either("-imacros", "stdio.h")
        .clang()
        .role(Role::Preprocess)
        .tree_only("preprocessor-option")
        .names(File::Input),
    either("-include-pch", "x")
        .clang()
        .never("pch")
        .names(File::Input),
    either("-isystem", "include")
        .role(Role::Preprocess)
        .names(File::InputDir),
    either("-isystem-after", "include")
        .clang()
        .local("preprocessor-option")
        .names(File::InputDir),
    either("-iquote", "include")
        .role(Role::Preprocess)
        .names(File::InputDir),
    either("-idirafter", "include")
        .role(Role::Preprocess)
        .names(File::InputDir),
    either("-iprefix", "include")
        .role(Role::Preprocess)
        .names(File::InputDir),
    either("-iwithprefix", "include")
        .role(Role::Preprocess)
        .names(File::InputDir),
    either("-iwithprefixbefore", "include")
        .role(Role::Preprocess)
        .names(File::InputDir),
    either("-isysroot", "/")
        .role(Role::Preprocess)
        .names(File::InputDir),
    joined("--sysroot=", "/")
        .role(Role::Preprocess)
        .names(File::InputDir),
    separate("--sysroot", "/")
        .role(Role::Preprocess)
        .names(File::InputDir),
    either("-imultilib", "x").gcc().never("preprocessor-option"),
    either("-imultiarch", "x")
        .gcc()
        .never("preprocessor-option"),
    separate("-cxx-isystem", "include")
        .clang()
        .role(Role::Preprocess)
        .names(File::InputDir),
    separate("-stdlib++-isystem", "include")
        .clang()
        .local("preprocessor-option")
        .names(File::InputDir),
    separate("-resource-dir", "x")
        .clang()
        .never("driver-option")
        .names(File::InputDir),
    joined("-resource-dir=", "x")
        .clang()
        .never("driver-option")
        .names(File::InputDir),
    separate("-ivfsoverlay", "x")
        .clang()
        .never("preprocessor-option")
        .names(File::Input),
    flag("-nostdinc").role(Role::Preprocess),
    flag("-nostdinc++").role(Role::Preprocess),
    flag("-nobuiltininc").clang().role(Role::Preprocess),
    joined("-stdlib=", "libstdc++").clang(),
    flag("-undef").never("preprocessor-option"),
    flag("-remap").gcc().never("preprocessor-option"),
    either("-A", "x=y").never("preprocessor-option"),
    flag("-C").never("preprocessor-option"),
    flag("-CC").never("preprocessor-option"),
    flag("-P").never("preprocessor-option"),
    flag("-H").never("preprocessor-option"),
    joined("-d", "D").never("dump"),
    flag("-traditional-cpp").never("preprocessor-option"),
    flag("-traditional").never("preprocessor-option"),
    joined("-Wp,", "-P").never("preprocessor-option"),
    separate("-Xpreprocessor", "-P").never("preprocessor-option"),
    toggle("-fdirectives-only").never("preprocessed-source"),
    toggle("-fpreprocessed")
        .gcc()
        .tree_only("preprocessed-source"),
    toggle("-fpreprocessed")
        .clang()
        .never("preprocessed-source"),
    flag("-frewrite-includes")
        .clang()
        .never("preprocessor-option"),
    toggle("-fcanonical-system-headers")
        .gcc()
        .role(Role::Preprocess),
    toggle("-fworking-directory")
        .gcc()
        .never("preprocessor-option"),
    flag("-fpch-deps").gcc().never("pch"),
    flag("-fpch-preprocess").gcc().never("pch"),
    joined("-finput-charset=", "latin1").never("charset"),
    joined("-fmax-include-depth=", "100")
        .gcc()
        .role(Role::Preprocess),
    flag("-fdebug-cpp").gcc().never("dump"),
    joined("--system-header-prefix=", "x")
        .clang()
        .never("preprocessor-option"),
    joined("--no-system-header-prefix=", "x")
        .clang()
        .never("preprocessor-option"),
    // The assembler.
    flag("-Wa,--noexecstack"),
    flag("-Wa,--execstack"),
    flag("-Wa,--fatal-warnings"),
    flag("-Wa,--no-warn").gcc(),
    flag("-Wa,-W").gcc(),
    flag("-Wa,--64").gcc(),
    flag("-Wa,--32").gcc(),
    flag("-Wa,--compress-debug-sections"),
    flag("-Wa,--nocompress-debug-sections"),
    flag("-Wa,--generate-missing-build-notes=yes").gcc(),
    flag("-Wa,--generate-missing-build-notes=no").gcc(),
    flag("-Wa,-mrelax-relocations=yes"),
    flag("-Wa,-mrelax-relocations=no"),
    flag("-Wa,-mbranches-within-32B-boundaries").gcc(),
    flag("-Wa,--keep-locals").gcc(),
    flag("-Wa,-L").gcc(),
    flag("-Wa,--no-pad-sections").gcc(),
    joined("-Wa,-march=", "i686").gcc().word(),
    joined("-Wa,-mcpu=", "cortex-a7").gcc().word(),
    joined("-Wa,-mtune=", "generic32").gcc().word(),
    joined("-Wa,-mfpu=", "neon").gcc().word(),
    joined("-Wa,-mx86-used-note=", "no").gcc().word(),
    joined("-Wa,", "-a").never("assembler-option"),
    separate("-Xassembler", "-a").never("assembler-option"),
    // The linker.
    flag("-lang-asm").gcc().never("driver-option"),
    joined("-lazy", "_library").clang().never("driver-option"),
    either("-l", "m").role(Role::Link),
    either("-L", ".").role(Role::Link).names(File::InputDir),
    joined("-Wl,", "-O1").role(Role::Link),
    separate("-Xlinker", "-O1").role(Role::Link),
    flag("-static").role(Role::Link),
    flag("-shared").role(Role::Link),
    flag("-rdynamic").role(Role::Link),
    flag("-pie").role(Role::Link),
    flag("-no-pie").role(Role::Link),
    flag("-s").role(Role::Link),
    flag("-nostdlib").role(Role::Link),
    flag("-nostdlib++").clang().role(Role::Link),
    flag("-nodefaultlibs").role(Role::Link),
    flag("-nostartfiles").role(Role::Link),
    flag("-static-libgcc").role(Role::Link),
    flag("-static-libstdc++").role(Role::Link),
    flag("-shared-libgcc").gcc().role(Role::Link),
    joined("-fuse-ld=", "bfd").role(Role::Link),
    joined("-rtlib=", "libgcc").clang().role(Role::Link),
    joined("--rtlib=", "libgcc").clang().role(Role::Link),
    joined("-unwindlib=", "libgcc").clang().role(Role::Link),
    joined("--unwindlib=", "libgcc").clang().role(Role::Link),
    separate("-T", "x")
        .gcc()
        .role(Role::Link)
        .names(File::Input),
    separate("-u", "x").role(Role::Link),
    separate("-z", "now").role(Role::Link),
    toggle("-fuse-linker-plugin").gcc().role(Role::Link),
    // Programs in the compiler.
    joined("-fplugin=", "x.so")
        .never("plugin")
        .names(File::Input),
    joined("-fplugin-arg-", "x-y=z").never("plugin"),
    joined("-fpass-plugin=", "x.so")
        .clang()
        .never("plugin")
        .names(File::Input),
    joined("-iplugindir=", "x")
        .gcc()
        .never("plugin")
        .names(File::InputDir),
    separate("-Xclang", "-load")
        .clang()
        .never("clang-cc1-option"),
    pair("-Xclang -fno-pch-timestamp").clang(),
    pair("-Xclang -fcolor-diagnostics").clang(),
    pair("-mllvm -instcombine-lower-dbg-declare=0").clang(),
    pair("-mllvm -split-threshold-for-reg-with-hint=0").clang(),
    separate("-mllvm", "-x").clang().never("clang-cc1-option"),
    separate("-Xanalyzer", "x")
        .clang()
        .never("clang-cc1-option"),
    separate("-Xarch_host", "x")
        .clang()
        .never("clang-cc1-option"),
    separate("-Xarch_device", "x")
        .clang()
        .never("clang-cc1-option"),
];
