//! What an output of a compile looks like at its beginning: a worker can return a wrong
//! object, but not nothing, text, or the object of another machine. Pure.

use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::Compile;

/// Bytes of an output that are looked at; ELF's header is as long.
pub const HEAD_BYTES: usize = 64;

/// Bytes of ELF's header with addresses of 32 and 64 bits.
const ELF_BYTES: [u64; 2] = [52, 64];
/// How LLVM's bitcode begins ("LLVM Bitcode File Format").
const BITCODE: &[u8] = b"BC\xc0\xde";
const WRAPPED_BITCODE: &[u8] = b"\xde\xc0\x17\x0b";
/// In ELF's header (System V ABI): addresses of 64 bits, the low byte first, and a file that
/// is to be linked.
const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE: u8 = 1;
const RELOCATABLE: u16 = 1;

/// What comes of a compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Assembly, or what depends on what.
    Text,
    /// An object.
    Object(Form),
    /// LLVM's, of which code is made later.
    Bitcode,
}

/// A format of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// ELF for one of these machines, if any are known; of this class, if that is.
    Elf {
        /// `e_machine`.
        machines: &'static [u16],
        /// Addresses of 32 or of 64 bits.
        class: Option<u8>,
    },
    /// Apple's.
    MachO,
    /// A format that nobody checks.
    Any,
}

impl Kind {
    /// What `compile` gives with a compiler of `family` that is for `target` where nothing
    /// is said.
    pub fn of(compile: &Compile, family: Family, target: &str) -> Kind {
        if compile.assembly {
            return Kind::Text;
        }
        if family == Family::Clang && (compile.emits_llvm() || compile.defers_code()) {
            return Kind::Bitcode;
        }
        let mut target = target.as_bytes();
        let mut words = compile.arguments.iter().flat_map(|a| &a.words);
        let mut width = None;
        while let Some(word) = words.next() {
            let named = word.strip_prefix(b"--target=");
            if let Some(named) = named.or(word.strip_prefix(b"-target=")) {
                target = named;
            } else if word == b"-target" || word == b"--target" {
                target = words.next().map_or(target, |next| next);
            }
            if matches!(
                &word[..],
                b"-m16" | b"-m32" | b"-m64" | b"-mx32" | b"-miamcu"
            ) {
                width = Some(&word[..]);
            }
        }
        Kind::Object(form(&target.to_ascii_lowercase(), width))
    }

    /// Whether an output of `size` bytes that begins with `head` may be one.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, head: &[u8], size: u64) -> Result<(), &'static str> {
        if size == 0 {
            return Err("an empty output");
        }
        match self {
            Kind::Text => match head.contains(&0) {
                true => Err("no text"),
                false => Ok(()),
            },
            Kind::Object(form) => form.check(head, size),
            // In a wrapper where it is for Apple's linkers.
            Kind::Bitcode => match [BITCODE, WRAPPED_BITCODE]
                .iter()
                .any(|m| head.starts_with(m))
            {
                true => Ok(()),
                false => Err("no bitcode"),
            },
        }
    }
}

/// The format of a target, with the last option about its width.
fn form(target: &[u8], width: Option<&[u8]>) -> Form {
    let has = |name: &[u8]| memchr::memmem::find(target, name).is_some();
    let any = |names: &[&[u8]]| names.iter().any(|name| has(name));
    if any(&[b"apple", b"darwin", b"macos", b"-ios"]) {
        return Form::MachO;
    }
    // Some of these have ELF by name.
    if any(&[
        b"windows", b"win32", b"mingw", b"cygwin", b"msvc", b"uefi", b"-elf", b"macho",
    ]) {
        return Form::Any;
    }
    let arch = target
        .split(|byte| *byte == b'-')
        .next()
        .unwrap_or_default();
    let class = |is_64: bool| Some(if is_64 { CLASS_64 } else { CLASS_32 });
    let intel = |name: &[u8]| matches!(name, [b'i', b'3'..=b'9', b'8', b'6']);
    let (machines, class): (&'static [u16], _) = match arch {
        b"x86_64" | b"amd64" | b"x86" => match width {
            Some(b"-m16" | b"-m32") => (&[3], class(false)),
            Some(b"-miamcu") => (&[3, 6], class(false)),
            Some(b"-mx32") => (&[62], class(false)),
            Some(_) => (&[62], class(true)),
            None => (&[62], class(!has(b"x32"))),
        },
        name if intel(name) => match width {
            Some(b"-m64") => (&[62], class(true)),
            Some(b"-mx32") => (&[62], class(false)),
            _ => (&[3, 6], class(false)),
        },
        name if name.starts_with(b"aarch64") || name.starts_with(b"arm64") => (&[183], None),
        name if name.starts_with(b"arm") || name.starts_with(b"thumb") => (&[40], class(false)),
        name if name.starts_with(b"riscv") => (&[243], None),
        name if name.starts_with(b"powerpc") || name.starts_with(b"ppc") => (&[20, 21], None),
        name if name.starts_with(b"s390") => (&[22], None),
        name if name.starts_with(b"mips") => (&[8], None),
        name if name.starts_with(b"sparc") => (&[2, 18, 43], None),
        name if name.starts_with(b"loongarch") => (&[258], None),
        _ => return Form::Any,
    };
    match any(&[b"linux", b"bsd", b"solaris", b"hurd", b"fuchsia", b"haiku"]) {
        true => Form::Elf { machines, class },
        false => Form::Any,
    }
}

impl Form {
    fn check(&self, head: &[u8], size: u64) -> Result<(), &'static str> {
        let (machines, class) = match self {
            Form::Elf { machines, class } => (*machines, *class),
            Form::MachO => {
                let magics = [&b"\xcf\xfa\xed\xfe"[..], b"\xce\xfa\xed\xfe"];
                return match magics.iter().any(|magic| head.starts_with(magic)) {
                    true => Ok(()),
                    false => Err("no Mach-O object"),
                };
            }
            Form::Any => return Ok(()),
        };
        let [
            0x7f,
            b'E',
            b'L',
            b'F',
            own_class @ (CLASS_32 | CLASS_64),
            order,
            1,
            ..,
        ] = *head
        else {
            return Err("no ELF object");
        };
        let short = size < ELF_BYTES[usize::from(own_class - CLASS_32)];
        let number = |at: usize| {
            let bytes = [*head.get(at)?, *head.get(at + 1)?];
            Some(match order {
                LITTLE => u16::from_le_bytes(bytes),
                _ => u16::from_be_bytes(bytes),
            })
        };
        if short || number(16) != Some(RELOCATABLE) {
            return Err("no ELF object");
        }
        let of_target = number(18).is_some_and(|machine| machines.contains(&machine));
        match of_target && class.is_none_or(|class| class == own_class) {
            true => Ok(()),
            false => Err("an object of another machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hg_proto::options::args::{self, Dialect};

    const LINUX: &str = "x86_64-pc-linux-gnu";

    fn kind(family: Family, line: &str, target: &str) -> Kind {
        let words: Vec<Vec<u8>> = line
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let dialect = Dialect {
            family,
            cxx_driver: false,
        };
        Kind::of(&args::parse(dialect, &words).unwrap(), family, target)
    }

    fn elf(class: u8, machine: u16) -> Vec<u8> {
        let mut head = b"\x7fELF".to_vec();
        head.extend([class, LITTLE, 1]);
        head.resize(16, 0);
        head.extend(RELOCATABLE.to_le_bytes());
        head.extend(machine.to_le_bytes());
        head.resize(HEAD_BYTES, 0);
        head
    }

    #[test]
    fn objects_of_the_target_alone() {
        let (gcc, clang) = (Family::Gcc, Family::Clang);
        for (family, line, target, class, machine) in [
            (gcc, "-c a.c", LINUX, CLASS_64, 62),
            (gcc, "-m32 -c a.c", LINUX, CLASS_32, 3),
            (gcc, "-m32 -m64 -c a.c", LINUX, CLASS_64, 62),
            (gcc, "-mx32 -c a.c", LINUX, CLASS_32, 62),
            (gcc, "-c a.c", "i686-linux-gnu", CLASS_32, 3),
            (gcc, "-c a.c", "arm-linux-gnueabihf", CLASS_32, 40),
            (
                clang,
                "--target=aarch64-linux-gnu -c a.c",
                LINUX,
                CLASS_64,
                183,
            ),
            (
                clang,
                "-target riscv64-linux-gnu -c a.c",
                LINUX,
                CLASS_64,
                243,
            ),
        ] {
            let kind = kind(family, line, target);
            assert_eq!(
                kind.check(&elf(class, machine), 900),
                Ok(()),
                "{line} {target}"
            );
            let other = if machine == 8 { 62 } else { 8 };
            assert!(kind.check(&elf(class, other), 900).is_err(), "{line}");
            assert!(kind.check(&elf(class, machine), 40).is_err(), "{line}");
            let mut linked = elf(class, machine);
            linked[16] = 2;
            for wrong in [&b""[..], b"\x7fELF", b"int x;", &linked] {
                assert!(kind.check(wrong, wrong.len() as u64).is_err(), "{line}");
            }
        }
        let plain = kind(gcc, "-c a.c", LINUX);
        assert!(plain.check(&elf(CLASS_32, 3), 900).is_err());
        assert!(plain.check(&elf(CLASS_32, 62), 900).is_err());
    }

    #[test]
    fn what_is_no_elf() {
        let clang = Family::Clang;
        for line in [
            "-flto -c a.c",
            "-fno-lto -flto=thin -c a.c",
            "-emit-llvm -c a.c",
        ] {
            let later = kind(clang, line, LINUX);
            assert_eq!(later.check(b"BC\xc0\xde\x35\x14", 900), Ok(()), "{line}");
            assert!(later.check(&elf(CLASS_64, 62), 900).is_err(), "{line}");
        }
        for line in ["-flto -fno-lto -c a.c", "-flto -ffat-lto-objects -c a.c"] {
            let now = kind(clang, line, LINUX);
            assert_eq!(now.check(&elf(CLASS_64, 62), 900), Ok(()), "{line}");
        }
        let gcc = kind(Family::Gcc, "-flto -c a.c", LINUX);
        assert_eq!(gcc.check(&elf(CLASS_64, 62), 900), Ok(()));
        let apple = kind(clang, "-c a.c", "arm64-apple-darwin23.1.0");
        assert_eq!(apple.check(b"\xcf\xfa\xed\xfe\x0c\0\0\x01", 900), Ok(()));
        assert!(apple.check(&elf(CLASS_64, 183), 900).is_err());
        let text = kind(clang, "-S a.c", LINUX);
        assert_eq!(text.check(b"\t.text\n", 7), Ok(()));
        assert!(text.check(&elf(CLASS_64, 62), 900).is_err());
        assert!(text.check(b"", 0).is_err());
        let unknown = kind(Family::Gcc, "-c a.c", "avr");
        assert_eq!(unknown.check(b"\x7fELF", 4), Ok(()));
        assert!(unknown.check(b"", 0).is_err());
    }
}
