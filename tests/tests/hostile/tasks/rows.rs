//! The attacks on compilers, one a row.

use super::ground::{Ground, Row};

/// All of them, aimed at what is on `ground`.
pub fn rows(ground: &Ground) -> Vec<Row> {
    let outside = ground.outside().display().to_string();
    let secret = ground.secret().display().to_string();
    let mut rows = Vec::new();
    let mut add = |name, driver, arguments: &[&str]| {
        let aimed = |word: &&str| word.replace("OUTSIDE", &outside).replace("SECRET", &secret);
        rows.push(Row {
            name,
            driver,
            arguments: arguments.iter().map(aimed).collect(),
            source: None,
            in_text: false,
            toothless: false,
        });
    };
    for driver in ["gcc", "g++"] {
        add("a plugin of its own", driver, &["-fplugin=./evil.so"]);
        add(
            "a plugin from outside",
            driver,
            &["-fplugin=OUTSIDE/evil.so"],
        );
        add("-specs=", driver, &["-specs=evil.specs"]);
        add("-specs", driver, &["-specs", "OUTSIDE/evil.specs"]);
        add("--specs=", driver, &["--specs=OUTSIDE/evil.specs"]);
        add("-wrapper", driver, &["-wrapper", "./evil,x"]);
        add(
            "-wrapper outside",
            driver,
            &["-wrapper", "OUTSIDE/bin/as,x"],
        );
        add("-B", driver, &["-B./bin/"]);
        add("-B outside", driver, &["-B", "OUTSIDE/bin"]);
        add("@file", driver, &["@evil.rsp"]);
        add("@file outside", driver, &["@SECRET"]);
        add(
            "-fdump-tree-all=",
            driver,
            &["-fdump-tree-all=OUTSIDE/dump"],
        );
        add(
            "-fdump-rtl-expand=",
            driver,
            &["-O1", "-fdump-rtl-expand=OUTSIDE/dump"],
        );
        add("-dumpdir", driver, &["-save-temps", "-dumpdir", "OUTSIDE/"]);
        add("-o outside", driver, &["-o", "OUTSIDE/object"]);
        add("-MF outside", driver, &["-MD", "-MF", "OUTSIDE/depends"]);
        add("-Wp,-MD", driver, &["-Wp,-MD,OUTSIDE/depends"]);
        add("-Wa,-a=", driver, &["-Wa,-aln=OUTSIDE/listing"]);
        add("-include", driver, &["-include", "SECRET"]);
        add(
            "-isystem",
            driver,
            &["-isystem", "OUTSIDE/usr/include", "-include", "canary.h"],
        );
        add(
            "-fopt-info",
            driver,
            &["-O3", "-fopt-info-all=OUTSIDE/told"],
        );
    }
    add("-aux-info", "gcc", &["-aux-info", "OUTSIDE/prototypes"]);
    add(
        "--sysroot",
        "gcc",
        &["--sysroot=OUTSIDE", "-include", "canary.h"],
    );
    add(
        "-Xclang -load",
        "clang",
        &["-Xclang", "-load", "-Xclang", "./evil.so"],
    );
    add("-fplugin, clang", "clang", &["-fplugin=OUTSIDE/evil.so"]);
    add(
        "-fpass-plugin",
        "clang",
        &["-O1", "-fpass-plugin=./evil.so"],
    );
    add(
        "-B, clang",
        "clang",
        &["-fno-integrated-as", "-BOUTSIDE/bin"],
    );
    add("@file, clang", "clang", &["@evil.rsp"]);
    add("-o outside, clang", "clang", &["-o", "OUTSIDE/object"]);
    add(
        "-MF outside, clang",
        "clang",
        &["-MD", "-MF", "OUTSIDE/depends"],
    );
    add("-include, clang", "clang", &["-include", "SECRET"]);
    add(
        "--sysroot, clang",
        "clang",
        &["--sysroot=OUTSIDE", "-include", "canary.h"],
    );
    add(
        "-serialize-diagnostics",
        "clang",
        &["--serialize-diagnostics", "OUTSIDE/told"],
    );
    add(
        "-dependency-file",
        "clang",
        &[
            "-MD",
            "-Xclang",
            "-dependency-file",
            "-Xclang",
            "OUTSIDE/depends",
        ],
    );
    rows.extend(texts(&secret));
    rows
}

/// Attacks in the source, which no check of arguments sees.
fn texts(secret: &str) -> Vec<Row> {
    let incbin = |directive: &str| format!("__asm__(\"{directive} \\\"{secret}\\\"\\n\");\n");
    let all = [
        ("#include", format!("#include \"{secret}\"\n")),
        (
            "#include of a macro",
            format!("#define AT \"{secret}\"\n#include AT\n"),
        ),
        (
            "the environment",
            "#include \"/proc/self/environ\"\n".to_owned(),
        ),
        (".incbin", incbin(".incbin")),
        (".incbin after a tab", incbin("\\t.incbin")),
        (".INCBIN", incbin(".INCBIN")),
        (".incbin after a label", incbin("here: .incbin")),
        (".incbin after a semicolon", incbin("nop; .incbin")),
        (
            ".incbin in two strings",
            format!("__asm__(\".inc\" \"bin \\\"{secret}\\\"\\n\");\n"),
        ),
        (
            ".incbin by a macro",
            format!("#define A(x) __asm__(x \" \\\"{secret}\\\"\\n\")\nA(\".incbin\");\n"),
        ),
        (
            ".incbin by the assembler's macro",
            format!("__asm__(\".macro m x\\n.inc\\\\x \\\"{secret}\\\"\\n.endm\\nm bin\\n\");\n"),
        ),
        (
            ".incbin in a function",
            format!(
                "void f(void) {{ __asm__ volatile(\".section .rodata\\n.incbin \\\"{secret}\\\"\\n.text\"); }}\n"
            ),
        ),
        (".include", incbin(".include")),
    ];
    let drivers = ["gcc", "clang"];
    let row = |driver| {
        move |(name, source): &(&'static str, String)| Row {
            name,
            driver,
            arguments: Vec::new(),
            source: Some(source.clone()),
            in_text: true,
            toothless: source.contains("/proc/"),
        }
    };
    drivers
        .into_iter()
        .flat_map(|driver| all.iter().map(row(driver)).collect::<Vec<_>>())
        .collect()
}
