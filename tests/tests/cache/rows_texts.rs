//! Source texts that mean more than they show: dates, files named in assembler,
//! directives in disguise, places in a file.

use crate::case::Step::*;
use crate::case::{C, CLANG, CXX, Case, GCC, case};

/// See the top of the file.
pub const CASES: &[Case] = &[
    case(
        "__DATE__",
        C,
        "$cc -O2 -c d.c",
        &[("d.c", "const char *d = __DATE__;\n")],
        &[Bypass, Run("$cc -g -c d.c"), Bypass],
    ),
    case(
        "__TIME__",
        C,
        "$cc -O2 -c d.c",
        &[("d.c", "const char *d = __TIME__;\n")],
        &[Bypass, Bypass],
    )
    .unequal(&["d.o"]),
    case(
        "__TIMESTAMP__",
        C,
        "$cc -O2 -c d.c",
        &[("d.c", "const char *d = __TIMESTAMP__;\n")],
        &[
            Bypass,
            Old("d.c", "const char *d = __TIMESTAMP__;\n"),
            NewBypass,
            Touch("d.c"),
            NewBypass,
        ],
    ),
    case(
        "__TIME__ in a header",
        C,
        "$cc -O2 -c d.c",
        &[
            ("d.c", "#include \"d.h\"\nconst char *d = NOW;\n"),
            ("d.h", "#define NOW __TIME__\n"),
        ],
        &[Bypass],
    )
    .unequal(&["d.o"]),
    case(
        "__TIMESTAMP__ in a header",
        C,
        "$cc -O2 -c d.c",
        &[
            ("d.c", "#include \"d.h\"\nconst char *d = NOW;\n"),
            ("d.h", "#define NOW __TIMESTAMP__\n"),
        ],
        &[
            Bypass,
            Old("d.c", "#include \"d.h\"\nconst char *d = NOW;\n"),
            NewBypass,
        ],
    ),
    case(
        "__TIME__ pasted together",
        C,
        "$cc -O2 -c d.c",
        &[(
            "d.c",
            "#define P(a, b) a##b\nconst char *d = P(__TI, ME__);\n",
        )],
        &[Bypass],
    )
    .unequal(&["d.o"]),
    case(
        "__DATE__ spliced over lines",
        C,
        "$cc -O2 -c d.c",
        &[("d.c", "const char *d = __DA\\\nTE__;\n")],
        &[Bypass],
    ),
    case(
        "__DATE__ spliced with a space after the backslash",
        C,
        "$cc -O2 -w -c d.c",
        &[("d.c", "const char *d = __DA\\ \nTE__;\n")],
        &[Bypass],
    ),
    case(
        "__TIME__ spliced by a trigraph",
        C,
        "$cc -std=c99 -w -O2 -c d.c",
        &[("d.c", "const char *d = __TI??/\nME__;\n")],
        &[Bypass],
    )
    .unequal(&["d.o"]),
    case(
        "__TIME__ by -D",
        C,
        "$cc -O2 -DNOW=__TIME__ -c d.c",
        &[("d.c", "const char *d = NOW;\n")],
        &[Bypass],
    )
    .unequal(&["d.o"]),
    case(
        "__TIME__ by an @file",
        C,
        "$cc @args -c d.c",
        &[
            ("d.c", "const char *d = NOW;\n"),
            ("args", "-O2 -DNOW=__TIME__\n"),
        ],
        &[Bypass],
    )
    .unequal(&["d.o"]),
    case(
        "__TIME__ pasted by a macro of -D",
        C,
        "$cc -O2 '-DP(a,b)=a##b' -c d.c",
        &[("d.c", "const char *d = P(__TI, ME__);\n")],
        &[Bypass],
    )
    .unequal(&["d.o"]),
    case(
        "__TIME__ in a condition's block",
        C,
        "$cc -O2 -c d.c",
        &[(
            "d.c",
            "#ifdef STAMP\nconst char *d = __TIME__;\n#else\nconst char *d = \"\";\n#endif\n",
        )],
        &[Any, Run("$cc -O2 -DSTAMP -c d.c"), Bypass],
    )
    .unequal(&["d.o"]),
    case(
        "__DATE__ in a comment",
        C,
        "$cc -O2 -c d.c",
        &[("d.c", "/* __DATE__ */ int d;\n")],
        &[Any, Any],
    ),
    case(
        "-Wdate-time",
        C,
        "$cc -O2 -Wdate-time -c d.c",
        &[("d.c", "const char *d = __DATE__;\n")],
        &[Bypass],
    ),
    case(
        "-D of __DATE__",
        C,
        "$cc -O2 -w '-D__DATE__=\"today\"' '-D__TIME__=\"now\"' '-D__TIMESTAMP__=\"then\"' -c d.c",
        &[("d.c", "const char *d = __DATE__ __TIME__ __TIMESTAMP__;\n")],
        &[
            Any,
            Any,
            Run(
                "$cc -O2 -w '-D__DATE__=\"later\"' '-D__TIME__=\"now\"' '-D__TIMESTAMP__=\"then\"' -c d.c",
            ),
            NewAny,
        ],
    ),
    case(
        ".incbin",
        C,
        "$cc -O2 -c i.c",
        &[
            ("i.c", "__asm__(\".incbin \\\"data.bin\\\"\");\nint i;\n"),
            ("data.bin", "one"),
        ],
        &[
            Bypass,
            Write("data.bin", "two"),
            NewBypass,
            Stealth("data.bin", "six"),
            NewBypass,
        ],
    ),
    case(
        ".incbin in a header",
        C,
        "$cc -O2 -c i.c",
        &[
            ("i.c", "#include \"i.h\"\nint i;\n"),
            (
                "i.h",
                "__asm__(\".section .rodata\\n\\t.incbin\\t\\\"data.bin\\\"\\n.text\");\n",
            ),
            ("data.bin", "one"),
        ],
        &[Bypass, Write("data.bin", "two"), NewBypass],
    ),
    case(
        ".incbin by a macro",
        C,
        "$cc -O2 -c i.c",
        &[
            (
                "i.c",
                "#define S(x) #x\n#define IN(d, f) __asm__(\".\" S(d) \" \\\"\" f \"\\\"\")\nIN(incbin, \"data.bin\");\nint i;\n",
            ),
            ("data.bin", "one"),
        ],
        &[Bypass, Write("data.bin", "two"), NewBypass],
    ),
    case(
        ".incbin in pieces of a string",
        C,
        "$cc -O2 -c i.c",
        &[
            (
                "i.c",
                "__asm__(\".inc\" \"bin \\\"data\" \".bin\\\"\");\nint i;\n",
            ),
            ("data.bin", "one"),
        ],
        &[Bypass, Write("data.bin", "two"), NewBypass],
    ),
    case(
        ".incbin in escapes",
        C,
        "$cc -O2 -c i.c",
        &[
            (
                "i.c",
                "__asm__(\".\\x69ncbin \\\"data.bin\\\"\");\nint i;\n",
            ),
            ("data.bin", "one"),
        ],
        &[Bypass, Write("data.bin", "two"), NewBypass],
    ),
    case(
        ".incbin in a function, in C++",
        CXX,
        "$cc -O2 -c i.cc",
        &[
            (
                "i.cc",
                "void i() { asm volatile(R\"(.pushsection .rodata\n\t.incbin \"data.bin\"\n.popsection)\"); }\n",
            ),
            ("data.bin", "one"),
        ],
        &[Bypass, Write("data.bin", "two"), NewBypass],
    ),
    case(
        ".incbin by a macro of the assembler",
        C,
        "$cc -O2 -c i.c",
        &[
            (
                "i.c",
                "__asm__(\".macro m a, b\\n.\\\\a\\\\()\\\\b \\\"data.bin\\\"\\n.endm\\nm inc, bin\");\nint i;\n",
            ),
            ("data.bin", "one"),
        ],
        &[Any, Write("data.bin", "two"), NewAny],
    ),
    case(
        ".incbin through -D",
        C,
        "$cc -O2 -DDO=.incbin -c i.c",
        &[
            (
                "i.c",
                "#define S(x) #x\n#define T(x) S(x)\n__asm__(T(DO) \" \\\"data.bin\\\"\");\nint i;\n",
            ),
            ("data.bin", "one"),
        ],
        &[Bypass, Write("data.bin", "two"), NewBypass],
    ),
    case(
        ".include of the assembler",
        C,
        "$cc -O2 -c i.c",
        &[
            ("i.c", "__asm__(\".include \\\"data.inc\\\"\");\nint i;\n"),
            ("data.inc", ".byte 1\n"),
        ],
        &[Bypass, Write("data.inc", ".byte 2\n"), NewBypass],
    ),
    case(
        ".include found by -I",
        GCC,
        "$cc -O2 -Iinc -c i.c",
        &[
            ("i.c", "__asm__(\".include \\\"data.inc\\\"\");\nint i;\n"),
            ("inc/data.inc", ".byte 1\n"),
        ],
        &[Bypass, Write("inc/data.inc", ".byte 2\n"), NewBypass],
    ),
    case(
        "plain assembler statements",
        C,
        "$cc -O2 -c i.c",
        &[(
            "i.c",
            "int i(int a) { __asm__(\"incl %0\" : \"+r\"(a)); return a; }\n",
        )],
        &[
            Any,
            Write(
                "i.c",
                "int i(int a) { __asm__(\"decl %0\" : \"+r\"(a)); return a; }\n",
            ),
            NewAny,
            Any,
        ],
    ),
    case(
        "assembler sources",
        C,
        "$cc -c s.s -o s.o",
        &[
            ("s.s", ".include \"s.inc\"\n"),
            ("s.S", "#include \"s.inc\"\n"),
            ("s.inc", ".byte 1\n"),
        ],
        &[
            Bypass,
            Write("s.inc", ".byte 2\n"),
            NewBypass,
            Run("$cc -c s.S -o s.o"),
            Any,
            Write("s.inc", ".byte 3\n"),
            NewAny,
            Run("$cc -x assembler -c s.s -o s.o"),
            Bypass,
        ],
    ),
    case(
        "preprocessed source",
        C,
        "$cc -O2 -c p.i",
        &[("p.i", "# 1 \"x.c\"\nint p;\n")],
        &[Any, Write("p.i", "# 1 \"x.c\"\nint q;\n"), NewAny, Any],
    ),
    case(
        "comments only",
        C,
        "$cc -O2 -c a.c",
        &[],
        &[
            Hit,
            Write(
                "a.c",
                "#include \"a.h\"\nint f(void) { return A; } /* more */\n",
            ),
            Hit,
            Write("a.h", "#define A 1 // more\n"),
            Hit,
            Write("a.h", "/* before */ #define A 1\n"),
            Hit,
        ],
    ),
    case(
        "lines moved, __LINE__",
        C,
        "$cc -O2 -c l.c",
        &[("l.c", "int l = __LINE__;\n")],
        &[
            Hit,
            Write("l.c", "\nint l = __LINE__;\n"),
            New,
            Write("l.c", "/*\n\n*/int l = __LINE__;\n"),
            New,
        ],
    ),
    case(
        "lines moved, assert",
        C,
        "$cc -O2 -c l.c",
        &[("l.c", "#include <assert.h>\nvoid l(int a) { assert(a); }\n")],
        &[
            Hit,
            Write(
                "l.c",
                "#include <assert.h>\n\nvoid l(int a) { assert(a); }\n",
            ),
            New,
            Write(
                "l.c",
                "#include <assert.h>\n\nvoid l(int a) { assert(a ); }\n",
            ),
            Hit,
            Run("$cc -O2 -DNDEBUG -c l.c"),
            New,
        ],
    ),
    case(
        "white space in a string of a macro",
        C,
        "$cc -O2 -c s.c",
        &[("s.c", "#define S(x) #x\nconst char *s = S(a b);\n")],
        &[
            Hit,
            Write("s.c", "#define S(x) #x\nconst char *s = S(a  b);\n"),
            Hit,
            Write("s.c", "#define S(x) #x\nconst char *s = S(ab);\n"),
            New,
        ],
    ),
    case(
        "columns that a warning shows",
        C,
        "$cc -O2 -Wall -c w.c",
        &[("w.c", "int w(int a) { if (a = 1) return 2; return 3; }\n")],
        &[
            Hit,
            Write("w.c", "int  w(int a) { if (a = 1) return 2; return 3; }\n"),
            New,
        ],
    ),
    case(
        "columns with -g",
        C,
        "$cc -g -O2 -c w.c",
        &[("w.c", "int g(int);\nint w(int a) { return g(a) + 1; }\n")],
        &[
            Hit,
            Write("w.c", "int g(int);\nint w(int a) {    return g(a) + 1; }\n"),
            New,
        ],
    ),
    case(
        "directives in disguise",
        C,
        "$cc -O2 -w -c i.c",
        &[
            (
                "i.c",
                "#inc\\\nlude \"one.h\"\n%:include \"two.h\"\n#/* */ include /* */ \"three.h\"\n# \tinclude\"four.h\"\n??=include \"five.h\"\nint i = ONE + TWO + THREE + FOUR;\n",
            ),
            ("one.h", "#define ONE 1\n"),
            ("two.h", "#define TWO 2\n"),
            ("three.h", "#define THREE 3\n"),
            ("four.h", "#define FOUR 4\n"),
            ("five.h", "\n"),
        ],
        &[
            Run("$cc -std=c99 -O2 -w -c i.c"),
            Hit,
            Write("one.h", "#define ONE 10\n"),
            New,
            Write("two.h", "#define TWO 20\n"),
            New,
            Write("three.h", "#define THREE 30\n"),
            New,
            Write("four.h", "#define FOUR 40\n"),
            New,
            Write("five.h", "#undef ONE\n#define ONE 5\n"),
            New,
        ],
    ),
    case(
        "#import",
        C,
        "$cc -O2 -w -c i.c",
        &[
            ("i.c", "#import \"i.h\"\n#import \"i.h\"\nint i = I;\n"),
            ("i.h", "enum { I = 1 };\n"),
        ],
        &[Hit, Write("i.h", "enum { I = 2 };\n"), New],
    ),
    case(
        "an include in a raw string",
        CXX,
        "$cc -O2 -c r.cc",
        &[("r.cc", "const char *r = R\"(\n#include \"none.h\"\n)\";\n")],
        &[
            Hit,
            Write("none.h", "1"),
            Hit,
            Write("r.cc", "const char *r = R\"(\n#include  \"none.h\"\n)\";\n"),
            New,
        ],
    ),
    case(
        "#line",
        C,
        "$cc -g -O2 -c l.c",
        &[(
            "l.c",
            "#line 7 \"other.c\"\nint l = __LINE__; const char *n = __FILE__;\n",
        )],
        &[
            Hit,
            Write(
                "l.c",
                "#line 8 \"other.c\"\nint l = __LINE__; const char *n = __FILE__;\n",
            ),
            New,
            Write(
                "l.c",
                "#line 8 \"third.c\"\nint l = __LINE__; const char *n = __FILE__;\n",
            ),
            New,
            Write("other.c", "none\n"),
            Write("third.c", "none\n"),
            Hit,
        ],
    ),
    case(
        "a warning in a line that #line moved",
        C,
        "$cc -Wall -O2 -c l.c",
        &[
            (
                "l.c",
                "#line 1 \"other.txt\"\nint l(int a) { if (a = 1) return 2; return 3; }\n",
            ),
            ("other.txt", "the first text\n"),
        ],
        &[
            Any,
            Write("other.txt", "another text\n"),
            Any,
            Any,
            Remove("other.txt"),
            Any,
            Any,
        ],
    ),
    case(
        "CRLF",
        C,
        "$cc -O2 -c c.c",
        &[
            ("c.c", "#include \"c.h\"\r\nint c = C \\\r\n + 1;\r\n"),
            ("c.h", "#define C 1\r\n"),
        ],
        &[
            Hit,
            Write("c.h", "#define C 2\r\n"),
            New,
            Write("c.c", "#include \"c.h\"\nint c = C \\\n + 1;\n"),
            Hit,
            Write("c.h", "#define C 3\n"),
            New,
        ],
    ),
    case(
        "source edited",
        C,
        "$cc -O2 -c s.c",
        &[("s.c", "int s = 1;\n")],
        &[
            Hit,
            Write("s.c", "int s = 2;\n"),
            New,
            Stealth("s.c", "int s = 3;\n"),
            New,
            Old("s.c", "int s = 4;\n"),
            New,
            Old("s.c", "int s = 1;\n"),
            New,
            Touch("s.c"),
            First,
        ],
    ),
    case(
        "source edited in C++",
        CXX,
        "$cc -O2 -c s.cc",
        &[("s.cc", "int s = 1;\n")],
        &[
            Hit,
            Write("s.cc", "int s = 2;\n"),
            New,
            Stealth("s.cc", "int s = 3;\n"),
            New,
            Old("s.cc", "int s = 4;\n"),
            New,
        ],
    ),
    case(
        "source empty",
        C,
        "$cc -O2 -c s.c",
        &[("s.c", "")],
        &[Hit, Write("s.c", "int s;\n"), New, Write("s.c", ""), New],
    ),
    case(
        "source without a newline at its end",
        C,
        "$cc -O2 -c s.c",
        &[("s.c", "int s = 1;")],
        &[Hit, Write("s.c", "int s = 12;"), New],
    ),
    case(
        "source of NUL bytes",
        C,
        "$cc -O2 -w -c s.c",
        &[("s.c", "int s = 1; /* \0 */ \0 int t;\n")],
        &[
            Any,
            Write("s.c", "int s = 2; /* \0 */ \0 int t;\n"),
            NewAny,
            Any,
        ],
    ),
    case(
        "__COUNTER__ and __INCLUDE_LEVEL__",
        C,
        "$cc -O2 -c c.c",
        &[
            ("c.c", "#include \"c.h\"\nint c = __COUNTER__ + C;\n"),
            ("c.h", "enum { C = __COUNTER__ + __INCLUDE_LEVEL__ };\n"),
        ],
        &[
            Hit,
            Write(
                "c.h",
                "enum { C = __COUNTER__ + __COUNTER__ + __INCLUDE_LEVEL__ };\n",
            ),
            New,
        ],
    ),
    case(
        "#pragma GCC dependency",
        GCC,
        "$cc -O2 -c d.c",
        &[
            ("d.c", "#pragma GCC dependency \"d.y\"\nint d;\n"),
            ("d.y", ""),
        ],
        &[
            Any,
            Old("d.c", "#pragma GCC dependency \"d.y\"\nint d;\n"),
            NewAny,
            Any,
            Old("d.y", ""),
            Touch("d.c"),
            NewAny,
            Any,
        ],
    ),
    case(
        "#pragma GCC dependency in a header",
        GCC,
        "$cc -O2 -c d.c",
        &[
            ("d.c", "#include \"d.h\"\nint d;\n"),
            ("d.h", "#pragma GCC dependency \"d.y\"\n"),
            ("d.y", ""),
        ],
        &[
            Old("d.y", ""),
            Any,
            Any,
            Old("d.h", "#pragma GCC dependency \"d.y\"\n"),
            Touch("d.y"),
            NewAny,
            Any,
        ],
    ),
    case(
        "#pragma GCC pch_preprocess and system_header",
        C,
        "$cc -O2 -Wall -c p.c",
        &[
            ("p.c", "#include \"p.h\"\nint p;\n"),
            (
                "p.h",
                "#pragma GCC system_header\nint q(int a) { if (a = 1) return 2; return 3; }\n",
            ),
        ],
        &[
            Hit,
            Write("p.h", "int q(int a) { if (a = 1) return 2; return 3; }\n"),
            New,
        ],
    ),
    case(
        "an #embed that this compiler does not know",
        C,
        "$cc -O2 -c e.c",
        &[
            ("e.c", "const char e[] = {\n#embed \"data.bin\"\n};\n"),
            ("data.bin", "one"),
        ],
        &[Any, Write("data.bin", "two"), Any],
    ),
    case(
        "__has_embed and __has_include_next in a macro's name",
        C,
        "$cc -O2 -c e.c",
        &[(
            "e.c",
            "#ifdef __has_embed\n#if __has_embed(\"data.bin\")\nint e = 1;\n#endif\n#endif\nint x;\n",
        )],
        &[Any, Write("data.bin", "two"), Any],
    ),
    case(
        "#if of a macro from the command line in a header",
        C,
        "$cc -O2 -DV=1 -c v.c",
        &[
            ("v.c", "#include \"v.h\"\nint v = W;\n"),
            (
                "v.h",
                "#if V == 1\n#include \"v1.h\"\n#else\n#include \"v2.h\"\n#endif\n",
            ),
            ("v1.h", "#define W 1\n"),
            ("v2.h", "#define W 2\n"),
        ],
        &[
            Hit,
            Run("$cc -O2 -DV=2 -c v.c"),
            New,
            Write("v1.h", "#define W 3\n"),
            First,
            Run("$cc -O2 -DV=1 -c v.c"),
            New,
        ],
    ),
    case(
        "modules and module maps",
        CLANG,
        "$cc -fmodules -fmodules-cache-path=mods -O2 -c m.c; r=$?; rm -rf mods; exit $r",
        &[
            ("m.c", "#include \"m.h\"\nint m = M;\n"),
            ("m.h", "#define M 1\n"),
            ("module.modulemap", "module M { header \"m.h\" }\n"),
        ],
        &[Any],
    ),
    case(
        "C++20 modules",
        &["g++"],
        "$cc -std=c++20 -fmodules-ts -c m.cc",
        &[("m.cc", "export module m;\nexport int m() { return 1; }\n")],
        &[Before("rm -rf gcm.cache"), Bypass],
    )
    .unequal(&["gcm.cache/m.gcm"]),
    case(
        "a plugin",
        GCC,
        "$cc -fplugin=./none.so -O2 -c a.c",
        &[],
        &[Fails],
    ),
    case(
        "a precompiled header made",
        C,
        "$cc -O2 -x c-header a.h -o a.h.gch",
        &[],
        &[Bypass, Run("$cc -O2 -c a.h"), Bypass],
    )
    .unequal(&["a.h.gch"]),
];
