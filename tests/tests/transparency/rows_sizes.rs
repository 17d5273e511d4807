//! Sources and command lines at the limits.

use crate::case::{ALL, C, CLANG, Case, GCC, case};

/// Large, and cheap to compile.
pub const CASES: &[Case] = &[
    case("a line of 50 MB", GCC, "*", "$cc -c t.c; s=$?; rm t.c; exit $s").after("(printf 'int x;'; head -c 50000000 /dev/zero | tr '\\0' ' '; echo 'int y;') >t.c"),
    case("a source of 100 MB", CLANG, "*", "$cc -c t.c; s=$?; rm t.c; exit $s").after("(echo 'int x;'; yes '// a comment of forty bytes or so, one of' | head -c 100000000; echo; echo 'int y;') >t.c"),
    case("a source of 10 MB", C, "*", "$cc -c t.c; s=$?; rm t.c; exit $s").after("(echo 'int x;'; yes '/* a comment of forty bytes or so, one */' | head -c 10250000; echo 'int y;') >t.c"),
    case("a string of 4 MB", C, "*", "$cc -c t.c; s=$?; rm t.c; exit $s").after("(printf 'const char s[] = \"'; head -c 4000000 /dev/zero | tr '\\0' 'x'; echo '\";') >t.c"),
    case("an object of 20 MB", C, "remote", "$cc -c t.c; cksum t.o; rm t.o").with(&[("t.c", "char x[20000000] = { 1 };\nchar y[20000000];\n")]),
    case("2000 folders of headers", ALL, "*", "$cc $(seq -f '-Id%.0f' 1 2000) -Iinc -c i.c"),
    case("4000 macros", ALL, "*", "$cc $(seq -f '-DM%.0f=1' 1 4000) -c t.c").with(&[("t.c", "int x = M4000;\n")]),
    case("an argument of 120 kB", ALL, "*", "$cc -DX=$(printf %0119000d 7 | tr 0 a) -c t.c 2>&1 | cut -c1-200").with(&[("t.c", "int x;\n")]),
    case("a list of 1 MB", C, "*", "$cc $(seq -f '-DMACRO%.0f=1' 1 55000) -c t.c 2>&1 | cut -c1-200").with(&[("t.c", "int x;\n")]),
    case("a list that is too long", C, "*", "($cc $(seq -f '-DMACRO_NUMBER%.0f=1' 1 120000) -c t.c) >/dev/null 2>&1; echo $?").with(&[("t.c", "int x;\n")]),
    case("@file of 2 MB", C, "*", "seq -f '-DMACRO%.0f=1' 1 120000 >r; $cc @r -c t.c >/dev/null 2>&1; echo $?; rm r").with(&[("t.c", "int x;\n")]),
    case("an environment of 1 MB", C, "*", "for i in $(seq 1 10); do export BIG$i=$(printf %0100000d 7); done; $cc -c a.c"),
    case("a large locale variable", C, "*", "LC_TIME=$(printf %0100000d 7) $cc -c a.c"),
];
