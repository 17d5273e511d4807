//! Wrappers in front of compilers, and builds in front of both.

use crate::case::{C, CLANG, CXX, Case, GCC, GNU, GXX, case};

const MAKEFILE: &str = "OBJS = a.o w.o b.o\nall: $(OBJS)\na.o: a.c a.h\n\tgcc -O2 -c a.c -o a.o\nw.o: w.c\n\tcc -c w.c -o w.o\nb.o: sub/b.c\n\t$(CC) -c sub/b.c -o b.o\n";
const NINJA: &str = "rule cc\n  command = gcc -MMD -MF $out.d -c $in -o $out\n  depfile = $out.d\n  deps = gcc\nbuild a.o: cc a.c\nbuild b.o: cc sub/b.c\n";
const CMAKE: &str =
    "cmake_minimum_required(VERSION 3.10)\nproject(p C)\nadd_library(p STATIC a.c sub/b.c)\n";

/// Whatever stands between the user and the compiler.
pub const CASES: &[Case] = &[
    // Other ways to a compiler.
    case("compiler by its path", C, "remote", "$hg /usr/bin/$CX -c a.c"),
    case("compiler by a version", C, "remote", "v=$($CX -dumpversion | cut -d. -f1); $hg $CX-$v -c a.c"),
    case("compiler by a triple", GNU, "remote", "$hg $($CX -dumpmachine)-$CX -c a.c"),
    case("cc", GCC, "remote", "$hg cc -c a.c"),
    case("c++", GXX, "remote", "$hg c++ -c a.cc"),
    case("HG_CC", GCC, "remote", "if [ \"$hg\" ]; then HG_CC=clang $hg cc -c a.c; else clang -c a.c; fi"),
    case("HG_CXX", GXX, "remote", "if [ \"$hg\" ]; then HG_CXX=/usr/bin/clang++ $hg c++ -c a.cc; else /usr/bin/clang++ -c a.cc; fi"),
    case("linked compiler", C, "remote", "$hg ./$CX -c a.c").after("ln -s $(command -v $CX) $CX"),
    case("linked compiler of another name", C, "*", "$hg ./mycc -c a.c").after("ln -s $(command -v $CX) mycc"),
    case("linked compiler of another kind", GCC, "*", "$hg ./g++ -c a.c").after("ln -s $(command -v gcc) g++"),
    case("clang called gcc", CLANG, "*", "$hg ./gcc -c a.c -fcolor-diagnostics").after("ln -s /usr/bin/clang gcc"),
    case("gcc called clang", GCC, "*", "$hg ./clang -c a.c -Weverything").after("ln -s /usr/bin/gcc clang"),
    case("script called gcc", GCC, "any", "$hg ./gcc -c a.c").after("printf '#!/bin/sh\\nexec /usr/bin/gcc -DSCRIPT -O2 \"$@\"\\n' >gcc; chmod +x gcc"),
    case("script called gcc in PATH", GCC, "any", "PATH=$PWD/bin:$PATH $cc -c a.c").after("mkdir bin; printf '#!/bin/sh\\necho wrapped >&2\\nexec /usr/bin/gcc \"$@\"\\n' >bin/gcc; chmod +x bin/gcc"),
    case("script that changes its source", GCC, "any", "PATH=$PWD/bin:$PATH $cc -c a.c -o x.o").after("mkdir bin; printf '#!/bin/sh\\nexec /usr/bin/gcc -c sub/b.c -o x.o\\n' >bin/gcc; chmod +x bin/gcc"),
    case("ccache gcc", C, "*", "export CCACHE_DIR=$PWD/../ccache; $hg ccache $CX -c a.c"),
    case("ccache g++ with dependencies", CXX, "*", "export CCACHE_DIR=$PWD/../ccache; $hg ccache $CX -MMD -c a.cc -o x.o"),
    case("ccache by its path", C, "*", "export CCACHE_DIR=$PWD/../ccache; $hg /usr/bin/ccache /usr/bin/$CX -c a.c"),
    case("ccache on a link", C, "*", "export CCACHE_DIR=$PWD/../ccache; echo 'int main(){return 0;}' >m.c; $hg ccache $CX m.c -o m"),
    case("ccache and an error", C, "*", "export CCACHE_DIR=$PWD/../ccache; $hg ccache $CX -c e.c"),
    case("ccache --version", GCC, "not-a-compiler", "$hg ccache --version"),
    case("ccache in PATH", C, "*", "export CCACHE_DIR=$PWD/../ccache; [ -d /usr/lib/ccache ] || exit 0; PATH=/usr/lib/ccache:$PATH $cc -c a.c"),
    case("env in front", C, "not-a-compiler", "$hg env X=1 $CX -c a.c"),
    case("another program", GCC, "not-a-compiler", "$hg echo -c a.c"),
    case("a program that is not there", GCC, "*", "$hg no-such-program -c a.c 2>/dev/null; echo $?"),
    case("a compiler that is not there", GCC, "*", "$hg no-such-gcc -c a.c 2>/dev/null; echo $?"),
    case("hgbuild in front of itself", C, "*", "$hg $hg $CX -c a.c"),
    case("broken settings", C, "config", "HOME=$PWD/../h $cc -c a.c").after("mkdir -p ../h/.hybridgrid; echo 'coordinator = [' >../h/.hybridgrid/config.toml"),
    case("unknown settings", C, "config", "HOME=$PWD/../h $cc -c a.c").after("mkdir -p ../h/.hybridgrid; echo 'nonsense = 1' >../h/.hybridgrid/config.toml"),
    case("settings that are a folder", C, "config", "HOME=$PWD/../h $cc -c a.c").after("mkdir -p ../h/.hybridgrid/config.toml"),
    case("settings in the environment that make no sense", C, "config", "HG_LOCAL_SLOTS=many $cc -c a.c"),
    case("an empty home", C, "*", "HOME= HG_DISABLE=1 $cc -c a.c"),
    case("a home that is no folder", C, "remote", "HOME=/dev/null $cc -c a.c"),
    case("a home that is not writable", C, "remote", "HOME=/proc/1 $cc -c a.c"),
    // Builds.
    case("make", GCC, "remote any remote", "$hg make -s -j1").with(&[("Makefile", MAKEFILE)]).build(),
    case("make by itself chooses -j", GCC, "*", "$hg make -s").with(&[("Makefile", MAKEFILE)]).build(),
    case("make with CC in the environment", C, "*", "CC=/usr/bin/$CX $hg make -s -j1").with(&[("Makefile", MAKEFILE)]).build(),
    case("make with CC on its command line", C, "*", "$hg make -s -j1 CC=$CX").with(&[("Makefile", MAKEFILE)]).build(),
    case("make with CC and options", C, "*", "CC=\"$CX -O2 -DX\" $hg make -s -j1").with(&[("Makefile", MAKEFILE)]).build(),
    case("make that shows its commands", GCC, "*", "$hg make -j1").with(&[("Makefile", MAKEFILE)]).build(),
    case("make with its own rules", GCC, "remote", "$hg make -j1 a.o").build(),
    case("make with its own rules, C++", GXX, "remote", "rm a.c; $hg make -j1 a.o").keeps_names().build(),
    case("make links", GCC, "remote any", "echo 'int main(void) { return 0; }' >m.c; $hg make -j1 m.o m && ./m").build(),
    case("make that fails", GCC, "*", "$hg make -s -j1; echo $?").with(&[("Makefile", "all:\n\tgcc -c e.c\n")]).build(),
    case("make that goes on", GCC, "*", "$hg make -s -j1 -k; echo $?").with(&[("Makefile", "all: a.o e.o i.o\n%.o: %.c\n\tgcc -Iinc -c $< -o $@\n")]).build(),
    case("make without a target", GCC, "*", "$hg make -j1 nothing; echo $?").build(),
    case("make asks for a version", GCC, "*", "$hg make --version").build(),
    case("make -q", GCC, "*", "$hg make -q -j1; echo $?").with(&[("Makefile", MAKEFILE)]).build(),
    case("make calls make", GCC, "*", "$hg make -s -j1 && ls sub").with(&[("Makefile", "all:\n\t$(MAKE) -s -C sub b.o\n")]).build(),
    case("make with a shell in it", GCC, "remote remote", "$hg make -s -j1").with(&[("Makefile", "all:\n\tsh -c 'gcc -c a.c; gcc -c -Iinc i.c'\n")]).build(),
    case("any command", GCC, "remote", "if [ \"$hg\" ]; then $hg -- sh -c 'gcc -c a.c'; else sh -c 'gcc -c a.c'; fi").build(),
    case("any command with an exit code", GCC, "*", "if [ \"$hg\" ]; then $hg -- sh -c 'gcc -c e.c || exit 9'; else sh -c 'gcc -c e.c || exit 9'; fi").build(),
    case("any command that kills itself", GCC, "*", "if [ \"$hg\" ]; then exec $hg -- sh -c 'kill -TERM $$'; else exec sh -c 'kill -TERM $$'; fi").build(),
    case("any command that is not there", GCC, "*", "if [ \"$hg\" ]; then $hg -- no-such-command; else no-such-command; fi 2>/dev/null; echo $?").build(),
    case("make, disabled", GCC, "*", "HG_DISABLE=1 $hg make -s -j1").with(&[("Makefile", MAKEFILE)]).build(),
    case("make, broken settings", GCC, "*", "HOME=$PWD/../h $hg make -s -j1").with(&[("Makefile", MAKEFILE)]).after("mkdir -p ../h/.hybridgrid; echo '[' >../h/.hybridgrid/config.toml").build(),
    case("configure and make", GCC, "*", "if [ \"$hg\" ]; then $hg -- sh ./configure; else sh ./configure; fi && $hg make -s -j1").with(&[
        ("configure", "for c in gcc cc; do if $c --version >/dev/null 2>&1; then CC=$c; break; fi; done\necho 'int main(){return 0;}' >conftest.c\n$CC -o conftest conftest.c && echo works\nif $CC -Werror -Wno-such -c conftest.c 2>/dev/null; then echo has; fi\nrm -f conftest*\necho \"CC = $CC\" >config.mk\n"),
        ("Makefile", "include config.mk\nall: a.o\n"),
    ]).build(),
    case("ninja", GCC, "remote remote", "$hg ninja -j1 >/dev/null; echo $?; rm -f .ninja_log .ninja_deps").with(&[("build.ninja", NINJA)]).build(),
    case("ninja that fails", GCC, "*", "$hg ninja -j1; echo $?; rm -f .ninja_log .ninja_deps").with(&[("build.ninja", "rule cc\n  command = gcc -c $in -o $out\nbuild e.o: cc e.c\n")]).build(),
    case("cmake", GCC, "*", "if [ \"$hg\" ]; then $hg -- cmake -S . -B b >/dev/null; else cmake -S . -B b >/dev/null; fi; $hg cmake --build b >/dev/null; echo $?; find b -name '*.o' | sort; cksum $(find b -name '*.o' | sort); rm -r b").with(&[("CMakeLists.txt", CMAKE)]).build(),
];
