//! What needs a compiler beside it: objects by gcc whose maker's name is another's, and the
//! processor that it takes this machine's for. Not among the unit tests, whose locks the
//! children of this one would hold for a moment.

use hg_proto::compiler::toolchain::Family;
use hgbuild::grid::ident::{last, replace_last};
use hgbuild::invocation::native::{is_asked, named};
use hgbuild::local::compiler::{Command as Line, Found};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const SOURCE: &str = "
    #ident \"mine\"
    static int many[100];
    _Thread_local int own = 3;
    const double table[] __attribute__((aligned(64))) = {1, 2.5, 3};
    __attribute__((section(\".odd\"))) char odd[3] = {1};
    int sum(int n) { for (int i = 0; i < n; i++) many[i % 100] += i; return many[7] + own; }
";

fn object(args: &[&str], comment: &str) -> Vec<u8> {
    static FOLDERS: AtomicU32 = AtomicU32::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let name = format!("hg-ident-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let [text, object] = ["in.s", "out.o"].map(|name| folder.join(name));
    std::fs::write(folder.join("in.c"), SOURCE).unwrap();
    let run = |args: &[&str]| {
        let mut gcc = Command::new("gcc");
        let ran = gcc.args(args).current_dir(&folder).status();
        assert!(ran.unwrap().success());
    };
    // Each in a folder of its own, which is in debug information.
    let same = format!("-ffile-prefix-map={}=.", folder.display());
    run(&[&["-S", "in.c", "-o", "in.s", &same], args].concat());
    let said = std::fs::read_to_string(&text).unwrap();
    let (before, _) = said.split_once("\t.ident\t\"GCC: ").unwrap();
    let (_, after) = said.rsplit_once("\t.ident\t\"GCC: ").unwrap();
    let (_, after) = after.split_once('\n').unwrap();
    let renamed = format!("{before}\t.ident\t\"{comment}\"\n{after}");
    std::fs::write(&text, renamed).unwrap();
    run(&["-c", "in.s", "-o", "out.o"]);
    let object = std::fs::read(object).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    object
}

#[test]
fn another_name_gives_what_the_assembler_makes_of_it() {
    let names = [
        "GCC: (Debian 12.2.0-14) 12.2.0",
        "G",
        "GCC: (Debian 12.2.0-14+deb12u1) 12.2.0",
    ];
    for args in [
        &["-O0"][..],
        &["-O2"],
        &["-O2", "-g"],
        &["-O3", "-ffunction-sections"],
    ] {
        let made = names.map(|name| object(args, name));
        for (from, object) in names.iter().zip(&made) {
            assert_eq!(last(object), Some(from.as_bytes()));
            for (to, wanted) in names.iter().zip(&made) {
                assert!(
                    replace_last(object, to.as_bytes()).as_ref() == Some(wanted),
                    "{args:?}: {from} to {to}"
                );
            }
        }
    }
}

#[test]
fn what_the_rule_does_not_make_is_left_alone() {
    let object = object(&["-O2"], "GCC: one");
    let longer = [&object[..], b"x"].concat();
    // What lies before the table of sections lies there for nothing.
    let mut moved = object.clone();
    let table = u64::from_le_bytes(object[0x28..0x30].try_into().expect("eight bytes"));
    let at = usize::try_from(table).expect("an offset");
    moved.splice(at..at, [0; 8]);
    moved[0x28..0x30].copy_from_slice(&(table + 8).to_le_bytes());
    assert_eq!(last(&moved), Some(&b"GCC: one"[..]));
    for odd in [longer, moved] {
        assert_eq!(replace_last(&odd, b"another"), None);
    }
    assert_eq!(replace_last(&object, b"a\0b"), None);
}

#[test]
fn damage_is_no_object() {
    let object = object(&["-O1"], "GCC: one");
    for end in 0..object.len() {
        assert_eq!(replace_last(&object[..end], b"two"), None);
    }
    for at in 0..object.len().min(2048) {
        let mut odd = object.clone();
        odd[at] ^= 0xff;
        replace_last(&odd, b"two");
        last(&odd);
    }
}

#[test]
fn this_processor_is_named() {
    let driver = std::path::PathBuf::from("/usr/bin/gcc");
    if !driver.exists() {
        return;
    }
    let found = Found {
        command: Line {
            program: driver.clone(),
            arg0: "gcc".into(),
            args: Vec::new(),
            path: None,
            marks: Vec::new(),
        },
        driver,
        wrapped: false,
        args: Vec::new(),
        name: None,
    };
    let words = ["-O2", "-march=native", "-c", "a.c"].map(|word| word.as_bytes().to_vec());
    let told = named(&found, Family::Gcc, &words, None);
    if std::env::consts::ARCH == "x86_64" {
        let named = told.expect("gcc's own words come out the same");
        assert!(!is_asked(&named));
        assert!(named[0].starts_with(b"-march="), "{named:?}");
        assert_eq!(
            named[named.len() - 3..],
            [&words[0], &words[2], &words[3]].map(Clone::clone)
        );
    }
    let debug = [&words[..], &[b"-g".to_vec()]].concat();
    assert_eq!(named(&found, Family::Gcc, &debug, None), None);
}
