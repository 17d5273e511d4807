//! Any command line: the table gives a verdict without panicking, and the
//! worker's allowlist takes what the client sends and nothing that reads or
//! writes elsewhere.

#![no_main]

use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::{self, Dialect};
use libfuzzer_sys::fuzz_target;

const NEVER: [&[u8]; 10] = [
    b"-fplugin",
    b"-specs",
    b"-wrapper",
    b"-B",
    b"@",
    b"-aux-info",
    b"-dumpdir",
    b"-include",
    b"-I",
    b"-MF",
];

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    let dialect = Dialect {
        family: if kind & 1 == 0 {
            Family::Gcc
        } else {
            Family::Clang
        },
        cxx_driver: kind & 2 != 0,
    };
    let words: Vec<Vec<u8>> = match kind & 4 {
        0 => args::split_response_file(bytes),
        _ => bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect(),
    };
    let (input, output): (&[u8], &[u8]) = (b"foo.c", b"out.o");
    if args::check_travelled(dialect, &words, &[input], &[output]).is_ok() {
        for word in &words {
            assert!(
                !NEVER.iter().any(|start| word.starts_with(start)),
                "{words:?}"
            );
        }
    }
    let Ok(compile) = args::parse(dialect, &words) else {
        return;
    };
    let _ = compile.output_path();
    let _ = compile.dependency_path();
    let _ = compile.preprocess_args(dialect, Some(b"/proc/self/fd/3"));
    if compile.travel.is_ok() {
        let input: &[u8] = match compile.source.rsplit(|&byte| byte == b'/').next() {
            // Names of folders, and names that would be options, never leave.
            None | Some(b"" | b"." | b"..") => return,
            Some(name) if name.starts_with(b"-") || name.starts_with(b"@") => return,
            Some(name) => name,
        };
        // As the client names it: never like the input.
        let output: &[u8] = match (compile.assembly, input) {
            (false, b"out.o") => b"out2.o",
            (false, _) => output,
            (true, b"out.s") => b"out2.s",
            (true, _) => b"out.s",
        };
        let sent = compile.travel_args(dialect, input, output);
        let verdict = args::check_travelled(dialect, &sent, &[input], &[output]);
        assert!(verdict.is_ok(), "{words:?} -> {sent:?}: {verdict:?}");
    }
});
