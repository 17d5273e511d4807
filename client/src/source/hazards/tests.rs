//! Texts that are hazards, and texts that are none.

use super::whole_words::CLOCK_MACROS;
use super::*;
use crate::source::lex::decode;
use crate::source::{lex, pieces};

/// As gcc writes it: a system header that pastes and has asm, then the file.
fn gcc(user: &str) -> Vec<u8> {
    format!(
        "# 0 \"a.c\"\n# 0 \"<built-in>\"\n#define __x86_64__ 1\n# 0 \"<command-line>\"\n\
         # 1 \"a.c\"\n# 1 \"/usr/include/sys/cdefs.h\" 1 3 4\n\
         #define __CONCAT(x,y) x ## y\n#define __D 1\n\
         #pragma GCC target(\"avx2\")\nint f(void) __asm__ (\"\" \"g\" __D);\n\
         # 2 \"a.c\" 2\n{user}\n"
    )
    .into_bytes()
}

fn code(user: &str, family: Family) -> Option<&'static str> {
    find(&gcc(user), family).map(|reason| reason.code)
}

#[track_caller]
fn is(expected: Option<&'static str>, users: &[&str]) {
    for user in users {
        for family in [Family::Gcc, Family::Clang] {
            assert_eq!(code(user, family), expected, "{family:?}: {user}");
        }
    }
}

#[test]
fn assembler_files() {
    is(
        Some("asm-file-directive"),
        &[
            r#"asm(".incbin \"x\"");"#,
            r#"asm("\t.include \"x\"");"#,
            r#"__asm__ volatile (".inc" "bin \"x\"");"#,
            "asm(\".inc\" /* c */\n  // d\n \"lude \\\"x\\\"\");",
            r#"asm(".InCbIn \"x\"");"#,
            r#"asm(".\x69ncbin \"x\"");"#,
            r#"asm(".\151nclude \"x\"");"#,
            r#"asm(".\u0069nclude \"x\"");"#,
            "asm(R\"x(.include \"a\")x\");",
            r#"asm(".inc%c0 \"x\"" : : "i"(bin));"#,
            r#"asm(".inc{bin|lude} \"x\"");"#,
            r#"asm(".macro m a\n .inc\\a \"x\"\n.endm\n m bin");"#,
            "#define S(x) #x\n#define I(x) S(.inc##x \"f\")\nasm(I(bin));",
            "#define S(x) \".in\" #x \" \\\"f\\\"\"\nasm(S(clude));",
            "#define A asm\nA(\".inc\" \"lude 'x'\");",
            "#define T \".\\x69nclude 'x'\"\nasm(T);",
            "as\\\nm(\".inc\\\nlude 'x'\");",
            "const char *incbin;",
            "int x __asm__(\"a\\n.include 'b'\");",
            r#"asm(".file 1 \"x.c\"\n.loc 1 1 0");"#,
            r#"asm("\t.loc\t%0 1 0" : : "i"(1));"#,
            "#define LINE(x) #x\nasm(LINE(.loc 1 2 3));",
            "#define LINE \".loc \"\nasm(LINE \"1 2 3\");",
        ],
    );
}

#[test]
fn harmless_assembler() {
    is(
        None,
        &[
            r#"asm volatile ("rdtsc" : "=a"(lo), "=d"(hi));"#,
            r#"asm("lock; incl %0" : "+m"(x)); int bin, in, inc;"#,
            r#"asm("jmp .L%=\n.L%=:"); asm(".p2align 4");"#,
            r#"asm(".quad %c0" : : "i"(1)); int x asm("y");"#,
            "/* the asm of this file */ #define M(x) __asm__(x)\nM(\"nop\");",
            "#define M(x) __asm__(x)\n#if 0 // end.\n#include <a.h>\n#endif\nM(\"nop\");",
            "const char *path = \"see .include\";",
            "#ident \"asm\"",
            "asm(\"nop\"); int at(struct s *s) { return s->a.loc - s->b.file; }",
        ],
    );
}

#[test]
fn time_and_file_macros() {
    is(
        Some("time-macro"),
        &[
            "char *a = __DATE__;",
            "char *a = __TIME__ \" \" __TIMESTAMP__;",
            "char *a = __DA\\\nTE__;",
            "char *a = __DA\\ \nTE__;",
            "char *a = __TI??/\nME__;",
            "char *a = __CONCAT(__DA,TE__);",
            "char *a = __CONCAT(__TIME,STAMP__);",
            "#define W(x) __##x##__\nchar *a = W(DATE);",
            "char *a = __CONCAT(__, TIME__);",
            "char *a = __CONCAT(_, _DATE__);",
        ],
    );
    is(
        Some("base-file-macro"),
        &[
            "char *a = __BASE_FILE__;",
            "int a = __INCLUDE_LEVEL__;",
            "char *a = __CONCAT(__BASE_,FILE__);",
            "#define W(x) __##x##__\nchar *a = W(BASE_FILE);",
        ],
    );
    is(
        None,
        &[
            "char *a = __FILE__; int b = __LINE__; int c = __COUNTER__;",
            "int MY__DATE__, __DATE__S, DATE, TIME, __TIMESIZE;",
            "puts(_(\"DATE\"));",
            "#line 3 \"/usr/include/foo.y\"",
        ],
    );
}

#[test]
fn pragmas() {
    for user in [
        "#pragma GCC target(\"avx2\")",
        "#pragma GCC   optimize (\"O3\")",
        "#  pragma GCC push_options",
        "_Pragma(\"GCC target(\\\"avx2\\\")\")",
        "#define P(x) _Pragma(#x)\nP(GCC target(\"avx2\"))",
        "#define P(x) _Pragma(#x)\n#define T target(\"avx2\")\nP(GCC T)",
        "#pragma GCC \\\n pop_options",
    ] {
        assert_eq!(code(user, Family::Gcc), Some("pragma-target"), "{user}");
        assert_eq!(code(user, Family::Clang), None, "{user}");
    }
    is(
        Some("pragma-file"),
        &[
            "#pragma GCC dependency \"x.h\"",
            "#pragma GCC pch_preprocess \"x.gch\"",
            "#pragma clang __debug dump x",
            "_Pragma(\"clang module import x\")",
        ],
    );
    is(
        Some("pragma-once"),
        &["_Pragma(\"once\")", "#define ONCE _Pragma (\"once\")"],
    );
    is(None, &["#pragma once"]);
    is(
        None,
        &[
            "#pragma pack(1)\n#pragma GCC diagnostic push\n#pragma once",
            "#pragma GCC ivdep\n_Pragma(\"GCC diagnostic ignored \\\"-Wtarget\\\"\")",
            "#define P(x) _Pragma(#x)\nP(GCC unroll 4) int target(int); int y = target(1);",
            "#define P(x) _Pragma(#x)\n#define A __attribute__((target(\"avx2\")))",
        ],
    );
}

#[test]
fn lines_that_still_read() {
    is(
        Some("embed"),
        &["int a[] = {\n#embed \"x\"\n};", "# embed <x>"],
    );
    is(
        Some("module"),
        &[
            "import <x>;",
            "export import y;",
            "module;",
            "export module z;",
            "import :p;",
        ],
    );
    is(
        None,
        &[
            "int embed; int module; int import;",
            "x.module = 1;\nmodule->x = 2;",
        ],
    );
    for user in [
        "#if __COUNTER__ == 0\n#endif",
        "#define N __COUNTER__\n#define M (N + 1)\n#if M\n#endif",
    ] {
        assert_eq!(
            code(user, Family::Clang),
            Some("counter-in-condition"),
            "{user}"
        );
    }
    is(
        None,
        &["#define U(x) x##__COUNTER__\n#if 1\nint a;\n#endif"],
    );
}

#[test]
fn pieces_in_system_headers_do_not_count_but_user_headers_do() {
    let nested = "# 1 \"./u.h\" 1\n#define P __DA\n# 3 \"a.c\" 2";
    assert_eq!(code(nested, Family::Gcc), Some("time-macro"));
    let clang = "# 1 \"/usr/bin/../lib/gcc/x/12/../../../../include/c++/12/a\" 1 3\n\
                 #define P __DA\n# 3 \"a.c\" 2";
    assert_eq!(code(clang, Family::Clang), None);
    let outside = "# 1 \"/usr/include/../local/a\" 1 3\n#define P __DA\n# 3 \"a.c\" 2";
    assert_eq!(code(outside, Family::Clang), Some("time-macro"));
}

#[test]
fn made_up_markers_hide_nothing() {
    for fake in [
        "# 1 \"/usr/include/x.h\"\n#define P __DA",
        "# 1 \"/usr/include/x.h\" 1 3\n#define P __DA",
        "# 9 \"never/entered.c\" 2\n# 1 \"/usr/include/x.h\" 1 3\n#define P __DA",
    ] {
        assert_eq!(code(fake, Family::Gcc), Some("time-macro"), "{fake}");
    }
}

#[test]
fn pragmas_that_gcc_drops() {
    let text = gcc("       \nint a;");
    let lost = |source: &str, openmp| lost_pragma(&text, b"a.c", source.as_bytes(), openmp);
    for source in [
        "#pragma redefine_extname a b\n",
        " # pragma message \"x\"\nint a;\n#pragma pack(1)\n",
        "#pragma pop_macro(\"X\")",
        "#pragma GCC poison x",
        "#pra\\\ngma pop_macro(\"X\")",
    ] {
        assert!(lost(source, false).is_some(), "{source}");
    }
    assert!(lost("#pragma omp parallel for\n", true).is_some());
    assert!(lost("#pragma omp parallel for\n", false).is_none());
    assert!(lost("#pragma once\n#pragma GCC diagnostic push", true).is_none());
}

#[test]
fn pragmas_in_skipped_groups_are_not_dropped() {
    let text = gcc("\n\nint a;");
    let source = b"#pragma once\n#if 0\n#pragma pop_macro(\"X\")\n#pragma message \"m\"\n#endif\n";
    assert_eq!(lost_pragma(&text, b"a.c", source, false), None);
    // The one trace is of `once`; a second one would be of `pop_macro`.
    let text = gcc("       \nint a;");
    assert_eq!(lost_pragma(&text, b"a.c", source, false), None);
    let text = gcc("       \n       \nint a;");
    assert!(lost_pragma(&text, b"a.c", source, false).is_some());
    assert_eq!(lost_pragma(&text, b"b.c", source, false), None);
}

#[test]
fn user_files_are_listed_once() {
    let text =
        gcc("# 1 \"/work//\"\n# 1 \"a.c\"\n# 1 \"./u \\\"q\\\".h\" 1\nint a;\n# 3 \"a.c\" 2");
    assert_eq!(
        user_files(&text),
        [b"a.c".to_vec(), b"./u \"q\".h".to_vec()]
    );
}

#[test]
fn any_bytes_will_do() {
    let seeds: [&[u8]; 12] = [
        b"asm(\"\\x",
        b"\n# 1 \"",
        b"\\",
        b"_Pragma(",
        b"__DA",
        b"R\"(",
        b"/*",
        b"\xff\x00",
        b"\n# 2 \"a\" 2",
        b"import",
        b"_",
        b"\\\n",
    ];
    // Every ordered triple of pieces, and each cut short by one byte.
    for a in seeds {
        for b in seeds {
            for c in seeds {
                let text = [a, b, c].concat();
                for family in [Family::Gcc, Family::Clang] {
                    find(&text, family);
                    find(&text[..text.len() - 1], family);
                }
                user_files(&text);
                lost_pragma(&text, a, &text, true);
            }
        }
    }
}

#[test]
fn real_headers_are_free() {
    let c = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
             #include <math.h>\n#include <pthread.h>\n#include <unistd.h>\n\
             #include <sys/socket.h>\nint main(void) { return 0; }\n";
    let cxx = "#include <iostream>\n#include <regex>\n#include <algorithm>\n\
               #include <thread>\nint main() { return 0; }\n";
    let gcc = ("gcc", "-fdirectives-only", Family::Gcc);
    let clang = ("clang", "-frewrite-includes", Family::Clang);
    for (language, source) in [("c", c), ("c++", cxx)] {
        for (compiler, option, family) in [gcc, clang] {
            let Some(text) = preprocess(compiler, option, language, source) else {
                eprintln!("skipped: no {compiler} for {language} here");
                continue;
            };
            assert!(text.len() > 10_000);
            assert_eq!(find(&text, family), None, "{compiler} {language}");
        }
    }
}

fn preprocess(compiler: &str, option: &str, language: &str, source: &str) -> Option<Vec<u8>> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new(compiler)
        .args(["-E", option, "-x", language, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(source.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// Line by line, as the standard has it.
fn spliced_by_lines(text: &[u8]) -> Vec<u8> {
    let mut spliced = Vec::new();
    let mut lines = text.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
        let end = line.iter().rposition(|byte| !blank(byte));
        let joined = match &line[..end.map_or(0, |at| at + 1)] {
            [kept @ .., b'?', b'?', b'/'] | [kept @ .., b'\\'] => Some(kept),
            _ => None,
        };
        match joined.filter(|_| lines.peek().is_some()) {
            Some(kept) => spliced.extend_from_slice(kept),
            None => {
                spliced.extend_from_slice(line);
                spliced.extend(lines.peek().map(|_| b'\n'));
            }
        }
    }
    spliced
}

/// The same texts each time.
struct Random(u64);

impl Random {
    fn of<'w, W>(&mut self, words: &'w [W]) -> &'w W {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        &words[(self.0 >> 33) as usize % words.len()]
    }

    fn concat(&mut self, words: &[&str], count: usize) -> String {
        (0..count).map(|_| *self.of(words)).collect()
    }
}

#[test]
fn continued_lines_are_joined() {
    let alphabet = b"\\\\\n\n ?/x\t\r\x0c\x0b";
    let mut random = Random(3);
    for round in 0..200_000 {
        let text: Vec<u8> = (0..round % 12).map(|_| *random.of(alphabet)).collect();
        let text = [&text[..], &b"??/\n"[..round % 5]].concat();
        let shown = text.escape_ascii();
        assert_eq!(*splice(&text), spliced_by_lines(&text), "{shown}");
    }
}

/// [`names_file_in`] as it was told before it passed over what has no strings: token by
/// token.
fn names_file_by_tokens(code: &[u8]) -> bool {
    let names = |joined: &[u8]| {
        let lower = joined.to_ascii_lowercase();
        let ends = |at: usize| !lower.get(at + 8).is_some_and(|byte| lex::is_word(*byte));
        memmem::find(&lower, b"incbin").is_some()
            || memmem::find_iter(&lower, b".include").any(ends)
    };
    let (mut joined, mut after_dot) = (Vec::new(), false);
    for token in lex::Tokens::of(code) {
        let before_string = code.get(token.at + token.text.len()) == Some(&b'"');
        let prefix = matches!(token.text, b"L" | b"u" | b"U" | b"u8");
        if token.kind == lex::Kind::Text {
            let body = &token.text[1..];
            decode(body.strip_suffix(b"\"").unwrap_or(body), &mut joined);
            continue;
        }
        if token.text == b"\n" || prefix && before_string {
            continue;
        }
        if names(&joined) || after_dot && token.text.eq_ignore_ascii_case(b"include") {
            return true;
        }
        joined.clear();
        after_dot = token.text == b".";
    }
    names(&joined)
}

#[test]
fn files_are_named_by_strings_beside_each_other() {
    let words = [
        "\"",
        "\"",
        "\".inc\"",
        "\"lude\"",
        "\"bin\"",
        "\"INC\"",
        "'\"'",
        "'",
        "\\",
        "\n",
        " ",
        "\t",
        "L",
        "u8",
        "u",
        "x",
        ".",
        "include",
        "Include ",
        "includes",
        "(",
        "\x0b",
        "\"\\x2e\"",
    ];
    let mut random = Random(5);
    let mut named = 0;
    for round in 0..200_000 {
        let text = random.concat(&words, round % 9);
        let found = super::assembler::names_file_in(text.as_bytes()).is_some();
        assert_eq!(found, names_file_by_tokens(text.as_bytes()), "{text:?}");
        named += u32::from(found);
    }
    assert!(named > 1000, "{named}");
}

#[test]
fn words_of_a_clock_are_found_wherever_they_stand() {
    let words = [
        "T", "TI", "_", "x", "1", " ", "\n", "(", "\"", "ME__", "DATE",
    ];
    let mut random = Random(9);
    let letters = |word: &[u8]| word.iter().all(|byte| b"_DATEIMSP".contains(byte));
    for round in 0..50_000 {
        let text = random.concat(&words, round % 7);
        let words = lex::Tokens::of(text.as_bytes());
        let mut words = words.filter(|token| token.kind == lex::Kind::Word);
        let has = words.any(|word| letters(word.text));
        let pieces = pieces::Pieces::of(&MACROS[..CLOCK_MACROS]);
        assert_eq!(pieces.may_be_in(text.as_bytes()), has, "{text:?}");
    }
}

#[test]
fn pointers_of_which_it_is_said_whether_they_may_be_null() {
    for text in [
        "int *_Nonnull x;",
        "#define N _Null_unspecified",
        "#pragma clang assume_nonnull begin",
        "#define K(a, b) a##b\nint *K(_Null, able) x;",
        "int *__nonnull x;",
    ] {
        assert!(names_nullability(text.as_bytes()), "{text}");
    }
    for text in [
        "void f(int *x) __attribute__((nonnull(1)));",
        "void f(int *x) __nonnull ((1));",
        "#ifndef __nonnull\n#define __nonnull(x)\n#endif",
        "int is_Nonnull;",
    ] {
        assert!(!names_nullability(text.as_bytes()), "{text}");
    }
}

#[test]
fn lines_that_end_in_several_ways() {
    for file in ["a\r\nb\n", "a\nb\r\n", "\r\n\n", "a\rb\n", "a\n\rb", "a\r"] {
        assert!(mixes_newlines(file.as_bytes()), "{file:?}");
    }
    for file in ["", "a", "a\nb\n", "a\r\nb\r\n", "\r\n\r\nb"] {
        assert!(!mixes_newlines(file.as_bytes()), "{file:?}");
    }
}
