//! `-march=native`, `-mcpu=native` and `-mtune=native`: what the compiler here takes them
//! for, in words that mean the same on any machine. The compiler is asked once for each
//! start of the machine; that its own command line comes out the same with those words is
//! checked then, and where it does not the compile stays here.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use hg_proto::boot;
use hg_proto::compiler::memo;
use hg_proto::compiler::toolchain::Family;
use hg_proto::wire::digest::Hasher;

use crate::local::compiler::Found;
use crate::local::process;

/// Answers that are kept before the folder is emptied.
const FILES_MAX: usize = 64;
/// What asks for this machine's own processor. On x86 `-mcpu` is a name of old, of which gcc
/// says so.
const NATIVE: &[&[u8]] = match cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
    true => &[b"-march=native", b"-mtune=native"],
    false => &[b"-march=native", b"-mcpu=native", b"-mtune=native"],
};
/// What every x86-64 processor has, and no option names.
const IMPLIED: [&[u8]; 3] = [b"+64bit", b"+cmov", b"+cx8"];

/// Whether one of `words` asks for this machine's own processor.
pub fn is_asked(words: &[Vec<u8>]) -> bool {
    words.iter().any(|word| NATIVE.contains(&&word[..]))
}

/// `words` with this machine's processor named; `memos` is where answers are kept. `None`: it
/// can't be named so that the same comes out.
pub fn named(
    found: &Found,
    family: Family,
    words: &[Vec<u8>],
    memos: Option<&Path>,
) -> Option<Vec<Vec<u8>>> {
    // gcc writes its options into debug information in an order that no words give.
    if family == Family::Gcc && words.iter().any(|word| records_options(word)) {
        return None;
    }
    let asked: Vec<Vec<u8>> = words
        .iter()
        .filter(|w| w.starts_with(b"-m"))
        .cloned()
        .collect();
    let file = memos.and_then(|memos| Some(memos.join("native").join(key(found, &asked)?)));
    let known = file.as_deref().and_then(memo::recall);
    let expansion = match known {
        Some(known) => known,
        None => {
            let expansion = expand(found, family, &asked).unwrap_or_default().join(&0);
            if let Some(file) = file {
                // Asked again where it is not kept.
                let _ = memo::remember(&file, &expansion, FILES_MAX);
            }
            expansion
        }
    };
    let expansion = expansion.split(|&byte| byte == 0).map(<[u8]>::to_vec);
    let expansion: Vec<Vec<u8>> = expansion.filter(|word| !word.is_empty()).collect();
    (!expansion.is_empty()).then(|| in_place(&expansion, words))
}

/// Whether a word makes gcc write options down.
fn records_options(word: &[u8]) -> bool {
    let debug = word.starts_with(b"-g") && word != b"-g0";
    debug || word.starts_with(b"-frecord-gcc-switches") || word.starts_with(b"-fverbose-asm")
}

/// The words before all others, where the compiler itself puts what it finds.
fn in_place(expansion: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let others = words.iter().filter(|word| !NATIVE.contains(&&word[..]));
    expansion.iter().chain(others).cloned().collect()
}

/// Which processor and compiler an answer is about.
fn key(found: &Found, asked: &[Vec<u8>]) -> Option<String> {
    let stat = std::fs::metadata(&found.driver).ok()?;
    let mut hasher = Hasher::new();
    hasher.field(b"hybridgrid native 2");
    hasher.field(&boot::id()?);
    hasher.field(found.driver.as_os_str().as_bytes());
    for number in [
        stat.dev(),
        stat.ino(),
        stat.size(),
        stat.mtime().cast_unsigned(),
        stat.mtime_nsec().cast_unsigned(),
        stat.ctime().cast_unsigned(),
        stat.ctime_nsec().cast_unsigned(),
    ] {
        hasher.field(&number.to_be_bytes());
    }
    for word in asked {
        hasher.field(word);
    }
    Some(hasher.finish().to_hex()[..24].to_owned())
}

/// What the words of `asked` that say `native` stand for. `None`: no words give the same.
fn expand(found: &Found, family: Family, asked: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let as_typed = Target::of(found, family, asked)?;
    let expansion = as_typed.words(family);
    let explicit = Target::of(found, family, &in_place(&expansion, asked))?;
    as_typed.is_the_same(&explicit).then_some(expansion)
}

/// What a compiler proper is told of the processor.
#[derive(Debug, Default, PartialEq, Eq)]
struct Target {
    /// gcc: options in their order, the last word on each. clang: processor, and what it is
    /// tuned for.
    options: Vec<Vec<u8>>,
    /// gcc: `--param`. clang: features. In no order.
    details: Vec<Vec<u8>>,
}

impl Target {
    fn of(found: &Found, family: Family, asked: &[Vec<u8>]) -> Option<Self> {
        let words = ["-###", "-x", "c", "-S", "/dev/null", "-o", "-"].map(OsString::from);
        let asked = asked.iter().map(|word| OsString::from_vec(word.clone()));
        let command = found.driver_command(asked.chain(words).collect());
        let mut process = process::prepare(&command);
        process.env("LC_ALL", "C").stdin(Stdio::null());
        let told = process.output().ok()?;
        if !told.status.success() {
            return None;
        }
        let lines = told.stderr.split(|&byte| byte == b'\n');
        let proper = match family {
            Family::Gcc => &b"cc1"[..],
            Family::Clang => b"-cc1",
        };
        let is_its = |words: &Vec<Vec<u8>>| match family {
            Family::Gcc => words.first().is_some_and(|word| word.ends_with(proper)),
            Family::Clang => words.get(1).is_some_and(|word| word == proper),
        };
        let words = lines.map(split).find(is_its)?;
        let mut target = Target::default();
        let mut words = words.into_iter().skip(1);
        while let Some(word) = words.next() {
            match (family, &word[..]) {
                (Family::Gcc, b"--param") => target.details.push(words.next()?),
                (Family::Gcc, _) if word.starts_with(b"--param=") => {
                    target.details.push(word[b"--param=".len()..].to_vec());
                }
                (Family::Gcc, _) if word.starts_with(b"-m") => target.options.push(word),
                (Family::Clang, b"-target-feature") => target.details.push(words.next()?),
                (Family::Clang, b"-target-cpu" | b"-tune-cpu" | b"-target-abi") => {
                    target
                        .options
                        .push([&word[..], b" ", &words.next()?[..]].concat());
                }
                _ => {}
            }
        }
        target.details.sort();
        Some(target)
    }

    /// As a user would say it.
    fn words(&self, family: Family) -> Vec<Vec<u8>> {
        match family {
            Family::Gcc => {
                let details = self.details.iter();
                let details = details.map(|detail| [b"--param=", &detail[..]].concat());
                self.options.iter().cloned().chain(details).collect()
            }
            Family::Clang => {
                let processor = self.options.iter().filter_map(|option| {
                    if let Some(name) = option.strip_prefix(b"-tune-cpu ") {
                        return Some([b"-mtune=", name].concat());
                    }
                    let name = option.strip_prefix(b"-target-cpu ")?;
                    let option = match std::env::consts::ARCH {
                        "x86_64" | "x86" => &b"-march="[..],
                        _ => b"-mcpu=",
                    };
                    Some([option, name].concat())
                });
                let named = self.details.iter();
                let named = named.filter(|detail| !IMPLIED.contains(&&detail[..]));
                let features = named.map(|detail| match detail.strip_prefix(b"-") {
                    Some(name) => [b"-mno-", name].concat(),
                    None => [b"-m", &detail[1.min(detail.len())..]].concat(),
                });
                processor.chain(features).collect()
            }
        }
    }

    fn is_the_same(&self, other: &Target) -> bool {
        let details = |target: &Target| {
            let details = target.details.iter();
            let named = details.filter(|detail| !IMPLIED.contains(&&detail[..]));
            let mut named: Vec<Vec<u8>> = named.cloned().collect();
            named.dedup();
            named
        };
        self.options == other.options && details(self) == details(other)
    }
}

/// A line of `-###` as words: `"` quotes, and `\` stands before what is taken as it is.
fn split(line: &[u8]) -> Vec<Vec<u8>> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<Vec<u8>>, false);
    let mut bytes = line.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            b'\\' => word.get_or_insert_default().extend(bytes.next()),
            b' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_they_are_quoted() {
        let line =
            br#" /usr/lib/cc1 -quiet "-march=znver3" -D "A=\"b c\"" --param "l1-cache-size=48" """#;
        let words = split(line);
        let words: Vec<&str> = words
            .iter()
            .map(|w| std::str::from_utf8(w).unwrap())
            .collect();
        let wanted = [
            "/usr/lib/cc1",
            "-quiet",
            "-march=znver3",
            "-D",
            "A=\"b c\"",
            "--param",
            "l1-cache-size=48",
            "",
        ];
        assert_eq!(words, wanted);
    }

    #[test]
    fn what_writes_options_down() {
        for word in ["-g", "-g3", "-ggdb", "-gdwarf-4", "-frecord-gcc-switches"] {
            assert!(records_options(word.as_bytes()), "{word}");
        }
        for word in ["-g0", "-O2", "-fno-common"] {
            assert!(!records_options(word.as_bytes()), "{word}");
        }
    }
}
